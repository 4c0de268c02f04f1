"""The dashboard's stream numbers, held against the raw commands that its page names."""

import shlex
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from app import streams
from app.domain import Channel, Outgoing
from app.resources import open_redis
from app.settings import load_settings
from app.stream_stats import StreamStats, stream_stats
from app.streams import DEAD, EVENTS, GROUP, Entry
from tests.unit.ready_made import NOW

MAIL = streams.channel_stream(Channel.EMAIL)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = open_redis(load_settings(_env_file=None, redis_url=redis_url))
    yield client
    await client.aclose()


async def add(redis: Redis, number: int, stream: str = MAIL) -> None:
    await streams.publish(redis, stream, [Outgoing(n, f"evt-{n}", "ann", "ORDER_PLACED", NOW) for n in range(number)])


async def add_long_ago(redis: Redis, age_ms: int) -> None:
    """An entry whose id says that it was added so long ago. Only before any other."""
    seconds, microseconds = await redis.time()
    await redis.xadd(MAIL, {"notification": 1}, id=f"{seconds * 1000 + microseconds // 1000 - age_ms}-0")


async def stats(redis: Redis, stream: str = MAIL) -> StreamStats:
    return next(s for s in await stream_stats(redis) if s.stream == stream)


async def raw(redis: Redis, command: str) -> Any:
    """What the command says, typed as on the page."""
    client: Any = redis
    return await client.execute_command(*shlex.split(command))


async def test_nothing_there_is_no_error(redis: Redis) -> None:
    told = await stream_stats(redis)
    assert [s.stream for s in told] == [EVENTS, *(streams.channel_stream(c) for c in Channel), DEAD]
    assert all((s.length, s.lag, s.pending, s.oldest_s, s.group, s.consumers) == (0, 0, 0, None, False, ()) for s in told)


async def test_entries_before_the_group_are_all_to_be_read(redis: Redis) -> None:
    await add_long_ago(redis, 40_000)
    await add(redis, 2)
    found = await stats(redis)
    assert (found.length, found.lag, found.pending, found.group) == (3, 3, 0, False)
    assert found.oldest_unread_s is not None
    assert 40 <= found.oldest_unread_s < 50


async def test_the_numbers_are_those_of_the_raw_commands(redis: Redis) -> None:
    await streams.create_group(redis, MAIL)
    await add(redis, 10)
    await streams.read(redis, MAIL, "one", 3, 1)
    second = await streams.read(redis, MAIL, "two", 4, 1)
    await streams.acknowledge(redis, MAIL, [second[0].id])
    found = await stats(redis)
    [group] = await redis.xinfo_groups(MAIL)
    consumers = {c["name"].decode(): c for c in await redis.xinfo_consumers(MAIL, GROUP)}
    assert found.length == await raw(redis, "XLEN 'tidings:{0}:email'") == 9
    assert (found.lag, found.pending) == (group["lag"], group["pending"]) == (3, 6)
    assert (
        {c.name: c.pending for c in found.consumers}
        == {name: c["pending"] for name, c in consumers.items()}
        == {"one": 3, "two": 3}
    )
    for consumer in found.consumers:
        assert 0 <= consumer.idle_s * 1000 <= consumers[consumer.name]["idle"]


async def test_age_is_that_of_the_oldest_entry_by_redis_own_clock(redis: Redis) -> None:
    await streams.create_group(redis, MAIL)
    await add_long_ago(redis, 40_000)
    await streams.read(redis, MAIL, "one", 1, 1)
    await add(redis, 1)
    found = await stats(redis)
    assert found.oldest_s is not None
    assert 40 <= found.oldest_s < 50
    assert found.oldest_unread_s is not None
    assert found.oldest_unread_s < 10, "the old one is in hand, the unread one is new"


async def test_lag_stays_known_after_an_unread_entry_was_deleted(redis: Redis) -> None:
    await streams.create_group(redis, MAIL)
    await add(redis, 5)
    await streams.read(redis, MAIL, "one", 2, 1)
    [(last, _)] = await raw(redis, "XREVRANGE 'tidings:{0}:email' + - COUNT 1")
    await redis.xdel(MAIL, last)
    assert (await redis.xinfo_groups(MAIL))[0]["lag"] is None
    assert (await stats(redis)).lag == 2


async def test_lag_is_unknown_where_pending_entries_were_trimmed_away(redis: Redis) -> None:
    await streams.create_group(redis, MAIL)
    await add(redis, 5)
    taken = await streams.read(redis, MAIL, "one", 4, 1)
    [(last, _)] = await raw(redis, "XREVRANGE 'tidings:{0}:email' + - COUNT 1")
    await redis.xdel(MAIL, last, *(entry.id for entry in taken))
    found = await stats(redis)
    assert (found.length, found.pending, found.oldest_s, found.lag) == (0, 4, None, None)


async def test_dead_letters_are_counted(redis: Redis) -> None:
    await streams.create_group(redis, MAIL)
    await add(redis, 1)
    [entry] = await streams.read(redis, MAIL, "one", 1, 1)
    await streams.bury(redis, MAIL, Entry(entry.id, None, 1, entry.fields), "unreadable")
    assert ((await stats(redis, DEAD)).length, (await stats(redis)).length) == (1, 0)


async def test_it_takes_one_round_trip_or_two_whatever_the_backlog(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    trips = []
    execute = Pipeline.execute

    async def counted(pipe: Any, **options: Any) -> Any:
        trips.append(pipe)
        return await execute(pipe, **options)

    monkeypatch.setattr(Pipeline, "execute", counted)
    await streams.create_group(redis, MAIL)
    await stream_stats(redis)
    assert len(trips) == 1
    await add(redis, 2000)
    await stream_stats(redis)
    assert len(trips) == 3
