"""The overview's first line: what an operator is told at three in the morning."""

from typing import Any

import pytest

from tests.unit import ready_made as made
from tests.unit.ready_made import ago, consumer
from web.away import POSTGRESQL, REDIS, Away
from web.counts import Owed
from web.health import Health, Level, Patience, health

LIMITS = Patience(silent_s=30, in_hand_s=180, lost_s=60)
GONE = {"consumers": (consumer(idle_s=48), consumer(idle_s=300))}


def of(streams: dict[str, dict[str, Any]], **owed: Owed) -> Health:
    return health(made.streams(**streams), made.owed(**owed), LIMITS)


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
        "sms: oldest entry has waited 40 s, 1,204 to be read.",
    ),
    "stuck in hand": (
        {"email": {"length": 1, "pending": 1, "oldest_s": 200}},
        Level.WARN,
        "email: an entry that was added 3 min 20 s ago is still in hand.",
    ),
    "lag unknown": (
        {"push": {"length": 1, "pending": 2, "lag": None}},
        Level.WARN,
        "push: how much is unread cannot be known, pending entries have lost their content.",
    ),
    "nobody reads one stream": (
        {"sms": {"length": 7, "lag": 7, **GONE}},
        Level.DOWN,
        "sms: 7 entries wait and no consumer has asked for 48 s.",
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
        "sms: unfinished for 5 min and on no stream; the relay should have put it back.",
    ),
    "parked and overdue": (
        Owed(None, ago(45)),
        "sms: parked work is overdue by 45 s; the relay should have published it.",
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
    assert found.headline.startswith("sms: 1 entry waits")
    assert found.notes == ("email: oldest entry has waited 20 s, 5 to be read.",)


def test_redis_away_says_where_the_work_is() -> None:
    found = health(Away(REDIS, "Redis cannot be reached."), made.owed(email=Owed(ago(75), None)), LIMITS)
    assert found == Health(
        Level.DOWN,
        "Redis cannot be reached. Nothing is lost, work waits in PostgreSQL.",
        ("email: the oldest has waited 1 min 15 s.",),
    )


def test_both_away() -> None:
    found = health(Away(REDIS, "Redis cannot be reached."), Away(POSTGRESQL, "PostgreSQL is starting up."), LIMITS)
    assert found.headline.startswith("PostgreSQL is starting up. New events are refused")
    assert found.notes == ("Redis cannot be reached.",)
