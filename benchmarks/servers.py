"""The servers of a run, as durable as in production, and an empty database and Valkey for each measurement."""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypeAlias

import asyncpg
from redis.asyncio import Redis

from app import local

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

# With it each row's transaction tells when it was committed: nobody has to poll for SENT, which would be load.
OPTIONS = ("-c", "track_commit_timestamp=on")
database_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Servers:
    """`postgres_url` ends where the name of a database follows."""

    folder: Path
    redis_url: str
    postgres_url: str
    valkey_pid: int
    postgres_pid: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where one measurement runs: a database of its own with empty tables, an empty Valkey, and connections to look at both."""

    servers: Servers
    database_url: str
    database: Connection
    redis: Redis

    @property
    def folder(self) -> Path:
        return self.servers.folder


@contextmanager
def running_servers() -> Iterator[Servers]:
    """Valkey (append-only file) and PostgreSQL (fsync, synchronous commit), data in a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="tidings-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # where PostgreSQL has to run as another user
        valkey = local.start_valkey(folder / "valkey", 0)
        try:
            postgres = local.start_postgres(folder / "postgres", 0, options=OPTIONS)
            try:
                url = postgres.url.removesuffix("tidings")
                yield Servers(folder, valkey.url, url, valkey.process.pid, postgres.process.pid)
            finally:
                postgres.stop()
        finally:
            valkey.stop()


async def make_template(servers: Servers, name: str, create_tables: Callable[[str], Awaitable[None]]) -> None:
    """A database that has the tables of one subject, to be copied for each of its measurements."""
    cluster = await asyncpg.connect(servers.postgres_url + "postgres")
    await cluster.execute(f"create database {name}")
    await cluster.close()
    await create_tables(servers.postgres_url + name)


@asynccontextmanager
async def fresh_place(servers: Servers, template: str) -> AsyncIterator[Place]:
    """A copy of the template and a flushed Valkey; the database is dropped afterwards."""
    cluster = await asyncpg.connect(servers.postgres_url + "postgres")
    redis = Redis.from_url(servers.redis_url, legacy_responses=False)
    name = f"bench_{next(database_numbers)}"
    try:
        await redis.flushall()
        await cluster.execute(f"create database {name} template {template} strategy wal_log")
        await cluster.execute("checkpoint")  # so that none is due in mid-measurement for what came before
        database = await asyncpg.connect(servers.postgres_url + name)
        try:
            yield Place(servers, servers.postgres_url + name, database, redis)
        finally:
            await database.close()
    finally:
        await cluster.execute(f"drop database if exists {name} with (force)")
        await cluster.close()
        await redis.aclose()


async def versions(postgres_url: str, redis_url: str) -> tuple[str, str]:
    """Of PostgreSQL and Valkey."""
    cluster = await asyncpg.connect(postgres_url)
    redis = Redis.from_url(redis_url, legacy_responses=False)
    try:
        info = await redis.info("server")
        return (await cluster.fetchval("show server_version")).split()[0], str(info.get("valkey_version", info["redis_version"]))
    finally:
        await cluster.close()
        await redis.aclose()
