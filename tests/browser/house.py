"""What the browser tests look at: the processes, and a history that has something on each page."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
from redis.asyncio import Redis

from app.process import free_port
from app.resources import open_redis
from app.seed import seed
from app.settings import Settings
from app.streams import DEAD
from tests.conftest import wait_until
from tests.processes import ROOT, environment, process

SHOTS = ROOT / "build" / "screenshots"
QUICK = {f"simulated_{c}_{what}": 0 for c in ("email", "sms", "push") for what in ("latency_ms", "failure_rate")}
TIMES: dict[str, Any] = {"reclaim_after_s": 10, "redis_timeout_s": 1, "rate_limit_per_user": 1000, **QUICK}
STARTED_WITHIN_S = 30


@dataclass(frozen=True, slots=True)
class House:
    """`web` and `api` are addresses."""

    settings: Settings
    web: str
    api: str
    client: httpx2.AsyncClient
    pool: "asyncpg.Pool[asyncpg.Record]"
    redis: Redis

    async def post(self, event_id: str, user: str = "user_1", **other: Any) -> None:
        """An event, accepted."""
        sample = {"eventId": event_id, "eventType": "ORDER_PLACED", "userId": user, "timestamp": "2026-03-31T16:30:00Z"}
        payload = {"orderAmount": 250, "items": ["Laptop", "Mouse"]}
        answer = await self.client.post("/api/events", json={"payload": payload, **sample, **other})
        assert answer.status_code == 202, answer.text

    async def event_pk(self, event_id: str) -> int:
        return int(await self.pool.fetchval("select id from event where event_id = $1", event_id))

    async def done(self, event_id: str) -> None:
        """Until all notifications of this event have ended."""
        query = "select bool_and(n.done) from event e join notification n on n.event_pk = e.id where e.event_id = $1"
        await wait_until(lambda: self.pool.fetchval(query, event_id))

    async def fail(
        self, event_id: str, status: str = "FAILED", reason: str = "rejected", error: str = "550 no such mailbox"
    ) -> None:
        """All notifications of this event have ended so."""
        change = "update notification set status = $2, reason = $3, error = $4 where event_pk = $1"
        await self.pool.execute(change, await self.event_pk(event_id), status, reason, error)


@asynccontextmanager
async def build_house(settings: Settings, folder: Path, started: ExitStack) -> AsyncIterator[House]:
    """Its processes end with `started`."""
    web_port, api_port = free_port(0), free_port(0)
    web, api = f"http://127.0.0.1:{web_port}", f"http://127.0.0.1:{api_port}"
    env = environment(settings, api_port=api_port, dashboard_port=web_port)
    for command in (["app", "api"], ["consumers"], ["web"]):
        started.enter_context(process(command, env, folder))
    redis = open_redis(settings)
    async with (
        httpx2.AsyncClient(base_url=api) as client,
        asyncpg.create_pool(settings.database_url, min_size=0, max_size=4) as pool,
    ):
        house = House(settings, web, api, client, pool, redis)
        async with pool.acquire() as connection:
            await seed(connection)
        await asyncio.gather(_answers(f"{api}/readyz", client), _answers(web, client))
        await _furnish(house)
        yield house
    await redis.aclose()


async def _answers(url: str, client: httpx2.AsyncClient) -> None:
    async def asked() -> bool:
        try:
            return (await client.get(url, timeout=5)).status_code < 500
        except httpx2.TransportError:
            return False

    await wait_until(asked, within_s=STARTED_WITHIN_S, every_s=0.1)


async def _furnish(house: House) -> None:
    """Beside what `tidings seed` tells: fresh events, a message with markup, an entry that no row explains."""
    await house.post("hello-1", user="ann")
    markup = "<script>alert(1)</script><b>bold</b>"
    await house.post(markup, user=markup, eventType=markup, payload={"message": markup, markup: [markup]})
    await house.redis.xadd(DEAD, {"reason": markup, "stream": "tidings:{0}:email", "entry": "1-0", "deliveries": 9})
    await asyncio.gather(house.done("hello-1"), house.done(markup))
