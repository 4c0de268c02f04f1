"""Real servers for every test: Valkey and PostgreSQL once per session; a cloned database and a flushed Valkey per test."""

import asyncio
import inspect
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import uvloop
from redis.asyncio import Redis

from app import local, schema
from app.settings import Settings, load_settings

TEMPLATE = "tidings_template"
database_numbers = count(1)


def pytest_configure() -> None:
    """Settings of the shell that runs the tests are not for the tests. The tests run on uvloop, as the processes do.

    By policy, not by pytest-asyncio's hook: that parametrizes async tests, and pytest then runs a module's sync tests after them.
    """
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    for name in [name for name in os.environ if name.lower() in Settings.model_fields]:
        del os.environ[name]


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: tests wait for processes more than they compute."""
    return (os.cpu_count() or 1) + 1


@dataclass(frozen=True, slots=True)
class Servers:
    """The session's servers. `postgres_url` ends where the name of a database follows."""

    redis_url: str
    postgres_url: str


def other_server() -> Path | None:
    """TEST_REDIS_SERVER: the path of a Redis or Valkey to run the tests against, instead of the wheel's."""
    named = os.environ.get("TEST_REDIS_SERVER")
    return Path(named) if named else None


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Valkey and PostgreSQL on free ports, data in a folder of their own. They die with this process, however it ends."""
    with tempfile.TemporaryDirectory(prefix="tidings-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # where PostgreSQL has to run as another user
        valkey = local.start_valkey(folder / "valkey", 0, binary=other_server())
        try:
            postgres = local.start_postgres(folder / "postgres", 0, options=local.FAST)
            try:
                yield Servers(valkey.url, postgres.url.removesuffix("tidings"))
            finally:
                postgres.stop()
        finally:
            valkey.stop()


@pytest.fixture(scope="session")
async def cluster(servers: Servers) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection that may create databases; the template has the schema."""
    await schema.apply(servers.postgres_url + TEMPLATE)
    connection = await asyncpg.connect(servers.postgres_url + "postgres")
    yield connection
    await connection.close()


@pytest.fixture
async def database_url(servers: Servers, cluster: "asyncpg.Connection[asyncpg.Record]") -> AsyncIterator[str]:
    """A database of this test's own, with the schema and no rows."""
    name = f"test_{next(database_numbers)}"
    await cluster.execute(f"create database {name} template {TEMPLATE} strategy wal_log")
    yield servers.postgres_url + name
    await cluster.execute(f"drop database {name} with (force)")


@pytest.fixture(scope="session")
async def session_redis(servers: Servers) -> AsyncIterator[Redis]:
    client = Redis.from_url(servers.redis_url, legacy_responses=False)
    yield client
    await client.aclose()


@pytest.fixture
async def redis_url(servers: Servers, session_redis: Redis) -> AsyncIterator[str]:
    """An empty Valkey. Afterwards: a key without expiry that is no stream of ours has been forgotten, and fails the test."""
    await session_redis.flushall()
    yield servers.redis_url
    forgotten = await keys_kept_for_ever(session_redis)
    assert not forgotten, f"left in Redis without expiry: {forgotten}"


async def keys_kept_for_ever(redis: Redis) -> list[str]:
    """Keys without expiry, but for the streams named `tidings:*`."""
    kept = []
    async for key in redis.scan_iter(count=1000):
        ours = key.startswith(b"tidings:") and await redis.type(key) == b"stream"
        if not ours and await redis.ttl(key) == -1:
            kept.append(key.decode(errors="replace"))
    return sorted(kept)


@pytest.fixture
def make_settings(redis_url: str, database_url: str) -> Callable[..., Settings]:
    """Settings for this test's servers: short times, providers that answer at once and never fail. Arguments override."""

    def make(**override: Any) -> Settings:
        quick = {f"simulated_{c}_{what}": 0 for c in ("email", "sms", "push") for what in ("latency_ms", "failure_rate")}
        known = {"redis_url": redis_url, "database_url": database_url, "reclaim_after_s": 2, "redis_timeout_s": 0.2}
        return load_settings(_env_file=None, **{**quick, **known, **override})

    return make


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings()


async def wait_until(fact: Callable[[], Any], within_s: float = 10, every_s: float = 0.01) -> Any:
    """Ask until `fact()` (plain or async) is true; return its answer. Raises AssertionError with the fact and its last answer."""
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    while True:
        answer = fact()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        if loop.time() > until:
            raise AssertionError(f"not so within {within_s:g} s (last answer {answer!r}): {_source(fact)}")
        await asyncio.sleep(every_s)


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[..., Awaitable[Any]]:
    return wait_until


def _source(fact: Callable[[], Any]) -> str:
    try:
        return " ".join(inspect.getsource(fact).split())
    except OSError:
        return repr(fact)
