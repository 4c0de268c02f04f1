"""The whole check: a first look at everything, a pause where there are suspects, and a second look at these."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import asyncpg
from redis.asyncio import Redis

from app.consistency.carried import groups, kept_for_ever
from app.consistency.compare import SUSPECTS_MAX, first_look
from app.consistency.confirm import confirm, needs_time
from app.consistency.facts import Facts, History, Suspects
from app.consistency.look import Look, Patience
from app.pauses import read_pauses
from app.settings import Settings
from app.store import consistency as store
from app.store.hold import read_holds
from app.streams import WORK_STREAMS

if TYPE_CHECKING:
    from app.store.consistency import Connection

Answer = TypeVar("Answer")

STATEMENT_MAX_S = 2.0
PAUSE_SPARE_S = 0.5  # the relay's sweep takes a moment, too
LATE = (TimeoutError, asyncpg.QueryCanceledError)


async def check(settings: Settings, redis: Redis, limit_s: float) -> Facts:
    """All facts, within about `limit_s`; what was not looked at by then is told as `cut`.

    Raises redis.RedisError, asyncpg.PostgresError, OSError or TimeoutError where a server is away or refuses.
    """
    began, patience = time.monotonic(), Patience.of(settings)
    pause_s = min(settings.relay_sweep_s + PAUSE_SPARE_S, limit_s / 2)
    async with _connection(settings) as connection:
        paused = {*await read_pauses(redis), *await read_holds(connection)}
        looks = await _first_looks(connection, redis, patience, began + limit_s - pause_s)
        history = await _history(connection)
        kept = await kept_for_ever(redis, SUSPECTS_MAX)
        suspicious = any(needs_time(look, patience) for look in looks)
        if suspicious:
            await asyncio.sleep(pause_s)
        after = await groups(redis)
        paused.update(await read_pauses(redis), await read_holds(connection))  # what was paused until just now has not caught up
        books = [await confirm(connection, redis, look, after[look.stream], patience, look.channel in paused) for look in looks]
    return Facts(
        now=looks[0].now,
        books=tuple(books),
        history=history,
        kept=Suspects(tuple(kept[:SUSPECTS_MAX]), more=len(kept) > SUSPECTS_MAX),
        waited_s=pause_s if suspicious else 0.0,
        cut=any(look.cut for look in looks) or not history.complete,
    )


@asynccontextmanager
async def _connection(settings: Settings) -> AsyncIterator["Connection"]:
    """One of its own: it only reads, and no statement takes long."""
    session = {
        "application_name": "tidings check",
        "default_transaction_read_only": "on",
        "statement_timeout": f"{STATEMENT_MAX_S:g}s",
        "plan_cache_mode": "force_custom_plan",
        "timezone": "UTC",
    }
    connection = await asyncpg.connect(
        settings.database_url, timeout=3, command_timeout=2 * STATEMENT_MAX_S, server_settings=session
    )
    try:
        yield connection
    finally:
        connection.terminate()  # close() would wait for a server that hangs


async def _first_looks(connection: "Connection", redis: Redis, patience: Patience, until: float) -> list[Look]:
    now = await store.clock(connection)
    at = await groups(redis)
    return [await first_look(connection, redis, stream, now, at[stream], patience, until) for stream in WORK_STREAMS]


async def _history(connection: "Connection") -> History:
    async def in_time(ask: Callable[["Connection"], Awaitable[Answer]]) -> Answer | None:
        try:
            return await ask(connection)
        except LATE:
            return None

    return History(
        unsent=await in_time(store.unsent),
        orphans=await in_time(store.orphans),
        too_far=await in_time(store.too_far),
        unproved=await in_time(store.unproved),
    )
