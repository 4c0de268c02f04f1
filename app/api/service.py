"""Is the process alive, are its servers there, and what is where: for orchestrators, and for a person who opens the address."""

import asyncio
from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING

import structlog
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.addresses import dashboard_url
from app.api.problem import NO_TABLES
from app.api.wire import json_answer
from app.domain import Channel
from app.pauses import Pause, read_pauses
from app.resources import Resources
from app.settings import Settings
from app.store.hold import Hold, read_holds

if TYPE_CHECKING:
    from app.store.batch import Pool

log = structlog.get_logger()

CHECK_WITHIN_S = 1.5
OK = "ok"
TABLES = """
select 'event'::regclass, 'notification'::regclass, 'attempt'::regclass, 'preference'::regclass, 'idempotency_key'::regclass,
  'channel_pause'::regclass
"""


def routes(resources: Resources) -> list[Route]:
    return [
        Route("/", partial(welcome, resources.settings), name="welcome"),
        Route("/healthz", healthz, name="healthz"),
        Route("/readyz", partial(readyz, resources), name="readyz"),
    ]


async def welcome(settings: Settings, _request: Request) -> Response:
    """GET /: the addresses a person may look for."""
    return json_answer(
        {
            "service": "Tidings: POST events, and their notifications are sent",
            "events": "/api/events",
            "batch": "/api/events/batch",
            "event": "/api/events/{eventId}",
            "notifications": "/api/notifications/{userId}",
            "message": "/api/v1/notifications",
            "preferences": "/api/preferences/{userId}",
            "health": "/healthz",
            "readiness": "/readyz",
            "dashboard": dashboard_url(settings),
        }
    )


async def healthz(_request: Request) -> Response:
    """GET /healthz: the process answers."""
    return json_answer({"status": OK})


async def readyz(resources: Resources, _request: Request) -> Response:
    """GET /readyz: 503 where PostgreSQL is away. Degraded only: Redis away, since the relay publishes later; a channel paused."""
    pauses: dict[Channel, list[Pause]] = {}
    holds: dict[Channel, Hold] = {}
    postgresql, redis = await _checks(_ask_tables(holds, resources.pool), _read_into(pauses, resources.redis))
    status = "unavailable" if postgresql != OK else "degraded" if redis != OK or pauses or holds else OK
    answer: dict[str, object] = {"status": status, "postgresql": postgresql, "redis": redis}
    if pauses or holds:
        by_breaker = {channel.value: f"paused: {told[0].reason}" for channel, told in pauses.items()}
        answer["channels"] = by_breaker | {channel.value: f"paused by {held.words}" for channel, held in holds.items()}
    return json_answer(answer, status=200 if postgresql == OK else 503)


async def _ask_tables(holds: dict[Channel, Hold], pool: "Pool") -> None:
    """Are all tables there? And the channels that were paused by hand."""
    await pool.execute(TABLES)
    holds.update(await read_holds(pool))


async def _read_into(pauses: dict[Channel, list[Pause]], redis: Redis) -> None:
    """The paused channels; that they can be read shows that Redis is there."""
    pauses.update(await read_pauses(redis))


async def _checks(*checks: Awaitable[object]) -> list[str]:
    """What each comes to. One that is late is cancelled but not waited for: asyncpg's own cancelling may hang with its server."""
    tasks = [asyncio.ensure_future(check) for check in checks]
    await asyncio.wait(tasks, timeout=CHECK_WITHIN_S)
    return [_result(task) for task in tasks]


def _result(task: "asyncio.Future[object]") -> str:
    if not task.done():
        task.add_done_callback(lambda late: late.cancelled() or late.exception())
        task.cancel()
        return f"no answer within {CHECK_WITHIN_S:g} s"
    error = task.exception()
    if error is None:
        return OK
    log.warning("a server is not ready", error=str(error) or type(error).__name__)
    return "the tables are missing: run `tidings schema apply`" if isinstance(error, NO_TABLES) else "away"
