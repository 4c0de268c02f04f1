"""What happens next to one event, in words: read the expectations, they are the documentation."""

from typing import Any

import pytest

from app.domain import Channel, EventStatus, Status
from app.store.hold import Hold
from tests.unit import ready_made as made
from tests.unit.ready_made import SETTINGS, ago
from tests.unit.test_pages import NO_REDIS
from web.entries import Found, Wanted, wanted_entries
from web.entry_views import entry_note, entry_view
from web.next_steps import next_steps
from web.paused import halted
from web.story import story

NEW = {"status": EventStatus.NEW.value, "decisions": None}


def told(status: Status, pauses: Any = None, **row: Any) -> str:
    [sentence] = next_steps(SETTINGS, made.story_rows(made.event(), [made.notification(status, **row)]), pauses or {})
    return sentence


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (
            {"tries": 1, "due_at": ago(-4)},
            "EMAIL: try 2 of 7 comes in 4.0 s (2026-11-22 03:00:04Z). If it fails for now, the next comes about 30 s later, "
            "and the last, about 2 h 42 min after that, and then it is given up.",
        ),
        (
            {"tries": 4, "due_at": ago(-600), "published_at": None},
            "EMAIL: try 5 of 7 comes in 10 min (2026-11-22 03:10:00Z); until then it is parked in PostgreSQL, and on no stream. "
            "If it fails for now, the next comes about 30 min later, and the last, about 2 h 30 min after that, "
            "and then it is given up.",
        ),
        (
            {"tries": 6, "due_at": ago(3)},
            "EMAIL: try 7 of 7 is due: a consumer takes it from its stream as soon as one has room. "
            "It is the last: if it fails, the notification is given up.",
        ),
        (
            {"tries": 5, "due_at": ago(3), "published_at": None},
            "EMAIL: try 6 of 7 is due: the relay puts it on its stream within 3.0 s. "
            "If it fails for now, the last comes about 2 h later and then it is given up.",
        ),
    ],
    ids=["waits", "parked", "the last", "the relay's"],
)
def test_a_notification_that_waits(row: dict[str, Any], sentence: str) -> None:
    assert told(Status.PENDING, **row) == sentence


def test_a_notification_under_way() -> None:
    hand = {"claimed_at": ago(5), "lease_until": ago(-25), "claimed_by": "c"}
    assert told(Status.PROCESSING, **hand) == (
        "EMAIL: the provider has 20 s left to answer. If it does not, nobody knows whether it was sent, and it is sent again, "
        "marked as a possible duplicate."
    )
    assert told(Status.PROCESSING, channel="SMS", **hand).endswith("and it ends as UNKNOWN, and is not sent again.")
    assert "what came of it is recorded before the hold ends, in 3.0 s" in told(
        Status.PROCESSING, claimed_at=ago(27), lease_until=ago(-3)
    )  # fmt: skip
    assert "its consumer is gone. Whoever meets it next, within about 1 min" in told(
        Status.PROCESSING, claimed_at=ago(70), lease_until=ago(40)
    )  # fmt: skip


def test_a_paused_channel_holds_it_up() -> None:
    sentence = told(Status.PENDING, halted({Channel.EMAIL: [made.pause("answered 401.")]}, {}), due_at=ago(1))
    assert sentence.endswith("But the channel is paused (answered 401): it waits until the provider answers again.")
    held = halted(NO_REDIS, {Channel.EMAIL: Hold("ann", "new server", 60)})
    assert told(Status.PENDING, held).endswith(
        "But the channel is paused by ann: new server: it waits until somebody resumes it."
    )


def test_what_has_ended() -> None:
    assert told(Status.SENT) == "Nothing: all that was to be done is done."
    assert told(Status.FAILED, reason="rejected") == "EMAIL: nothing by itself; a replay would start again from the first try."
    assert "A late answer of the provider would settle it" in told(Status.UNKNOWN, reason="no_answer")
    assert told(Status.CANCELLED, reason="cancelled") == "EMAIL: nothing: it was stopped."


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({}, "A consumer reads it from the events stream"),
        ({"published_at": None, "due_at": ago(-60)}, "The relay puts it on the events stream in 1 min (2026-11-22 03:01:00Z)"),
        ({"published_at": None, "due_at": ago(60)}, "The relay puts it on the events stream within 3.0 s"),
    ],
)
def test_an_event_that_is_not_routed_yet(row: dict[str, Any], sentence: str) -> None:
    first, *more = next_steps(SETTINGS, made.story_rows(made.event(**NEW, **row, expires_at=ago(-120))), {})
    assert first.startswith(sentence)
    assert more == ["What is not sent in 2 min (2026-11-22 03:02:00Z) never will be: it expires then."]


def test_an_event_that_is_sent_at_once() -> None:
    live, mail, sms, _ = story(SETTINGS, made.story_rows(made.claimed())).next
    assert live == (
        "It is being sent at once, and is routed when what came of that is recorded. If that is not done when its hold ends, "
        "in 27 s (2026-11-22 03:00:27Z), its consumer is gone, and another takes over."
    )
    assert mail.startswith("EMAIL: the provider has 22 s left to answer.")
    assert sms.endswith("and it ends as UNKNOWN, and is not sent again.")
    over, mail, sms, _ = story(SETTINGS, made.story_rows(made.claimed(held_s=-20, claimed_at=ago(50)))).next
    assert over.startswith("Its consumer is gone. Whoever meets its entry next, within about 1 min, routes it as it was decided")
    assert mail.endswith("settles it: it is sent again, marked as a possible duplicate.")
    assert sms.endswith("settles it: it ends as UNKNOWN, and is not sent again.")


def test_only_what_is_unfinished_and_published_has_an_entry() -> None:
    rows = made.story_rows(
        made.event(),
        [
            made.notification(Status.SENT, id=1),
            made.notification(Status.PENDING, "SMS", id=2),
            made.notification(Status.PENDING, "PUSH", id=3, published_at=None),
        ],
    )
    assert wanted_entries(rows) == [Wanted("tidings:{0}:sms", 2, ago(99.98))]
    assert wanted_entries(made.story_rows(made.event(**NEW))) == [Wanted("tidings:{0}:events", 7, ago(100))]
    assert wanted_entries(made.story_rows(made.claimed())) == [Wanted("tidings:{0}:events", 7, ago(100))], "until it is routed"
    assert entry_note(rows, 1, "redis-cli") == ""
    assert "redis-cli XRANGE 'tidings:{0}:sms' 1795316298520 1795316306020" in entry_note(rows, 0, "redis-cli")
    assert entry_note(made.story_rows(made.event()), 0, "redis-cli").startswith("None: what is finished is deleted")


def test_an_entry_says_who_has_it_and_how_to_look() -> None:
    found = Found("tidings:{0}:sms", "17-0", (("notification", "2"),), "host-1", 3.2, 2)
    view = entry_view(found, "redis-cli")
    assert view.state == "In the hand of host-1, idle for 3.2 s, 2 deliveries without an answer."
    assert [command.text for command in view.commands] == [
        "redis-cli XRANGE 'tidings:{0}:sms' 17-0 17-0",
        "redis-cli XPENDING 'tidings:{0}:sms' tidings 17-0 17-0 1",
    ]
    assert entry_view(Found("s", "1-0", ()), "redis-cli").state == "Nobody has read it yet."
