"""Time that a test moves: PostgreSQL's `now()` and the idle times of pending entries, for tests that wait for nothing.

The database's search path finds `shifted.now()` before PostgreSQL's own, so every statement of the product sees the moved clock.
"""

from typing import Any

import asyncpg

from app import streams
from app.resources import Resources

CLOCK = """
create schema shifted;
create table shifted.by (span interval not null);
insert into shifted.by values ('0');
create function shifted.now() returns timestamptz stable language sql as 'select pg_catalog.now() + span from shifted.by';
"""
DEFAULTS = "alter table {} alter column {} set default shifted.now()"
COLUMNS = {
    "event": ("due_at", "published_at", "created_at", "updated_at"),
    "notification": ("due_at", "published_at", "created_at", "updated_at"),
}


async def shift_clock(database_url: str) -> None:
    """Prepares a database; connections opened afterwards see the moved clock."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(CLOCK)
        for table, columns in COLUMNS.items():
            for column in columns:
                await connection.execute(DEFAULTS.format(table, column))
        name = await connection.fetchval("select current_database()")
        await connection.execute(f"alter database {name} set search_path = shifted, pg_catalog, public")
    finally:
        await connection.close()


async def reset(resources: Resources) -> None:
    """No rows, an empty Redis, and the clock as it is."""
    await resources.pool.execute(
        "truncate event, notification, attempt, seen_move restart identity; update shifted.by set span = '0'"
    )
    await resources.redis.flushall()


async def pass_time(resources: Resources, seconds: float) -> None:
    """So much later, for PostgreSQL and for every pending entry."""
    await resources.pool.execute("update shifted.by set span = span + make_interval(secs => $1)", seconds)
    for stream in streams.WORK_STREAMS:
        if await has_group(resources, stream):
            await _age(resources, stream, round(seconds * 1000))


async def has_group(resources: Resources, stream: str) -> bool:
    if not await resources.redis.exists(stream):
        return False
    return bool(await resources.redis.xinfo_groups(stream))


async def _age(resources: Resources, stream: str, by_ms: int) -> None:
    pending: Any = await resources.redis.xpending_range(stream, streams.GROUP, "-", "+", 1000)
    for p in pending:
        await resources.redis.xclaim(
            stream,
            streams.GROUP,
            p["consumer"],
            0,
            [p["message_id"]],
            idle=p["time_since_delivered"] + by_ms,
            retrycount=p["times_delivered"],
            justid=True,
        )
