"""The overview's first line: what an operator is told at three in the morning."""

from typing import Any

import pytest

from app.domain import Channel
from app.settings import load_settings
from app.stream_stats import StreamStats
from app.streams import channel_stream
from app.tally import Kind
from tests.unit import ready_made as made
from tests.unit.ready_made import ago, consumer
from tests.unit.test_pages import NO_POSTGRESQL
from web.away import POSTGRESQL, REDIS, Away
from web.backlog_queries import Backlog
from web.cards import cards
from web.counts import Owed, OwedRows
from web.health import Health, Level, Pace, Patience, findings, health
from web.rate_queries import RateRows

LIMITS = Patience(silent_s=30, in_hand_s=180, lost_s=60)
GONE = {"consumers": (consumer(idle_s=48), consumer(idle_s=300))}


def of(streams: dict[str, dict[str, Any]], **owed: Owed) -> Health:
    return judge(made.streams(**streams), made.owed(**owed))


def judge(streams: list[StreamStats] | Away, owed: OwedRows | Away, **known: Any) -> Health:
    return health(streams, owed, findings(streams, owed, LIMITS, **known))


def test_what_is_sent_past_the_streams_is_told() -> None:
    quiet, busy = made.streams(), made.streams(email={"length": 5, "pending": 5})
    assert health(quiet, made.owed(), [], sending=3) == Health(Level.BUSY, "Working: 3 being sent")
    assert health(busy, made.owed(), [], sending=3) == Health(Level.BUSY, "Working: 5 entries in hand, 3 being sent")


CALM: dict[str, tuple[dict[str, dict[str, Any]], Health]] = {
    "nothing to do": ({}, Health(Level.OK, "All caught up")),
    "at work": (
        {"sms": {"length": 8, "pending": 5, "lag": 3, "oldest_s": 0.2, "oldest_unread_s": 0.1}},
        Health(Level.BUSY, "Working: 5 entries in hand, 3 to be read"),
    ),
    "one waits for its retry while new ones arrive": (
        {"sms": {"length": 8, "pending": 5, "lag": 3, "oldest_s": 40, "oldest_unread_s": 0.1}},
        Health(Level.BUSY, "Working: 5 entries in hand, 3 to be read"),
    ),
    "dead letters are only a note": (
        {"dead": {"length": 2, "consumers": (), "group": False}},
        Health(Level.OK, "All caught up", ("2 dead letters on the dead stream: entries that no row explains.",)),
    ),
}
TROUBLE: dict[str, tuple[dict[str, dict[str, Any]], Level, str]] = {
    "too slow": (
        {"sms": {"length": 1204, "lag": 1204, "oldest_s": 40, "oldest_unread_s": 40}},
        Level.WARN,
        "SMS is 40 s behind, 1,204 to be read.",
    ),
    "stuck in hand": (
        {"email": {"length": 1, "pending": 1, "oldest_s": 200}},
        Level.WARN,
        "EMAIL: an entry that was added 3 min 20 s ago is still in hand.",
    ),
    "lag unknown": (
        {"push": {"length": 1, "pending": 2, "lag": None}},
        Level.WARN,
        "PUSH: how much is unread cannot be known, pending entries have lost their content.",
    ),
    "nobody reads one stream": (
        {"sms": {"length": 7, "lag": 7, **GONE}},
        Level.DOWN,
        "SMS: 7 entries wait and no consumer has asked for 48 s.",
    ),
    "nobody is there at all": (
        {name: {"consumers": ()} for name in ("events", "email", "sms", "push")},
        Level.WARN,
        "Every stream: no consumer is connected. Nothing waits yet.",
    ),
}
OFF_STREAM: dict[str, tuple[Owed, str]] = {
    "owed and on no stream": (
        Owed(ago(300), None),
        "SMS: unfinished for 5 min and on no stream; the relay should have put it back.",
    ),
    "parked and overdue": (
        Owed(None, ago(45)),
        "SMS: parked work is overdue by 45 s; the relay should have published it.",
    ),
}


@pytest.mark.parametrize("name", CALM)
def test_calm(name: str) -> None:
    streams, expected = CALM[name]
    assert of(streams) == expected


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble(name: str) -> None:
    streams, level, headline = TROUBLE[name]
    found = of(streams)
    assert (found.level, found.headline) == (level, headline)


@pytest.mark.parametrize("name", OFF_STREAM)
def test_work_that_only_postgresql_knows_of(name: str) -> None:
    owed, headline = OFF_STREAM[name]
    assert of({}, sms=owed).headline == headline
    assert of({}, sms=Owed(ago(50), ago(20))).level < Level.WARN, "not yet remarkable"


@pytest.mark.parametrize(
    ("owed", "level", "headline"),
    [
        (Owed(None, ago(-58)), Level.OK, "All caught up; parked work is due in 58 s"),
        (Owed(None, ago(2)), Level.OK, "All caught up; parked work is due now"),
        (Owed(ago(20), None), Level.BUSY, "The streams are empty, and work in PostgreSQL waits for the relay to put it back"),
        (Owed(ago(1), None), Level.OK, "All caught up"),
    ],
    ids=["parked", "due now", "after a flush", "just published"],
)
def test_empty_streams_are_not_the_whole_truth(owed: Owed, level: Level, headline: str) -> None:
    assert of({}, sms=owed) == Health(level, headline)


def test_the_worst_comes_first_and_the_rest_are_notes() -> None:
    found = of({"email": {"length": 5, "lag": 5, "oldest_s": 20, "oldest_unread_s": 20}, "sms": {"length": 1, "lag": 1, **GONE}})
    assert found.headline.startswith("SMS: 1 entry waits")
    assert found.notes == ("EMAIL is 20 s behind, 5 to be read.",)


def test_redis_away_says_where_the_work_is() -> None:
    found = judge(Away(REDIS, "Redis cannot be reached."), made.owed(email=Owed(ago(75), None)))
    assert found == Health(
        Level.DOWN,
        "Redis cannot be reached. Nothing is lost, work waits in PostgreSQL.",
        ("EMAIL: the oldest has waited 1 min 15 s.",),
    )


def test_both_away() -> None:
    found = judge(Away(REDIS, "Redis cannot be reached."), Away(POSTGRESQL, "PostgreSQL is starting up."))
    assert found.headline.startswith("PostgreSQL is starting up. New events are refused")
    assert found.notes == ("Redis cannot be reached.",)


LATE = {"length": 12, "lag": 12, "oldest_s": 40, "oldest_unread_s": 40}
MAIL = channel_stream(Channel.EMAIL)


@pytest.mark.parametrize(
    ("pace", "headline"),
    [
        (
            Pace(cause="answered 429."),
            "EMAIL is 40 s behind, 12 to be read: attempts fail with “answered 429”.",
        ),
        (Pace(0, 1, 4, 1, "answered 429."), "EMAIL is 40 s behind, 12 to be read: attempts fail with “answered 429”."),
        (Pace(9, 8.0, 12, 2, "answered 429."), "EMAIL is 40 s behind, 12 to be read: 9.0 a second come in, 8.0 are sent."),
        (Pace(12.04, 8.0, 8), "EMAIL is 40 s behind, 12 to be read: 12.0 a second come in, 8.0 are sent."),
        (Pace(2.0, 8.0, 8), "EMAIL is 40 s behind, 12 to be read."),
        (Pace(2.0, 0.0, 0), "EMAIL is 40 s behind, 12 to be read."),
    ],
    ids=["the provider complains", "often enough", "seldom", "too much comes in", "catching up", "nothing is sent"],
)
def test_who_is_late_says_why(pace: Pace, headline: str) -> None:
    assert judge(made.streams(email=LATE), made.owed(), paces={MAIL: pace}).headline == headline


@pytest.mark.parametrize(
    ("pace", "headline"),
    [
        (Pace(tries=20, failing=15, cause="no route."), "EMAIL: 75 % of its attempts fail with “no route”."),
        (Pace(tries=20, failing=15), "EMAIL: 75 % of its attempts fail."),
        (Pace(tries=20, failing=9, cause="no route"), "All caught up"),
        (Pace(tries=9, failing=9, cause="no route"), "All caught up"),
    ],
    ids=["most", "without a word", "some", "few attempts"],
)
def test_attempts_that_mostly_fail_are_remarkable(pace: Pace, headline: str) -> None:
    assert judge(made.streams(), made.owed(), paces={MAIL: pace}).headline == headline


def test_a_finding_names_its_streams() -> None:
    found = findings(made.streams(email=LATE, sms={"length": 1, "lag": 1, **GONE}), made.owed(), LIMITS)
    assert [(f.about, f.short) for f in found] == [((channel_stream(Channel.SMS),), "nobody reads"), ((MAIL,), "40 s behind")]


def test_a_stream_that_nobody_reads_is_told_once() -> None:
    silent = {**LATE, **GONE}
    found = findings(made.streams(email=silent), made.owed(), LIMITS, paces={MAIL: Pace(cause="busy", tries=20, failing=20)})
    assert [f.sentence for f in found] == ["EMAIL: 12 entries wait and no consumer has asked for 48 s."]


def test_a_channel_that_sends_past_its_stream_works() -> None:
    """A call that takes long has its row meanwhile; of one that is over at once only the count tells."""
    counted: dict[tuple[str, str], int] = {(Channel.SMS, Kind.ACCEPTED): 3, (Channel.EMAIL, Kind.SENT): 1}
    seen = made.snapshot(backlog=made.backlog(push=Backlog(in_flight=3)), rates=RateRows(15.0, counted))
    badges = {card.title: card.badge.text for card in cards(load_settings(_env_file=None), seen, [], {})}
    assert badges == {"Events": "idle", "EMAIL": "working", "SMS": "idle", "PUSH": "working"}
    away = made.snapshot(backlog=NO_POSTGRESQL, rates=NO_POSTGRESQL)
    assert {card.badge.text for card in cards(load_settings(_env_file=None), away, [], {})} == {"idle"}
