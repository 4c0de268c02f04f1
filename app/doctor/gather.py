"""Asks the world, all of it at once, LIMIT_S for each. Thin: what the answers mean is judged elsewhere."""

import asyncio
import shlex
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from app import schema
from app.doctor.facts import Away, Cause, Clock, Facts, PostgresFacts, RedisFacts, StreamFacts
from app.doctor.ports import ports
from app.pauses import read_pauses
from app.resources import open_redis
from app.settings import Settings
from app.store.hold import read_holds
from app.stream_stats import STREAMS, stream_stats
from app.streams import GROUP, WORK_STREAMS, no_group

LIMIT_S = 1.5
PENDING_LOOKED_AT = 1000  # oldest pending entries per stream; all of a large list would block Redis

SESSION_FACTS = """
select current_setting('server_version_num')::int as version, current_database() as database, current_user as role,
  pg_is_in_recovery() as standby,
  (select source from pg_settings where name = 'default_transaction_read_only' and setting = 'on') as read_only_by
"""
DENIED = """
select name from unnest($1::text[]) as name, to_regclass(quote_ident(name)) as live where live is not null
  and not (has_table_privilege(live, 'insert') and has_table_privilege(live, 'update'))
"""


async def gather_facts(settings: Settings) -> Facts:
    """All facts. Never raises for what a server does: that is a fact."""
    postgres, (redis, streams), at_ports = await asyncio.gather(_postgres(settings), _redis(settings), ports(settings, LIMIT_S))
    return Facts(postgres, redis, streams, at_ports)


async def _postgres(settings: Settings) -> PostgresFacts | Away:
    try:
        connection = await asyncpg.connect(settings.database_url, timeout=LIMIT_S)
        try:
            return await _ask_postgres(connection, for_shell(settings.database_url))
        finally:
            connection.terminate()  # close() would wait for a server that hangs
    except asyncpg.InvalidCatalogNameError as error:
        return Away(Cause.NO_DATABASE, _first_line(error))
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InsufficientPrivilegeError) as error:
        return Away(Cause.LOGIN, _first_line(error))
    except TimeoutError:
        return _late()
    except ValueError:
        return _no_url()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return Away(Cause.REFUSED, _first_line(error))


async def _ask_postgres(connection: Any, url: str) -> PostgresFacts:
    async with asyncio.timeout(LIMIT_S):
        session = await connection.fetchrow(SESSION_FACTS)
        clock = await _clock(lambda: connection.fetchval("select extract(epoch from clock_timestamp())::float8"))
    tables = await asyncio.to_thread(schema.model_columns)  # imports for a second: the clocks' answers must not wait for that
    async with asyncio.timeout(LIMIT_S):
        denied = tuple(row["name"] for row in await connection.fetch(DENIED, list(tables)))
        differences = tuple(await schema.check(connection))
        holds = {} if any("channel_pause" in lacking for lacking in differences) else await read_holds(connection)
    return PostgresFacts(**session, denied=denied, differences=differences, clock=clock, url=url, holds=holds)


async def _redis(settings: Settings) -> tuple[RedisFacts | Away, StreamFacts | Away]:
    try:
        redis = open_redis(settings)
        async with asyncio.timeout(LIMIT_S), redis:
            return await _ask_redis(redis), await _ask_streams(redis)
    except (AuthenticationError, NoPermissionError) as error:
        away = Away(Cause.LOGIN, _first_line(error))
    except ValueError:
        away = _no_url()
    except (TimeoutError, RedisError, OSError) as error:
        away = _late() if "imeout" in type(error).__name__ else Away(Cause.REFUSED, _first_line(error))
    return away, away


async def _ask_redis(redis: Redis) -> RedisFacts:
    info: dict[str, Any] = await redis.info()
    return RedisFacts(
        name="Valkey" if "valkey_version" in info else "Redis",
        version=_numbers(info.get("valkey_version") or info["redis_version"]),
        replica=info.get("role") == "slave",
        eviction=info.get("maxmemory_policy", "not told"),
        memory=info.get("used_memory", 0),
        memory_max=info.get("maxmemory", 0),
        append_only=bool(info.get("aof_enabled")),
        save=await _save_points(redis),
        last_write_ok="err" not in (info.get("aof_last_write_status"), info.get("rdb_last_bgsave_status")),
        clock=await _clock(lambda: _redis_time_s(redis)),
    )


async def _save_points(redis: Redis) -> str | None:
    """Not in INFO; and servers that others run often refuse CONFIG."""
    try:
        told: dict[Any, Any] = await redis.config_get("save")
    except ResponseError:
        return None
    value = next(iter(told.values()), None)
    return value.decode() if isinstance(value, bytes) else value


async def _redis_time_s(redis: Redis) -> float:
    seconds, microseconds = await redis.time()
    return float(seconds) + microseconds / 1_000_000


async def _ask_streams(redis: Redis) -> StreamFacts:
    async with redis.pipeline(transaction=False) as pipe:
        for stream in STREAMS:
            pipe.type(stream)
        types = dict(zip(STREAMS, [kind.decode() for kind in await pipe.execute()], strict=True))
    clean = set(types.values()) <= {"stream", "none"}
    stats, idle_s = (await stream_stats(redis), await _pending_idle_s(redis)) if clean else (None, {})
    return StreamFacts(types, stats, idle_s, await read_pauses(redis))


async def _pending_idle_s(redis: Redis) -> dict[str, float]:
    """Per stream the longest idle time among its oldest pending entries."""
    async with redis.pipeline(transaction=False) as pipe:
        for stream in WORK_STREAMS:
            pipe.xpending_range(stream, GROUP, "-", "+", PENDING_LOOKED_AT)
        answers = await pipe.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, Exception) and not no_group(answer):
            raise answer
    found = {stream: [] if isinstance(a, Exception) else a for stream, a in zip(WORK_STREAMS, answers, strict=True)}
    return {s: max((p["time_since_delivered"] / 1000 for p in pending), default=0.0) for s, pending in found.items()}


async def _clock(ask: Callable[[], Awaitable[float]]) -> Clock:
    """The server's time against the middle of the time that asking took."""
    before_s = time.time()
    theirs_s = await ask()
    after_s = time.time()
    return Clock(theirs_s - (before_s + after_s) / 2, (after_s - before_s) / 2)


def for_shell(database_url: str) -> str:
    """The address to hand to psql; a password is not shown, so that one stays a variable."""
    url = urlsplit(database_url)
    return '"$DATABASE_URL"' if url.password or "password" in url.query else shlex.quote(database_url)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _late() -> Away:
    return Away(Cause.LATE, f"no answer within {LIMIT_S:g} s")


def _no_url() -> Away:
    """Without the error's own words: they may quote a piece of the password."""
    return Away(Cause.URL, "the URL cannot be read; /, @, : and # in a password are written %2F, %40, %3A and %23")


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
