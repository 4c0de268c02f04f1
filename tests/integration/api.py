"""The API in this process, for tests: its app on the test's own servers, and rows as consumers would have left them."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import httpx2
import uvicorn
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp

from app.accept import Acceptor
from app.api.server import build_app, server_config
from app.kept import Kept
from app.listen import listen
from app.resources import Resources, open_engine, open_resources
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Api:
    """`client` calls the app directly; a bug in it is answered 500, as it would be over the network."""

    app: ASGIApp
    client: httpx2.AsyncClient
    resources: Resources
    engine: AsyncEngine

    @property
    def pool(self) -> "asyncpg.Pool[asyncpg.Record]":
        return self.resources.pool


@asynccontextmanager
async def open_api(settings: Settings) -> AsyncIterator[Api]:
    async with (
        open_resources(settings, "test api") as resources,
        open_engine(settings, "test history") as engine,
        serve_in_process(resources, engine) as api,
    ):
        yield api


@asynccontextmanager
async def open_api_without_postgresql(settings: Settings) -> AsyncIterator[Api]:
    """The API as it is once PostgreSQL has gone: nothing listens where it was."""
    away = settings.model_copy(update={"database_url": f"postgresql://postgres@127.0.0.1:{closed_port()}/tidings"})
    async with (
        open_resources(settings, "test api") as resources,
        open_engine(away, "test history") as engine,
        asyncpg.create_pool(away.database_url, min_size=0, max_size=2, timeout=5) as pool,
        serve_in_process(replace(resources, pool=pool, hot=Kept(lambda: asyncpg.connect(away.database_url), 1)), engine) as api,
    ):
        yield api


@asynccontextmanager
async def serve_in_process(resources: Resources, engine: AsyncEngine) -> AsyncIterator[Api]:
    async with Acceptor(resources).running() as acceptor:
        app = build_app(resources, engine, acceptor)
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://api") as client:
            yield Api(app, client, resources, engine)


@asynccontextmanager
async def on_a_socket(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    """The app behind uvicorn, set up as the process does."""
    listener = listen("127.0.0.1", 0, "API")
    server = uvicorn.Server(server_config(api.app))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
        yield client
    server.should_exit = True
    await running


def closed_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sample(**change: Any) -> dict[str, Any]:
    """The body of a good event."""
    return {
        "eventId": "evt-123",
        "eventType": "ORDER_PLACED",
        "userId": "user_123",
        "payload": {"orderAmount": 250, "items": ["Laptop", "Mouse"]},
        "timestamp": "2026-03-31T16:30:00Z",
        **change,
    }


async def accepted(api: Api, **change: Any) -> int:
    """Post a good event; its row id."""
    body = sample(**change)
    assert (await api.client.post("/api/events", json=body)).status_code == 202
    return int(await api.pool.fetchval("select id from event where source = '' and event_id = $1", body["eventId"]))


async def add_row(api: Api, table: str, **values: Any) -> int:
    """Insert one row as a consumer would have; answers its `id` (notification_id for an attempt)."""
    columns = ", ".join(values)
    places = ", ".join(f"${n}" for n in range(1, len(values) + 1))
    key = "notification_id" if table == "attempt" else "id"
    return int(await api.pool.fetchval(f"insert into {table} ({columns}) values ({places}) returning {key}", *values.values()))


def assert_problem(response: httpx2.Response, status: int, slug: str) -> dict[str, Any]:
    """The response is that problem; its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"] == f"urn:tidings:problem:{slug}"
    assert body["status"] == status
    assert body["detail"].endswith((".", ".)"))
    return body
