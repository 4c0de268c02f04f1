"""The whole of Tidings as processes on real servers, with a provider that counts and a steady load, for one fault."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from redis.asyncio import Redis

from app import streams
from app.domain import Channel
from app.process import free_port, wait_or_kill
from app.settings import Settings, load_settings
from tests.conftest import wait_until
from tests.faults.load import Load
from tests.faults.provider import ProviderClient
from tests.faults.servers import Postgres, Valkey
from tests.processes import environment, start_process
from tests.proxy import Proxy

RECLAIM_AFTER_S = 3.0  # a machine that stalls for a second must not look like a fault
POLL_S = 0.05  # each look costs connections and the machine is small
QUICK = {
    "reclaim_after_s": RECLAIM_AFTER_S,
    "redis_timeout_s": 0.2,
    "email_waits_s": "0,0.3,0.6,1,3.5,3.5,3.5",  # of the window or longer: parked
    "sms_waits_s": "0,0.3,0.6,1,3.5",
    "push_waits_s": "0,0.3,0.6,1,3.5",
    "log_format": "json",
    **{f"{channel.lower()}_concurrency": 5 for channel in Channel},  # so few that a slow provider's work waits
}


@dataclass(slots=True)
class Part:
    """A process of ours that can be killed and started again; it adds to NAME.log."""

    name: str
    command: list[str]
    env: dict[str, str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, **env: str) -> None:
        self.process = start_process(self.command, {**self.env, **env}, self.folder, self.name)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, and it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def ended(self) -> int | None:
        assert self.process is not None
        return self.process.poll()


@dataclass(slots=True)
class System:
    """What a fault acts on. `api`, `consumers`: processes; `losses`: when Redis lost data, in s since 1970."""

    settings: Settings
    folder: Path
    valkey: Valkey
    postgres: Postgres
    database_url: str
    provider: ProviderClient
    api: Part
    consumers: list[Part]
    load: Load
    session: aiohttp.ClientSession
    redis_net: Proxy
    postgres_net: Proxy
    losses: list[float] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)

    # -- looking at it

    @asynccontextmanager
    async def database(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        connection = await asyncpg.connect(self.database_url)
        try:
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[Redis]:
        async with Redis.from_url(f"redis://127.0.0.1:{self.valkey.port}", legacy_responses=False) as client:
            yield client

    async def sql(self, query: str, *given: Any) -> Any:
        """One value."""
        async with self.database() as connection:
            return await connection.fetchval(query, *given)

    async def command(self, *words: Any) -> Any:
        """A command to the real server, past the proxy."""
        async with self.redis() as redis:
            return await redis.execute_command(*words)  # type: ignore[no-untyped-call]

    def noted(self) -> list[dict[str, Any]]:
        """The lines that consumers left (tests/faults/consumers.py)."""
        log = self.folder / "faults.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def in_mid_send(self) -> set[int]:
        """The notifications that were between send and record when a consumer did harm to itself."""
        return {row_id for fact in self.noted() for row_id in fact.get("in_mid_send", ())}

    @property
    def victim(self) -> Part:
        """The consumer process that faults pick."""
        return self.consumers[0]

    # -- waiting for facts

    async def flowing(self, more: int = 15) -> None:
        """Returns once so many more events were accepted, and as many messages received."""
        accepted, calls = len(self.load.accepted), len(await self.provider.calls())
        await self.until(lambda: len(self.load.accepted) >= accepted + more)
        await self.until(lambda: self._calls_from(calls + more))

    async def _calls_from(self, number: int) -> bool:
        return bool(await self.provider.calls(number))

    async def for_a_while(self, seconds: float) -> None:
        """A fault that lasts: the one place where time itself is what is waited for."""
        await asyncio.sleep(seconds)

    async def until(self, fact: Callable[[], Any], within_s: float = 20) -> Any:
        return await wait_until(fact, within_s, POLL_S)

    # -- acting

    async def restart(self, part: Part, **env: str) -> None:
        """As a supervisor does; returns once it is at work."""
        part.start(**env)
        at_work = self._answers if part is self.api else lambda: self._reads(part)
        await self.until(at_work)

    async def _answers(self) -> bool:
        try:
            async with self.session.get(f"{self.load.api_url}/healthz") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _reads(self, part: Part) -> bool:
        async with self.redis() as redis:
            consumers = await redis.xinfo_consumers(streams.EVENTS, streams.GROUP)
        return any(f"-{part.pid}-" in consumer["name"].decode() for consumer in consumers)

    def lost_data(self) -> None:
        self.losses.append(time.time())


@asynccontextmanager
async def started(
    folder: Path,
    valkey: Valkey,
    postgres: Postgres,
    database_url: str,
    consumers: int = 2,
    harm: str = "",
    without: str = "",
    **override: Any,
) -> AsyncIterator[System]:
    """A system that accepts and delivers, its load not yet begun; all of it gone afterwards.

    `harm`: what the first consumer process will do to itself; `without`: what none of them has (tests/faults/consumers.py).
    """
    redis_net = await Proxy(valkey.port).start()
    postgres_net = await Proxy(postgres.port).start()
    database = database_url.rpartition("/")[2]
    provider_port, api_port = free_port(0), free_port(0)
    provider_url = f"http://127.0.0.1:{provider_port}"
    settings = load_settings(
        _env_file=None,
        redis_url=f"redis://127.0.0.1:{redis_net.port}",
        database_url=f"postgresql://postgres@127.0.0.1:{postgres_net.port}/{database}",
        api_port=api_port,
        **{f"{channel}_provider": f"{provider_url}/send" for channel in ("email", "sms", "push")},
        **{**QUICK, **override},
    )
    env = {**environment(settings), "FAULT_LOG": str(folder / "faults.jsonl"), "FAULT_WITHOUT": without}
    provider = Part("provider", ["tests.faults.provider", str(provider_port)], env, folder)
    api = Part("api", ["app", "api"], env, folder)
    working = [Part(f"consumers-{n}", ["tests.faults.consumers"], env, folder) for n in range(consumers)]
    parts = [provider, api, *working]
    limit = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=limit, connector=aiohttp.TCPConnector(limit=0)) as session:
        client, api_url = ProviderClient(provider_url, session), f"http://127.0.0.1:{api_port}"
        load = Load(api_url, session)
        system = System(
            settings, folder, valkey, postgres, database_url, client, api, working, load, session, redis_net, postgres_net,
            parts=parts,
        )  # fmt: skip
        try:
            for part in parts:
                part.start(**({"FAULT": harm} if part is working[0] else {}))
            await system.until(client.answers)
            await system.until(system._answers)
            await system.until(lambda: _all_consume(system))
            yield system
        finally:
            _end(system)
            await redis_net.stop()
            await postgres_net.stop()


async def _all_consume(system: System) -> bool:
    """Has every consumer process read from the events stream once?"""
    try:
        async with system.redis() as redis:
            consumers = await redis.xinfo_consumers(streams.EVENTS, streams.GROUP)
    except Exception:
        return False
    return len(consumers) >= len(system.consumers)


def _end(system: System) -> None:
    for part in reversed(system.parts):
        if part.process is not None and part.process.poll() is None:
            part.process.send_signal(signal.SIGCONT)  # one that is stopped cannot end
            part.process.kill()
            wait_or_kill(part.process, 5)
    if system.load._run is not None:
        system.load._run.cancel()
