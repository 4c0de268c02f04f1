"""The peer that the benchmarks compare with does its job, too. Skipped where it is not installed: `python -m benchmarks.peer`."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import get_args

import asyncpg
import httpx2
import pytest
from redis.asyncio import Redis

from benchmarks import peer
from tests.conftest import Servers, wait_until


@pytest.fixture(params=get_args(peer.Storage))
def storage(request: pytest.FixtureRequest) -> peer.Storage:
    chosen: peer.Storage = request.param
    if (why := peer.missing()) or not peer.installed(chosen):
        pytest.skip(why or f"the peer ({chosen}) is not installed: python -m benchmarks.peer {chosen}")
    return chosen


@pytest.fixture
async def queue(servers: Servers) -> AsyncIterator[Redis]:
    """A Redis database of the peer's own, flushed."""
    client = Redis.from_url(f"{servers.redis_url}/1", legacy_responses=False)
    await client.flushdb()
    yield client
    await client.flushdb()
    await client.aclose()


@pytest.fixture
async def database(
    servers: Servers, cluster: "asyncpg.Connection[asyncpg.Record]", storage: peer.Storage
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    await cluster.execute(f"create database peer_{storage}")
    await peer.create_tables(f"{servers.postgres_url}peer_{storage}")
    connection = await asyncpg.connect(f"{servers.postgres_url}peer_{storage}")
    yield connection
    await connection.close()
    await cluster.execute(f"drop database peer_{storage} with (force)")


@pytest.fixture
def address(
    servers: Servers, queue: Redis, database: "asyncpg.Connection[asyncpg.Record]", storage: peer.Storage, tmp_path: Path
) -> Iterator[str]:
    """The peer at work: its API's address."""
    urls = f"{servers.redis_url}/1", f"{servers.postgres_url}peer_{storage}"
    with peer.peer_api(*urls, tmp_path) as address, peer.peer_worker(*urls, tmp_path, storage):
        yield address


async def test_each_event_is_delivered_once_on_the_channels_its_user_takes(
    address: str, queue: Redis, database: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await database.execute("insert into user_preferences (user_id, sms_opt_in) values ('user_2', false)")
    async with httpx2.AsyncClient(base_url=address) as client:
        assert await _post(client, {"eventId": "evt-1"}) == 400
        for number in (1, 1, 2):
            assert await _post(client, _event(number)) == 202
        await wait_until(lambda: _completed(queue, 2))
        first = await _rows(database)
        assert [row[:3] for row in first] == [
            *(("evt-1", channel, "SENT") for channel in ("EMAIL", "PUSH", "SMS")),
            *(("evt-2", channel, "SENT") for channel in ("EMAIL", "PUSH")),
        ]
        await queue.flushdb()  # the queue has forgotten the event, the table has not
        assert await _post(client, _event(1)) == 202
        await wait_until(lambda: _completed(queue, 1))
        assert await _rows(database) == first


def _event(number: int) -> dict[str, object]:
    sample = {"eventType": "ORDER_PLACED", "payload": {"orderAmount": 250}, "timestamp": "2026-03-31T16:30:00Z"}
    return {"eventId": f"evt-{number}", "userId": f"user_{number}", **sample}


async def _post(client: httpx2.AsyncClient, event: dict[str, object]) -> int:
    return (await client.post("/api/events", json=event)).status_code


async def _rows(database: "asyncpg.Connection[asyncpg.Record]") -> list[tuple[object, ...]]:
    rows = await database.fetch("select event_id, channel, status, updated_at from notification order by 1, 2")
    return [tuple(row) for row in rows]


async def _completed(queue: Redis, jobs: int) -> bool:
    return bool(await queue.zcard("bull:notification-queue:completed") == jobs)
