"""Streams, held against the raw commands: an entry is read, acknowledged, put back, taken back, or buried, and never lost."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from app import streams
from app.domain import Channel, Outgoing
from app.resources import open_reader, open_redis
from app.settings import load_settings
from app.streams import DEAD, EVENTS, GROUP, Entry, Head

Wait = Callable[..., Awaitable[Any]]
NOON = datetime(2026, 3, 31, 12, 0, tzinfo=UTC)
WINDOW_S = 0.2
MAIL = streams.channel_stream(Channel.EMAIL)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """The client that consumers use, and the group of the events stream."""
    client = open_redis(load_settings(_env_file=None, redis_url=redis_url))
    await streams.create_group(client, EVENTS)
    yield client
    await client.aclose()


def row(row_id: int, published_at: datetime = NOON) -> Outgoing:
    return Outgoing(row_id, f"e-{row_id}", "ann", "ORDER_PLACED", published_at)


@pytest.mark.parametrize("case", [None, 0, 80])
async def test_one_row_makes_the_same_entry_as_many(redis: Redis, case: int | None) -> None:
    one, other = [row(n)._replace(case=case) for n in (7, 8)]
    await streams.publish(redis, EVENTS, [one])
    await streams.publish(redis, EVENTS, [one, other])
    entries = await read(redis)
    told = () if case is None else (b"case", b"%d" % case)
    assert entries[0].fields == entries[1].fields
    assert entries[0].fields[:6] == (b"event", b"7", b"event_id", b"e-7", b"user_id", b"ann")
    assert entries[0].fields[10:] == told
    assert [streams.told_case(entry) for entry in entries] == [None if case is None else ("ann", case)] * 3


async def test_a_case_that_nobody_can_read_is_none(redis: Redis) -> None:
    """Entries by hand, or of another version."""
    told = {"event": 7, "event_id": "e", "user_id": "ann", "event_type": "T", "published_at": "now"}
    for fields in (
        {**told, "case": "-1"}, {**told, "case": "1e3"}, {**told, "case": ""}, {**told, "case": "9" * 7}, {"event": 7, "case": 1},
        {**told, "other": 1}, {**told, "other": 1, "case": 1}, {"event": 7},
    ):  # fmt: skip
        await add_raw(redis, fields)
    entries = await read(redis)
    assert [streams.told_case(entry) for entry in entries] == [None] * 8
    await add_raw(redis, {**told, "case": "9999", "user_id": b"\xff"})
    assert streams.told_case((await read(redis))[0]) == ("\ufffd", 9999)


async def publish(redis: Redis, *row_ids: int) -> None:
    await streams.publish(redis, EVENTS, [row(row_id) for row_id in row_ids])


async def read(redis: Redis, consumer: str = "me", count: int = 100) -> list[Entry]:
    return await streams.read(redis, EVENTS, consumer, count, None)


async def add_raw(redis: Any, fields: dict[Any, Any]) -> bytes:
    entry_id: bytes = await redis.xadd(EVENTS, fields)
    return entry_id


async def carried(redis: Any, stream: str = EVENTS) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of a stream, as they are."""
    entries: list[tuple[bytes, dict[bytes, bytes]]] = await redis.xrange(stream)
    return entries


async def pending(redis: Any) -> list[tuple[bytes, str, int]]:
    """(id, consumer, delivery count) of all that is pending."""
    rows = await redis.xpending_range(EVENTS, GROUP, "-", "+", 1000)
    return [(r["message_id"], r["consumer"].decode(), r["times_delivered"]) for r in rows]


async def take(redis: Redis, consumer: str = "other", min_idle_s: float = WINDOW_S, count: int = 100) -> list[Entry]:
    """One whole circle of reclaim."""
    taken: list[Entry] = []
    cursor = b"0-0"
    while True:
        step = await streams.reclaim(redis, EVENTS, consumer, min_idle_s, cursor, count)
        taken += step.entries
        cursor = step.cursor
        if cursor == b"0-0":
            return taken


def rows_of(entries: list[Entry]) -> list[int | None]:
    return [entry.row_id for entry in entries]


# ---- publish and read


async def test_an_entry_is_flat_and_readable(redis: Redis) -> None:
    await streams.publish(redis, EVENTS, [row(7)])
    await streams.publish(redis, MAIL, [row(8)])
    ((_, events),) = await carried(redis)
    assert events == {
        b"event": b"7",
        b"event_id": b"e-7",
        b"user_id": b"ann",
        b"event_type": b"ORDER_PLACED",
        b"published_at": b"2026-03-31T12:00:00+00:00",
    }
    ((_, mail),) = await carried(redis, MAIL)
    assert mail[b"notification"] == b"8"


async def test_many_rows_become_entries_in_their_order(redis: Redis) -> None:
    await publish(redis, *range(1, 1203))
    assert rows_of(await read(redis, count=2000)) == list(range(1, 1203))


async def test_a_script_that_the_server_forgot_is_sent_again(redis: Redis) -> None:
    await publish(redis, 1)
    await redis.script_flush()
    await publish(redis, 2)
    assert await redis.xlen(EVENTS) == 2


async def test_each_entry_is_read_by_one_consumer_once(redis: Redis) -> None:
    await publish(redis, 1, 2, 3)
    assert rows_of(await read(redis, "me", 2)) == [1, 2]
    assert rows_of(await read(redis, "other", 2)) == [3]
    assert await read(redis) == []
    assert [(consumer, count) for _, consumer, count in await pending(redis)] == [("me", 1), ("me", 1), ("other", 1)]


async def test_a_blocking_read_ends_with_the_first_entry(redis: Redis, redis_url: str, wait_until: Wait) -> None:
    async with open_reader(load_settings(_env_file=None, redis_url=redis_url)) as reader:
        reading = asyncio.create_task(streams.read(reader, EVENTS, "me", 10, 400))
        await wait_until(lambda: blocked(redis))
        await publish(redis, 1)
        assert rows_of(await reading) == [1]


async def test_a_blocking_read_of_nothing_answers_nothing(redis: Redis) -> None:
    assert await streams.read(redis, EVENTS, "me", 10, 1) == []


async def blocked(redis: Redis) -> int:
    clients: int = (await redis.info("clients"))["blocked_clients"]
    return clients


async def test_what_was_added_before_the_group_existed_is_read_too(redis: Redis) -> None:
    await redis.flushall()
    await publish(redis, 1)
    await streams.create_group(redis, EVENTS)
    await streams.create_group(redis, EVENTS)
    assert rows_of(await read(redis)) == [1]


@pytest.mark.parametrize(
    "fields",
    [
        {b"\xff\x00": b"\xfe"},
        {"event": b"\xff"},
        {"event": ""},
        {"event": "-7"},
        {"event": "7.0"},
        {"event": "\u0667"},
        {"event": "9" * 19},
        {"notification": "7"},
    ],
    ids=repr,
)
async def test_an_entry_that_cannot_be_read_has_no_row(redis: Redis, fields: dict[Any, Any]) -> None:
    await add_raw(redis, fields)
    (entry,) = await read(redis)
    assert entry.row_id is None
    (again,) = await take(redis, min_idle_s=0)
    assert (again.row_id, again.fields) == (None, entry.fields)


# ---- acknowledge


async def test_what_is_acknowledged_is_neither_pending_nor_there(redis: Redis) -> None:
    await publish(redis, 1, 2, 3)
    first, second, third = await read(redis)
    await streams.acknowledge(redis, EVENTS, [first.id, third.id])
    assert await pending(redis) == [(second.id, "me", 1)]
    assert [entry_id for entry_id, _ in await carried(redis)] == [second.id]


async def test_several_streams_share_one_call_and_each_gets_its_own(redis: Redis) -> None:
    push = streams.channel_stream(Channel.PUSH)
    await streams.publish_all(redis, {MAIL: [row(n) for n in range(600)], push: [row(7)]})
    for stream, rows in ((MAIL, [*range(600)]), (push, [7])):
        await streams.create_group(redis, stream)
        entries = await streams.read(redis, stream, "me", 1000, None)
        assert [e.row_id for e in entries] == rows
        assert entries[0].fields[2:] == (
            b"event_id", f"e-{rows[0]}".encode(), b"user_id", b"ann", b"event_type", b"ORDER_PLACED",
            b"published_at", NOON.isoformat().encode(),
        )  # fmt: skip
    ids = {stream: [entry_id for entry_id, _ in await carried(redis, stream)] for stream in (MAIL, push)}
    await streams.acknowledge_all(redis, [(MAIL, ids[MAIL][1:]), (push, ids[push])])
    assert [[entry_id for entry_id, _ in await carried(redis, stream)] for stream in (MAIL, push)] == [ids[MAIL][:1], []]


async def test_a_stream_that_takes_nothing_holds_up_no_other(redis: Redis) -> None:
    push = streams.channel_stream(Channel.PUSH)
    await redis.set(MAIL, "no stream")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await streams.publish_all(redis, {MAIL: [row(6)], push: [row(7), row(8)]})
    assert [fields[b"notification"] for _, fields in await carried(redis, push)] == [b"7", b"8"]
    await redis.delete(MAIL)


# ---- reclaim and put back


async def test_only_what_was_silent_for_the_window_is_taken_back(redis: Redis, wait_until: Wait) -> None:
    await publish(redis, 1)
    (mine,) = await read(redis, "gone")
    assert await take(redis, min_idle_s=30) == []
    (taken,) = await wait_until(lambda: take(redis))
    assert (taken.id, taken.row_id, taken.deliveries, taken.fields) == (mine.id, 1, 2, mine.fields)
    assert await pending(redis) == [(mine.id, "other", 2)]


async def test_deliveries_in_silence_are_counted(redis: Redis) -> None:
    await publish(redis, 1)
    await read(redis, "gone")
    assert [(await take(redis, min_idle_s=0))[0].deliveries for _ in range(3)] == [2, 3, 4]


async def test_an_entry_that_is_put_back_returns_when_it_is_due(redis: Redis, wait_until: Wait) -> None:
    """Idle time is the retry timer: the window less the wait."""
    await publish(redis, 1, 2)
    soon, late = await read(redis)
    began = time.monotonic()
    await streams.put_back(redis, EVENTS, "me", [(soon.id, WINDOW_S - 0.05, 0), (late.id, WINDOW_S - 0.15, 0)])
    came: dict[bytes, float] = {}
    while len(came) < 2:
        for entry in await wait_until(lambda: take(redis)):
            came[entry.id] = time.monotonic() - began
    assert came[soon.id] >= 0.049
    assert came[late.id] >= 0.149


async def test_the_delivery_count_is_what_put_back_says(redis: Redis) -> None:
    """0 after a handled end, one less where the delivery shall not count."""
    await publish(redis, 1, 2)
    first, second = await read(redis)
    await streams.put_back(redis, EVENTS, "me", [(first.id, WINDOW_S, 0), (second.id, WINDOW_S, 4)])
    assert [entry.deliveries for entry in await take(redis)] == [1, 5]


async def test_an_entry_that_was_acknowledged_meanwhile_is_not_put_back(redis: Redis) -> None:
    await publish(redis, 1)
    (mine,) = await read(redis)
    await streams.acknowledge(redis, EVENTS, [mine.id])
    await streams.put_back(redis, EVENTS, "me", [(mine.id, WINDOW_S, 0)])
    assert await pending(redis) == []


async def test_an_idle_time_below_zero_is_none_at_all(redis: Redis) -> None:
    await publish(redis, 1)
    (mine,) = await read(redis)
    await streams.put_back(redis, EVENTS, "me", [(mine.id, -5, 0)])
    assert await take(redis, min_idle_s=5) == []
    assert await pending(redis) == [(mine.id, "me", 0)]


async def test_more_entries_than_one_script_takes_can_be_put_back(redis: Redis) -> None:
    await publish(redis, *range(1, 602))
    await streams.put_back(redis, EVENTS, "me", [(entry.id, WINDOW_S, 0) for entry in await read(redis, count=1000)])
    assert rows_of(await take(redis)) == list(range(1, 602))


async def test_reclaim_follows_the_cursor_past_entries_in_flight(redis: Redis) -> None:
    """150 live entries before 50 dead ones: each call scans ten times what it may take."""
    await publish(redis, *range(1, 201))
    entries = await read(redis, count=200)
    await streams.put_back(redis, EVENTS, "me", [(entry.id, 30, 0) for entry in entries[150:]])
    assert rows_of(await take(redis, min_idle_s=20, count=10)) == list(range(151, 201))


async def test_a_pending_entry_that_somebody_deleted_is_reported_lost(redis: Redis) -> None:
    await publish(redis, 1, 2)
    first, second = await read(redis)
    await redis.xdel(EVENTS, first.id)
    step = await streams.reclaim(redis, EVENTS, "other", 0, b"0-0", 10)
    assert (step.lost, rows_of(step.entries), step.cursor) == ([first.id], [2], b"0-0")
    assert await pending(redis) == [(second.id, "other", 2)]


async def test_reclaim_tells_the_servers_time_and_the_last_id(redis: Redis) -> None:
    last_id = await add_raw(redis, {"event": "1"})
    seconds, microseconds = await redis.time()
    step = await streams.reclaim(redis, EVENTS, "me", 30, b"0-0", 10)
    assert step.last_id == last_id
    assert 0 <= step.server_time_us - (seconds * 10**6 + microseconds) < 5_000_000


# ---- the watermark's entry


async def test_the_head_is_the_oldest_entry_that_is_pending_or_unread(redis: Redis) -> None:
    assert await streams.head(redis, EVENTS) == Head(None, None, 0)
    await streams.publish(redis, EVENTS, [row(n, NOON + timedelta(seconds=n)) for n in (1, 2, 3)])
    assert (await streams.head(redis, EVENTS)).published_at == NOON + timedelta(seconds=1)
    first, second = await read(redis, count=2)
    await streams.acknowledge(redis, EVENTS, [first.id])
    assert await streams.head(redis, EVENTS) == Head(second.id, NOON + timedelta(seconds=2), 0)
    await streams.acknowledge(redis, EVENTS, [second.id])
    assert (await streams.head(redis, EVENTS)).published_at == NOON + timedelta(seconds=3)


async def test_before_the_group_exists_everything_is_still_to_come(redis: Redis) -> None:
    await redis.flushall()
    assert await streams.head(redis, EVENTS) == Head(None, None, 0)
    await publish(redis, 1)
    assert (await streams.head(redis, EVENTS)).published_at == NOON


async def test_entries_that_the_group_forgot_are_removed(redis: Redis) -> None:
    """XGROUP DELCONSUMER drops what is pending for good: such entries would hold the watermark back for ever."""
    await publish(redis, 1, 2, 3, 4)
    await read(redis, "deleted", 2)
    (third,) = await read(redis, "me", 1)
    await redis.xgroup_delconsumer(EVENTS, GROUP, "deleted")
    assert await streams.head(redis, EVENTS) == Head(third.id, NOON, forgotten=2)
    assert await redis.xlen(EVENTS) == 2
    assert (await streams.head(redis, EVENTS)).forgotten == 0


async def test_all_may_be_forgotten(redis: Redis) -> None:
    await publish(redis, *range(1, 703))
    await read(redis, "deleted", 1000)
    await redis.xgroup_delconsumer(EVENTS, GROUP, "deleted")
    assert [(await streams.head(redis, EVENTS)).forgotten for _ in range(3)] == [500, 202, 0]
    assert await redis.xlen(EVENTS) == 0


@pytest.mark.parametrize("published_at", [None, b"", b"\xff", b"yesterday", b"2026-03-31T12:00:00"], ids=repr)
async def test_a_head_without_a_readable_time_says_so(redis: Redis, published_at: bytes | None) -> None:
    entry_id = await add_raw(redis, {"event": "1"} if published_at is None else {"event": "1", "published_at": published_at})
    assert await streams.head(redis, EVENTS) == Head(entry_id, None, 0)


async def test_times_with_another_offset_are_instants_all_the_same(redis: Redis) -> None:
    await add_raw(redis, {"event": "1", "published_at": "2026-03-31T14:00:00+02:00"})
    assert (await streams.head(redis, EVENTS)).published_at == NOON


# ---- bury


async def test_a_buried_entry_is_kept_with_its_reason(redis: Redis) -> None:
    entry_id = await add_raw(redis, {"event": "seven", b"\xff": b"\xfe\x00"})
    (entry,) = await read(redis)
    await streams.bury(redis, EVENTS, entry, "no row explains it")
    assert (await redis.xlen(EVENTS), await pending(redis)) == (0, [])
    ((_, record),) = await carried(redis, DEAD)
    assert record == {
        b"event": b"seven",
        "\ufffd".encode(): b"\xfe\x00",
        b"reason": b"no row explains it",
        b"stream": EVENTS.encode(),
        b"entry": entry_id,
        b"deliveries": b"1",
    }


# ---- the group is gone


async def test_every_call_tells_that_the_group_is_missing(redis: Any) -> None:
    """After FLUSHALL, and after DEL of the group alone."""
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: read(redis),
        lambda: streams.read(redis, EVENTS, "me", 1, 1),
        lambda: take(redis),
        lambda: streams.put_back(redis, EVENTS, "me", [(b"1-1", 0, 0)]),
    ]
    for gone in (redis.flushall, lambda: redis.xgroup_destroy(EVENTS, GROUP)):
        await redis.flushall()
        await streams.create_group(redis, EVENTS)
        await gone()
        for call in calls:
            with pytest.raises(RedisError) as caught:
                await call()
            assert streams.no_group(caught.value), caught.value


async def test_other_errors_are_not_taken_for_a_missing_group(redis: Redis) -> None:
    await redis.set("plain", "text", ex=60)
    with pytest.raises(ResponseError) as caught:
        await redis.xlen("plain")
    assert not streams.no_group(caught.value)
    assert not streams.no_group(OSError("NOGROUP"))
