"""What the servers give to one client that does nothing else: raw stream commands, and the same rows by bare asyncpg."""

import asyncio
import time
from typing import Any

import asyncpg

from benchmarks.measure import rate
from benchmarks.results import Rate
from benchmarks.servers import Place, Servers, fresh_place
from benchmarks.usage import cpu_s
from benchmarks.wire import Wire

BATCH = 500
LANES = 2
ENTRY = (
    "event",
    1,
    "event_id",
    "evt-1",
    "user_id",
    "user_1",
    "event_type",
    "ORDER_PLACED",
    "published_at",
    "2026-11-22T02:24:41.348726+00:00",
)

INSERT_EVENTS = """
insert into event (event_id, type, user_id, payload, occurred_at, body_hash)
select 'evt-' || n, 'ORDER_PLACED', 'user_' || n % 10000, payload, now(), '\\x00'
from unnest($1::bigint[], $2::json[]) as u(n, payload) returning id
"""
INSERT_NOTIFICATIONS = """
insert into notification (event_pk, channel, user_id, leads) select u.*, u.channel = 'EMAIL'
from unnest($1::bigint[], $2::text[], $3::text[]) as u(event_pk, channel, user_id) returning id
"""
SENT = "update notification set status = 'SENT', updated_at = now() where id = any($1::bigint[])"


async def streams(servers: Servers, template: str, entries: int) -> tuple[Rate, Rate]:
    """Entries/s of XADD, 500 in a pipeline; and of XREADGROUP 500, XACK and XDEL."""
    async with fresh_place(servers, template), Wire(servers.redis_url) as wire:
        pids = {"Valkey": [servers.valkey_pid]}
        await wire.ask([("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")])
        before, began = cpu_s(pids), time.time()
        for _ in range(0, entries, BATCH):
            await wire.ask([("XADD", "s", "*", *ENTRY)] * BATCH)
        added = rate(entries, time.time() - began, before, pids)
        before, began = cpu_s(pids), time.time()
        while found := (await wire.ask([("XREADGROUP", "GROUP", "g", "c", "COUNT", BATCH, "STREAMS", "s", ">")]))[0]:
            ids = [entry_id for entry_id, _ in found[0][1]]
            await wire.ask([("XACK", "s", "g", *ids), ("XDEL", "s", *ids)])
        return added, rate(entries, time.time() - began, before, pids)


async def rows(servers: Servers, template: str, events: int) -> tuple[Rate, Rate]:
    """Events/s of inserting the event's row alone; and of its row, its three notifications' and one update of each."""
    async with fresh_place(servers, template) as place:
        pids = {"PostgreSQL": [servers.postgres_pid]}
        before, began = cpu_s(pids), time.time()
        await _in_lanes(place, events, insert_events)
        stored = rate(events, time.time() - began, before, pids)
        before, began = cpu_s(pids), time.time()
        await _in_lanes(place, events, all_rows, events)
        return stored, rate(events, time.time() - began, before, pids)


async def _in_lanes(place: Place, events: int, run: Any, first: int = 0) -> None:
    async def lane(number: int) -> None:
        database = await asyncpg.connect(place.database_url)
        for start in range(first + number * BATCH, first + events, LANES * BATCH):
            await run(database, range(start, min(start + BATCH, first + events)))
        await database.close()

    await asyncio.gather(*(lane(number) for number in range(LANES)))


async def insert_events(database: "asyncpg.Connection[asyncpg.Record]", numbers: range) -> list[int]:
    payloads = ['{"orderAmount":250,"items":["Laptop","Mouse"]}'] * len(numbers)
    return [row["id"] for row in await database.fetch(INSERT_EVENTS, numbers, payloads)]


async def all_rows(database: "asyncpg.Connection[asyncpg.Record]", numbers: range) -> None:
    events = await insert_events(database, numbers)
    triples = [(event, channel, f"user_{event % 10000}") for event in events for channel in ("EMAIL", "SMS", "PUSH")]
    added = await database.fetch(INSERT_NOTIFICATIONS, *map(list, zip(*triples, strict=True)))
    await database.execute(SENT, [row["id"] for row in added])
