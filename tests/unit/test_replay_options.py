"""`tidings replay`: options that fit together, points in time, and what it says before it asks."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.domain import Channel, Reason, Status
from app.replay import Plan
from app.replay_options import SAY_WHAT, Named, ReplayError, read_instant, read_what
from app.replay_words import REASONS, due_words, found_words, plan_words, question
from app.store.replay import COUNT_MAX, Counted, Found, Wanted

NOW = datetime(2026, 3, 31, 12, 0, tzinfo=UTC)
FILTERS = ("status", "channel", "reason", "user", "type", "since", "until", "limit")


def what(*ids: int, event: str | None = None, source: str = "", events: bool = False, **filters: str) -> Named | Wanted:
    return read_what(ids, event, source, events=events, filters={name: filters.get(name) for name in FILTERS}, now=NOW)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"status": "FAILED"}, Wanted()),
        ({"limit": "5"}, Wanted()),
        ({"status": "unknown", "channel": "sms"}, Wanted(Status.UNKNOWN, channel=Channel.SMS)),
        ({"reason": "out_of_tries"}, Wanted(reason=Reason.OUT_OF_TRIES)),
        ({"user": "u", "type": "T"}, Wanted(user_id="u", event_type="T")),
        ({"since": "2h", "until": "30m"}, Wanted(since=NOW - timedelta(hours=2), until=NOW - timedelta(minutes=30))),
        ({"events": True}, Wanted(events=True)),
        ({"event": "evt-1", "source": "shop"}, Named((), "evt-1", "shop")),
    ],
)
def test_options_say_what(given: dict[str, Any], wanted: Named | Wanted) -> None:
    assert what(**given) == wanted


def test_ids_are_notifications() -> None:
    assert what(3, 1) == Named((3, 1))


@pytest.mark.parametrize(
    ("ids", "given", "says"),
    [
        ((), {}, SAY_WHAT),
        ((0,), {}, "notification 0: an id is a number from 1 on"),
        ((2**63,), {}, f"notification {2**63}: an id is a number from 1 on"),
        ((1,), {"event": "e"}, "ids, --event and a filter exclude each other: give one of the three"),
        ((1,), {"limit": "1"}, "ids, --event and a filter exclude each other: give one of the three"),
        ((), {"event": "e", "events": True}, "ids, --event and a filter exclude each other: give one of the three"),
        ((1,), {"source": "s"}, "--source is for --event"),
        ((), {"status": "SENT"}, "option --status: must be one of FAILED, UNKNOWN"),
        ((), {"channel": "FAX"}, "option --channel: must be one of EMAIL, SMS, PUSH"),
        ((), {"user": "a\0b"}, "option --user: must be text that can be printed"),
        ((), {"since": "2026-03-31T10:00:00"}, "option --since: must be a time ago such as 30m, 2h or 7d, or ISO 8601"),
        ((), {"since": "1h", "until": "2h"}, "option --until: must be later than --since"),
        ((), {"events": True, "channel": "SMS"}, "--events are FAILED ones that have no channels yet"),
        ((), {"events": True, "status": "UNKNOWN"}, "--events are FAILED ones that have no channels yet"),
    ],
)
def test_what_does_not_fit_is_one_sentence(ids: tuple[int, ...], given: dict[str, Any], says: str) -> None:
    with pytest.raises(ReplayError) as refused:
        what(*ids, **given)
    assert str(refused.value).startswith(says)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("45s", NOW - timedelta(seconds=45)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-03-31T16:30:00Z", datetime(2026, 3, 31, 16, 30, tzinfo=UTC)),
        ("2026-03-31T16:30:00+02:00", datetime(2026, 3, 31, 14, 30, tzinfo=UTC)),
    ],
)
def test_instants(text: str, instant: datetime) -> None:
    assert read_instant(text, NOW) == instant


@pytest.mark.parametrize(
    "text", ["", "h", "2w", "-1h", "1.5h", "999999d", "today", "0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00"]
)
def test_no_instants(text: str) -> None:
    with pytest.raises(ReplayError):
        what(since=text)


def test_every_reason_to_end_has_words() -> None:
    assert set(REASONS) == set(Reason) - {Reason.CANCELLED}


def test_the_count_in_words() -> None:
    counts = (Counted("EMAIL", "out_of_tries", 1000, 0), Counted("SMS", "rate_limited", 234, 0))
    assert list(plan_words(Plan(Wanted(), NOW, counts))) == [
        "1,234 FAILED notifications match:",
        "      1,000  EMAIL  out_of_tries: every allowed try failed",
        "        234  SMS    rate_limited: over the user's limit then; a replay is not limited again, so they all go out",
    ]


def test_a_doubt_is_said() -> None:
    told = list(plan_words(Plan(Wanted(Status.UNKNOWN), NOW, (Counted("SMS", "crashed", 1, 1),))))
    assert told[0] == "1 UNKNOWN notification matches:"
    assert told[-1] == (
        "1 of them may have been sent before: a person may get it twice, and its record will say so (possible_duplicate)"
    )


def test_nothing_and_too_many() -> None:
    assert list(plan_words(Plan(Wanted(events=True), NOW, ()))) == ["no FAILED event matches"]
    many = Plan(Wanted(), NOW, (Counted("SMS", "crashed", COUNT_MAX + 1, 0),))
    assert next(plan_words(many)) == "more than 100,000 FAILED notifications match; of the first of them:"
    assert question(many, None, 100) == "Replay all of them, at most 100 per second?"
    assert question(many, 5, 0.5) == "Replay the oldest 5, at most 0.5 per second?"


def test_what_was_named_in_words() -> None:
    found = [Found(1, "SMS", "UNKNOWN", "crashed"), Found(2, "SMS", "SENT", None), Found(3, None, "ROUTED", None)]
    assert list(found_words(found, [1, 2, 9])) == [
        "notification 1, SMS: UNKNOWN; crashed: the consumer died in mid-send",
        "notification 2, SMS: SENT; only FAILED and UNKNOWN ones can be replayed",
        "event: ROUTED; only FAILED ones can be replayed",
        "notification 9: there is none",
        "UNKNOWN means that it may have been sent: a person may get it twice, and its record will say so (possible_duplicate)",
    ]


@pytest.mark.parametrize(("seconds", "words"), [(0.5, "due now"), (90, "in 90 s,"), (600, "in 10 min,"), (36_000, "in 10 h,")])
def test_when_the_last_is_due(seconds: float, words: str) -> None:
    assert words in due_words(NOW + timedelta(seconds=seconds), NOW)
