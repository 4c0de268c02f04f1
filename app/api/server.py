"""The process of the API, wired from top to bottom: settings, the port, PostgreSQL and Redis, accept, the routes, uvicorn."""

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable

import structlog
import uvicorn
import uvloop
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.types import ASGIApp

from app.accept import Acceptor
from app.addresses import api_url
from app.api import direct, events, notifications, operate, preferences, service
from app.api.events import HotRoute, PostEvent
from app.api.one_write import OneWrite
from app.api.problem import HANDLERS
from app.listen import PortProblem, listen
from app.logs import configure
from app.resources import Resources, Unreachable, open_engine, open_resources
from app.settings import Settings, SettingsError, load_settings
from app.tallying import tallying

log = structlog.get_logger()

FINISH_WITHIN_S = 8  # below the 10 s after which docker kills
GC_THRESHOLD = 50_000


def main() -> None:
    """Serve until SIGTERM or SIGINT, finish the requests under way, return. Exits with 1 and one line where it cannot start."""
    try:
        settings = load_settings()
        configure(settings, "api")
        listener = listen(settings.api_host, settings.api_port, "API")
        uvloop.run(_serve(settings, listener))
    except (SettingsError, PortProblem, Unreachable) as error:
        sys.exit(f"tidings api: {error}")
    except (asyncio.CancelledError, KeyboardInterrupt):
        pass  # asked to stop before it had started


def build_app(resources: Resources, engine: AsyncEngine, acceptor: Acceptor) -> ASGIApp:
    """The whole API; `acceptor` must be running for POST to be answered."""
    inside = Starlette(
        routes=[
            *events.routes(acceptor, engine),
            *notifications.routes(engine),
            *operate.routes(resources, engine),
            *direct.routes(resources),
            *preferences.routes(resources.pool),
            *service.routes(resources),
        ],
        exception_handlers=HANDLERS,
    )
    return HotRoute(PostEvent(acceptor), inside)


async def _serve(settings: Settings, listener: socket.socket) -> None:
    _on_stop(asyncio.current_task().cancel)  # type: ignore[union-attr]
    async with (
        open_resources(settings, "api") as resources,
        open_engine(settings, "api history") as engine,
        tallying(resources),
        Acceptor(resources).running() as acceptor,
    ):
        server = uvicorn.Server(server_config(build_app(resources, engine, acceptor)))
        _calm_collector()
        log.info("api listens", address=api_url(settings))
        _on_stop(lambda: None)  # uvicorn takes the signals from here on, and raises them once more when it has stopped
        await server.serve(sockets=[listener])
    log.info("api stopped")


def _on_stop(stop: Callable[[], object]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)


def server_config(app: ASGIApp) -> uvicorn.Config:
    """How uvicorn serves the app: nothing in between that costs time, and a bounded wait for requests under way at the end."""
    return uvicorn.Config(
        app,
        http=OneWrite,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=FINISH_WITHIN_S,
    )


def _calm_collector() -> None:
    """What start made is never looked at again, the rest seldom: the slowest requests waited for the collector (p99 40 ms)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)
