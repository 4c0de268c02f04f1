"""Opens and closes what a process holds: the PostgreSQL pool, the Redis clients, and the engine of the readers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.kept import Kept
from app.redis_client import HotRedis
from app.settings import Settings
from app.severed import ASK_TYPES, SeveredConnection
from app.tally import Tally

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

# Plans prepared on an empty table ran 8 to 18 times slower once it was full.
SESSION = {
    "plan_cache_mode": "force_custom_plan",
    "timezone": "UTC",
    # A statement given up at its time limit ends on the server, too: its backend, or its effect, would come to light much later.
    "client_connection_check_interval": "1s",
    # A host that lost its power says no goodbye: its locks (an idempotency key) would block others for hours.
    "idle_in_transaction_session_timeout": "10s",
}
# For hot.py and hot_route.py of app/store, whose statements are planned once: they look rows up in indexes, whatever tables hold.
HOT_SESSION = {
    **SESSION,
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    **{f"enable_{way}": "off" for way in ("seqscan", "bitmapscan", "hashjoin", "mergejoin", "memoize")},
}
HOT_SIZE = 5  # two batches that are routed, one that is claimed, one recorded, one written
READ_BLOCK_MAX_S = 0.5  # no blocking read waits longer, so its socket time limit can tell a lost reply from an idle stream
READ_ANSWER_MAX_S = 2.0
CONNECT_WITHIN_S = 3


class Unreachable(Exception):
    """A server that must be there is not. The message is one line that names it and the setting."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What is open. `hot` is for statements that are planned once: app/store/hot.py, hot_route.py, and accept's.

    `redis` never repeats a command by itself (a repeated XADD is two entries); `reader` only blocks in reads.
    """

    settings: Settings
    pool: "asyncpg.Pool[asyncpg.Record]"
    hot: Kept
    redis: HotRedis
    reader: HotRedis
    tally: Tally = field(default_factory=Tally)


@asynccontextmanager
async def open_resources(settings: Settings, process: str, pool_size: int = 8) -> AsyncIterator[Resources]:
    """Everything one process needs; `process` names it in pg_stat_activity. Raises Unreachable where PostgreSQL is away.

    Redis may be away: it is expendable, and the clients connect when it is back.
    """
    pool, hot = await _open_pools(settings, process, pool_size)
    redis, reader = open_redis(settings), open_reader(settings)
    try:
        yield Resources(settings, pool, hot, redis, reader)
    finally:
        await reader.aclose()
        await redis.aclose()
        await asyncio.gather(_close_pool(pool), hot.close())


async def _open_pools(settings: Settings, process: str, size: int) -> "tuple[asyncpg.Pool[asyncpg.Record], Kept]":
    """The pool for all statements, and the hot connections. Where one is half open, all are suspect."""
    expiring: set[asyncio.Task[None]] = set()

    def expire() -> None:
        hot.expire()
        expiring.add(task := loop.create_task(pool.expire_connections()))
        task.add_done_callback(expiring.discard)

    async def init(connection: Any) -> None:
        connection.expire = expire

    def how(session: dict[str, str]) -> dict[str, Any]:
        return {
            "dsn": settings.database_url,
            "connection_class": SeveredConnection,
            "timeout": CONNECT_WITHIN_S,
            "command_timeout": settings.statement_within_s,
            "server_settings": {**session, "application_name": f"tidings {process}"},
        }

    async def connect() -> Any:
        connection = await asyncpg.connect(**how(HOT_SESSION))
        await init(connection)
        return connection

    loop, hot = asyncio.get_running_loop(), Kept(connect, HOT_SIZE)
    try:
        pool = await asyncpg.create_pool(
            **how(SESSION),
            init=init,
            min_size=0,  # a floor is kept up in the background, with a traceback in the log each time that PostgreSQL is away
            max_size=size,
            reset=_keep_session,
        )
        await asyncio.gather(pool.fetch(ASK_TYPES), hot.fetch(ASK_TYPES))  # so the first claim's lease does not wait for it
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, TimeoutError) as error:
        raise Unreachable(f"PostgreSQL (setting DATABASE_URL) cannot be used: {_first_line(error)}") from None
    return pool, hot


async def _keep_session(_connection: object) -> None:
    """Nobody changes a session of the pool, so nothing is to be reset: that would be a round trip for each statement."""


async def _close_pool(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    """Lets connections finish for a moment, then cuts them: a server that is away must not hold up the exit."""
    try:
        await asyncio.wait_for(pool.close(), 2)
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        pool.terminate()


def open_redis(settings: Settings) -> HotRedis:
    """The client for writes and short reads: one try each, answers as bytes."""
    return _client(settings, settings.redis_timeout_s)


def read_within_s(settings: Settings) -> float:
    """Seconds after which a blocking read's answer is given up, and its connection with it: it may be half open."""
    return READ_BLOCK_MAX_S + min(settings.redis_timeout_s, READ_ANSWER_MAX_S)


def open_reader(settings: Settings) -> HotRedis:
    """The client of blocking reads: its time limit is above the longest block."""
    client = _client(settings, read_within_s(settings))
    client.blocks = True
    return client


def _client(settings: Settings, answer_within_s: float) -> HotRedis:
    client = HotRedis.from_url(
        settings.redis_url,
        legacy_responses=False,
        socket_timeout=answer_within_s,
        socket_connect_timeout=settings.redis_timeout_s,
        retry=Retry(NoBackoff(), 0),
    )
    assert isinstance(client, HotRedis)
    return client


@asynccontextmanager
async def open_engine(settings: Settings, process: str) -> AsyncIterator["AsyncEngine"]:
    """The SQLAlchemy engine of the readers (history, dashboard). Connects when first used."""
    from sqlalchemy.ext.asyncio import create_async_engine  # consumers never read history: they spare the 40 MB

    engine = create_async_engine(
        settings.database_url.replace("://", "+asyncpg://", 1).replace("postgres+", "postgresql+", 1),
        pool_size=4,
        max_overflow=0,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "timeout": CONNECT_WITHIN_S,
            "command_timeout": settings.statement_within_s,
            "connection_class": SeveredConnection,
            "server_settings": {**SESSION, "application_name": f"tidings {process}"},
        },
    )
    try:
        yield engine
    finally:
        await engine.dispose()


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
