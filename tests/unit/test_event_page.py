"""The story of one event, as the dashboard tells it: read the expectations, they are the documentation."""

import json
from typing import Any

import pytest

from app.domain import EventStatus, Status
from app.models import Attempt, Notification
from tests.unit import ready_made as made
from tests.unit.ready_made import SETTINGS, ago
from web.parts import REFRESH_S
from web.payload import SHOWN, pretty
from web.story import Step, Story, story


def told(status: Status, attempts: list[Attempt] | None = None, **row: Any) -> Story:
    """The page of the usual event whose mail has this status."""
    return story(SETTINGS, made.story_rows(made.event(), [made.notification(status, **row)], attempts))


def lines(steps: tuple[Step, ...]) -> list[str]:
    """Each step in one line: the wait before it, its title, its facts, its error."""
    return [" | ".join(part for part in (step.before, step.title, *step.facts, step.error) if part) for step in steps]


def mail(page: Story) -> list[str]:
    return lines(page.channels[0].steps)


def test_a_mail_sent_at_the_second_try() -> None:
    first = made.attempt(1, "unavailable", started=99.8, took=0.5, error="421 later")
    second = made.attempt(2, "sent", started=94.0, took=0.184, receipt="<42@mail>")
    page = told(Status.SENT, [first, second], attempt=2, tries=2)
    assert page.channels[0].sentence == "sent at try 2, no preference stored"
    assert mail(page) == [
        "180 ms later | Attempt 1: not possible just then | took 500 ms | provider simulated | consumer host-1-ab | 421 later",
        "5.3 s later | Attempt 2: sent | took 184 ms | provider simulated | consumer host-1-ab | receipt <42@mail>",
    ]
    assert page.refresh_s is None, "nothing will change any more"


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"due_at": ago(-12)}, "Next try due in 12 s | put on its stream 1 min ago"),
        ({"due_at": ago(3)}, "Next try has been due for 3.0 s | put on its stream 1 min ago"),
        ({"due_at": ago(-600), "published_at": None}, "Next try due in 10 min | parked: the relay publishes it when due"),
        ({"attempt": 0, "due_at": ago(0)}, "First try has been due for 0 ms | put on its stream 1 min ago"),
    ],
    ids=["waits for a retry", "overdue", "parked", "fresh"],
)
def test_a_notification_that_waits_says_for_what(row: dict[str, Any], line: str) -> None:
    attempts = [] if row.get("attempt") == 0 else [made.attempt(1, "unavailable")]
    page = told(Status.PENDING, attempts, **row)
    assert mail(page)[-1] == line
    assert page.channels[0].sentence == f"to be sent: {line.partition(' | ')[0].lower()}; no preference stored"
    assert page.refresh_s is not None


def test_the_open_attempt_is_the_notification_itself() -> None:
    hand = {"attempt": 2, "claimed_by": "host-9-ff", "claimed_at": ago(3), "lease_until": ago(-27)}
    page = told(Status.PROCESSING, [made.attempt(1, "unavailable", started=99.8, took=0.5)], **hand)
    assert (
        mail(page)[-1] == "1 min 36 s later | Attempt 2: being sent now | for 3.0 s | consumer host-9-ff | held for another 27 s"
    )


def test_an_open_attempt_whose_hold_ended_says_that_its_consumer_is_gone() -> None:
    page = told(Status.PROCESSING, attempt=1, claimed_by="host-9-ff", claimed_at=ago(50), lease_until=ago(20))
    assert "its hold ended 20 s ago: the consumer is gone, the next one to see it decides" in mail(page)[-1]


def test_numbers_without_an_attempt_were_given_back() -> None:
    page = told(Status.SENT, [made.attempt(1, "unavailable"), made.attempt(4, "sent", started=50)], attempt=4, tries=2)
    assert mail(page)[1] == "Attempts 2 to 3: given back, nothing was sent"


def test_an_attempt_that_ended_while_the_row_says_processing_is_told_once() -> None:
    recorded = [made.attempt(1, "unknown")]
    page = told(Status.PROCESSING, recorded, attempt=2, claimed_by="b", claimed_at=ago(1), lease_until=ago(-29))
    assert [line.split(" | ")[1] for line in mail(page)] == [
        "Attempt 1: no answer, it may have been sent",
        "Attempt 2: being sent now",
    ]


@pytest.mark.parametrize(
    ("notification", "sentence", "last"),
    [
        (
            made.notification(Status.FAILED, reason="rejected", error="410 Gone"),
            "failed: the provider refused it for good; no preference stored",
            "Failed: the provider refused it for good | 410 Gone",
        ),
        (
            made.notification(Status.FAILED, reason="out_of_tries", tries=7, attempt=0),
            "failed: gave up after 7 tries; no preference stored",
            "Failed: gave up after 7 tries",
        ),
        (
            made.notification(Status.FAILED, reason="rate_limited", attempt=0),
            "rate limited: more than 5 events in 60 s; no preference stored",
            "Rate limited: more than 5 events in 60 s",
        ),
        (
            made.notification(Status.UNKNOWN, reason="crashed", attempt=0),
            "unknown whether it was sent: the consumer died in mid-send; no preference stored",
            "Unknown whether it was sent: the consumer died in mid-send | replay it, or leave it",
        ),
        (
            made.notification(Status.CANCELLED, reason="cancelled", attempt=0),
            "cancelled: stopped before it was sent; no preference stored",
            "Cancelled: stopped before it was sent",
        ),
    ],
    ids=lambda value: value.reason if isinstance(value, Notification) else "",
)
def test_every_end_has_its_sentence(notification: Notification, sentence: str, last: str) -> None:
    page = story(SETTINGS, made.story_rows(made.event(), [notification]))
    assert page.channels[0].sentence == sentence
    assert mail(page)[-1] == last


def test_an_error_is_not_told_twice() -> None:
    page = told(Status.FAILED, [made.attempt(1, "rejected", error="410 Gone")], reason="rejected", error="410 Gone")
    assert mail(page)[-1] == "Failed: the provider refused it for good"


def test_channels_come_in_their_order_and_unused_ones_say_why() -> None:
    decided = made.decisions(SMS="opted_out", PUSH="not_requested", EMAIL="opted_in")
    page = story(SETTINGS, made.story_rows(made.event(decisions=decided), [made.notification()], [made.attempt()]))
    assert [(c.channel, c.sentence) for c in page.channels] == [
        ("EMAIL", "sent, the user opted in"),
        ("SMS", "not used, the user opted out"),
        ("PUSH", "not used, the event asked for other channels"),
    ]
    assert [c.channel for c in page.tried] == ["EMAIL"]


def test_a_message_sent_directly_has_no_decisions() -> None:
    page = story(SETTINGS, made.story_rows(made.event(decisions=None), [made.notification()], [made.attempt()]))
    assert page.channels[0].sentence == "sent"
    assert lines(page.steps)[1] == "20 ms later | Routed | sent directly: the caller chose the channel"


@pytest.mark.parametrize(
    ("event", "line"),
    [
        ({"published_at": ago(2)}, "To be routed | on the events stream since then"),
        (
            {"published_at": None, "due_at": ago(-9), "send_at": ago(-9)},
            "To be routed | parked until then, as the event asked",
        ),
        ({"published_at": None, "due_at": ago(-9)}, "To be routed | parked until then, put off by the rate limit"),
        ({"published_at": None, "due_at": ago(9)}, "To be routed | due, and parked: the relay publishes it"),
        (
            {"status": EventStatus.FAILED.value, "reason": "expired", "error": "not routed in time"},
            "20 ms later | Failed | it expired before it could be sent | not routed in time",
        ),
    ],
    ids=["published", "later", "put off", "overdue", "failed"],
)
def test_an_event_that_was_not_routed_says_why(event: dict[str, object], line: str) -> None:
    page = story(SETTINGS, made.story_rows(made.event(**{"status": EventStatus.NEW.value, "decisions": None, **event})))
    assert lines(page.steps)[1] == line
    assert page.channels == ()


def test_an_event_that_is_sent_at_once_is_told_as_the_rows_that_it_leads_to() -> None:
    """Its claim is the first attempt on each channel, before any row says so."""
    decided = made.decisions(SMS="opted_out", PUSH="default", EMAIL="opted_in")
    page = story(SETTINGS, made.story_rows(made.claimed(decisions=decided)))
    assert lines(page.steps)[1] == "1 min 37 s later | Being sent at once | consumer host-9-ff | held for another 27 s"
    assert [(c.channel, c.sentence, c.badge and c.badge.text) for c in page.channels] == [
        ("EMAIL", "being sent now, the user opted in", "PROCESSING"),
        ("SMS", "not used, the user opted out", None),
        ("PUSH", "being sent now, no preference stored", "PROCESSING"),
    ]
    assert mail(page) == ["0 ms later | Attempt 1: being sent now | for 3.0 s | consumer host-9-ff | held for another 27 s"]
    assert [name.text for name in page.timeline.names] == ["Event", "EMAIL", "PUSH"]
    assert (page.refresh_s, page.badge.text) == (REFRESH_S, "NEW")


def test_a_claimed_event_whose_hold_ended_says_that_its_consumer_is_gone() -> None:
    page = story(SETTINGS, made.story_rows(made.claimed(held_s=-20)))
    assert lines(page.steps)[1].endswith(
        "consumer host-9-ff | its hold ended 20 s ago: the consumer is gone, the next one to see its entry routes it"
    )
    assert mail(page)[0].endswith("the consumer is gone, the next one to see it decides")


def test_what_was_sent_at_once_reads_in_the_order_in_which_it_happened() -> None:
    sent = made.notification(created_at=ago(99.98), claimed_at=ago(99.98), published_at=None)
    event = made.event(claimed_by="host-1-ab", claimed_at=ago(99.98), lease_until=ago(70))
    page = story(SETTINGS, made.story_rows(event, [sent], [made.attempt(started=99.98, took=0.012)]))
    assert lines(page.steps)[1] == "20 ms later | Routed"
    assert mail(page) == ["0 ms later | Attempt 1: sent | took 12 ms | provider simulated | consumer host-1-ab"]


def test_an_event_that_another_routed_says_who_had_sent_it() -> None:
    lost = made.notification(Status.PROCESSING, created_at=ago(80), claimed_by="gone", claimed_at=ago(80), lease_until=ago(50))
    event = made.event(claimed_by="gone", claimed_at=ago(80), lease_until=ago(50), updated_at=ago(20))
    page = story(SETTINGS, made.story_rows(event, [lost]))
    assert lines(page.steps)[1] == (
        "1 min 20 s later | Routed | sent at once by gone, whose hold ended before it recorded what came of it"
    )
    assert mail(page)[0].startswith(
        "0 ms later | Attempt 1: being sent now | for 1 min 20 s | consumer gone | its hold ended 50 s"
    )


def test_a_payload_is_readable_and_harmless() -> None:
    assert pretty({"a": [1, "ü"]}) == ('{\n  "a": [\n    1,\n    "ü"\n  ]\n}', False)
    assert pretty(json.loads('"\\ud800 \\u202e \\u0000"')) == ('"\\ud800 \\u202e \\u0000"', False)


def test_a_huge_payload_is_cut_before_it_is_written_out() -> None:
    text, cut = pretty([[["x"] * 50_000]])
    assert (len(text), cut) == (SHOWN, True)
