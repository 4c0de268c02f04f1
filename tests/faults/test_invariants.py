"""Each invariant finds what it is for: ready-made facts with one thing wrong. Pure."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.settings import load_settings
from tests.faults import invariants
from tests.faults.facts import Attempt, Carried, Event, Facts, Notification
from tests.faults.provider import Call

SETTINGS = load_settings(_env_file=None)
NOON = datetime(2026, 3, 31, 12, tzinfo=UTC)
SENT = Attempt(1, "sent", NOON, NOON, None, False)
UNKNOWN = replace(SENT, outcome="unknown")
CALL = Call("1-0", "EMAIL", 1, "evt-1", 0.0, True)
MAIL = Notification(1, "evt-1", "EMAIL", "SENT", None, None, 1, 1, 0, False, (SENT,), (CALL,))
SMS = replace(MAIL, id=2, channel="SMS", calls=(CALL._replace(key="2-0", channel="SMS"),))
PUSH = replace(MAIL, id=3, channel="PUSH", calls=(CALL._replace(key="3-0", channel="PUSH"),))
EVENT = Event("evt-1", "ann", "ROUTED", None, 3, False, NOON, (MAIL, SMS, PUSH))
STREAM = Carried("tidings:{0}:email", 0, 0, 0, frozenset({"host-7-abc"}))
ACCEPTED = {"evt-1": 0.0}


def facts(*events: Event, streams: tuple[Carried, ...] = (STREAM,), kept: tuple[str, ...] = ()) -> Facts:
    return Facts({e.event_id: e for e in events}, streams, 0, kept, ())


def broken(of: Facts, losses: list[float] | None = None) -> str:
    """Everything that is wrong, in one text."""
    return "\n".join(
        [
            *invariants.every_accepted_event_is_final(of, ACCEPTED),
            *invariants.what_was_sent_is_recorded(of),
            *invariants.doubles_are_explained(of, SETTINGS),
            *invariants.tries_keep_to_the_schedule(of, SETTINGS),
            *invariants.nobody_is_told_too_often(of, SETTINGS, losses or [], slack_s=0),
            *invariants.streams_are_clean(of, {7}),
        ]
    )


def mail(**other: object) -> Facts:
    return facts(replace(EVENT, notifications=(replace(MAIL, **other), SMS, PUSH)))  # type: ignore[arg-type]


def test_all_is_well() -> None:
    assert broken(facts(EVENT)) == ""


TWICE = (CALL, CALL._replace(attempt=2))
AGAIN = replace(SENT, number=2)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (facts(), "evt-1 was answered 202 and has no row"),
        (facts(replace(EVENT, status="NEW")), "evt-1 is NEW"),
        (facts(replace(EVENT, notifications=(MAIL, SMS))), "evt-1 has 2 notifications"),
        (mail(status="PENDING"), "notification 1 is PENDING"),
        (mail(status="FAILED", attempts=(), calls=(), attempt=0), "without an explanation"),
        (mail(calls=()), "is SENT, the provider took 0"),
        (mail(status="FAILED", reason="rejected", error="no"), "is FAILED (rejected), and the provider took it"),
        (mail(attempts=()), "messages of attempts [1], recorded are []"),
        (mail(calls=(CALL, CALL)), "messages of attempts [1, 1]"),
        (mail(calls=(CALL._replace(channel="SMS"),)), "the provider got its key for"),
        (mail(calls=(CALL._replace(event_id="evt-2"),)), "the provider got its key for"),
        (mail(calls=TWICE, attempt=2, attempts=(UNKNOWN, AGAIN)), "taken 2 times, and not marked"),
        (mail(calls=TWICE, attempt=2, attempts=(UNKNOWN, AGAIN), possible_duplicate=True), "an attempt after 1"),
        (
            mail(calls=TWICE, attempt=2, attempts=(replace(SENT, outcome="unavailable"), AGAIN)),
            "recorded are ['unavailable', 'sent']",
        ),
        (mail(status="UNKNOWN", reason="crashed", error="?", attempts=(UNKNOWN,)), "EMAIL is at least once, and UNKNOWN"),
        (mail(tries=8, attempt=8), "8 tries of 7"),
        (facts(EVENT, streams=(replace(STREAM, length=1, lag=0),)), "length 1, lag 0, pending 0"),
        (facts(EVENT, streams=(replace(STREAM, consumers=frozenset({"host-8-abc"})),)), "consumers of processes that are gone"),
        (facts(EVENT, kept=("tidings:{0}:bucket:ann",)), "keys without expiry"),
    ],
)
def test_one_thing_is_wrong(wrong: Facts, says: str) -> None:
    assert says in broken(wrong)


def test_a_second_sms_is_never_right() -> None:
    twice = replace(
        SMS, attempt=2, attempts=(UNKNOWN, replace(AGAIN, possible_duplicate=True)), calls=TWICE, possible_duplicate=True
    )
    assert "SMS is at most once, taken 2 times" in broken(facts(replace(EVENT, notifications=(MAIL, twice, PUSH))))


def test_a_try_before_it_is_due() -> None:
    early = replace(AGAIN, started_at=NOON + timedelta(seconds=3))
    refused = replace(SENT, outcome="unavailable")
    calls = (CALL._replace(taken=False), CALL._replace(attempt=2))
    assert "came 3.000 s after the last" in broken(mail(attempt=2, tries=2, attempts=(refused, early), calls=calls))


def test_a_sixth_event_within_a_minute_unless_data_was_lost() -> None:
    at = [NOON + timedelta(seconds=s) for s in range(6)]
    events = [replace(EVENT, event_id=f"evt-{n}", routed_at=moment) for n, moment in enumerate(at)]
    assert "ann: 6 grants within 5.0 s" in broken(facts(*events))
    assert "grants" not in broken(facts(*events), losses=[at[3].timestamp() - 0.5])


def test_a_message_that_no_row_explains() -> None:
    assert "which no row explains" in broken(replace(facts(EVENT), calls_without_row=(CALL,)))
