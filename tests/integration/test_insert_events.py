"""Storing events in sets: each row gets its own event's values, whatever the others have; ids that are known add nothing."""

import random
from datetime import timedelta
from typing import Any

import pytest

from app.accept import prepare
from app.domain import Channel, Event
from app.resources import Resources
from app.store.events import SEPARATOR, NewEvent, Stored, insert_events
from tests.support import NOON, event

ROW = """
select source, event_id, type, user_id, payload::text, occurred_at, body_hash, channels, send_at, expires_at, due_at, published_at
from event where id = $1
"""


def varied(number: int) -> Event:
    """No two members of two events are the same, and every other one has what may be left out."""
    full: dict[str, Any] = {
        "source": f"/shop,{number}",
        "channels": (Channel.SMS, Channel.PUSH)[: 1 + number % 4 // 2],
        "send_at": NOON + timedelta(days=99_000, seconds=number),
        "expires_at": NOON + timedelta(days=99_001, seconds=number),
    }
    members = {"type": f"T \u00e9,{number}", "user_id": f"user {number}", "payload": {"n": number, "t": "\x1f\n"}}
    return event(f"evt-{number}", **members, occurred_at=NOON + timedelta(microseconds=number), **(full if number % 2 else {}))


@pytest.mark.parametrize("at_a_time", [200, 1])
@pytest.mark.parametrize("plain", [True, False], ids=["nothing optional", "every other with all"])
async def test_each_row_gets_the_values_of_its_own_event(resources: Resources, plain: bool, at_a_time: int) -> None:
    news = [prepare(varied(2 * n if plain else n)) for n in range(200)]
    random.Random(1).shuffle(news)
    known, posted = news[:50], news[20:]
    assert all(stored.row_id for stored in await insert_events(resources.hot, known))
    parts = [posted[start : start + at_a_time] for start in range(0, len(posted), at_a_time)]
    answers = [stored for part in parts for stored in await insert_events(resources.hot, part)]
    for new, stored in zip(posted, answers, strict=True):
        if new in known:
            assert stored == Stored(None, None, new.body_hash)
        else:
            assert await row_of(resources, stored.row_id) == (*expected(new), stored.published_at)
    assert await resources.pool.fetchval("select count(*) from event") == 200


async def row_of(resources: Resources, row_id: int | None) -> tuple[Any, ...]:
    row = await resources.pool.fetchrow(ROW, row_id)
    assert row is not None
    *values, due_at, published_at = row
    assert due_at == (published_at or values[-2]), "due when it was published, or else at sendAt"
    return (*values, published_at)


def expected(new: NewEvent) -> tuple[Any, ...]:
    e = new.event
    channels = None if e.channels is None else [channel.value for channel in e.channels]
    told = (e.source, e.event_id, e.type, e.user_id, new.payload_json, e.occurred_at, new.body_hash)
    return (*told, channels, e.send_at, e.expires_at)


async def test_an_id_that_would_move_values_to_other_rows_is_never_stored(resources: Resources) -> None:
    with pytest.raises(AssertionError):
        await insert_events(resources.hot, [prepare(event(f"a{SEPARATOR}b")), prepare(event("c"))])
    assert await resources.pool.fetchval("select count(*) from event") == 0
