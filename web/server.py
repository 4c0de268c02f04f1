"""Runs the dashboard until SIGTERM or SIGINT. It starts, and says what is wrong, even where PostgreSQL and Redis are away."""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import uvicorn
from starlette.types import ASGIApp

from app.resources import open_engine, open_redis
from app.settings import Settings
from web.live import new_collector
from web.routes import build_app

log = structlog.get_logger()

FINISH_WITHIN_S = 4  # no answer takes longer


class _Server(uvicorn.Server):
    """Leaves the signals to `serve`: uvicorn raises them again once it has stopped, and the exit status would not be 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve on a socket that listens; returns after SIGTERM or SIGINT. Raises CancelledError where they come before the start."""
    _on_stop(asyncio.current_task().cancel)  # type: ignore[union-attr]
    redis = open_redis(settings)
    async with open_engine(settings, "web") as engine:
        collector = new_collector(settings, engine, redis)
        server = _Server(_config(build_app(settings, engine, redis, collector)))

        def stop() -> None:
            collector.close()  # ends the streams of events, which uvicorn would wait for
            server.handle_exit(signal.SIGINT, None)

        _on_stop(stop)
        log.info("dashboard listens", host=settings.dashboard_host, port=settings.dashboard_port)
        await server.serve(sockets=[listener])
    await redis.aclose()
    log.info("dashboard stopped")


def _on_stop(stop: Callable[[], object]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=FINISH_WITHIN_S,
    )
