"""The same job built the usual way, to compare with: starts the Node program in benchmarks/peer/ on given servers.

`python -m benchmarks.peer [pg] [prisma]` installs it.
Its Redis and its database are its own: its keys have no prefix of ours, and its tables have names that we use too.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import asyncpg
from redis.asyncio import Redis

from app.process import die_with_parent, free_port, wait_or_kill

Storage = Literal["pg", "pipeline", "prisma"]

PEER = Path(__file__).with_suffix("")
PRISMA = PEER / "prisma"
OLDEST_NODE = (20, 19)
NOOP_CONCURRENCY = 200  # the best of 25 to 500
START_S = 20
WAITING, HELD, MARKER = (f"bull:notification-queue:{key}" for key in ("wait", "held", "marker"))

# BullMQ takes jobs from the right. The marker is what an idle worker waits for.
RELEASE = """
for _ = 1, tonumber(ARGV[1]) do
  redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT')
end
redis.call('ZADD', KEYS[3], 0, '0')
"""


class PeerProblem(Exception):
    """One line: why the peer does not run."""


def missing() -> str | None:
    """Why the peer cannot run here, in a sentence; None where it can."""
    absent = [name for name in ("node", "npm") if shutil.which(name) is None]
    if absent:
        return f"{' and '.join(absent)} not found: the peer needs Node {'.'.join(map(str, OLDEST_NODE))} or later with npm"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    if tuple(int(part) for part in version.removeprefix("v").split(".")[:2]) < OLDEST_NODE:
        return f"Node {version} is too old for the peer: it needs {'.'.join(map(str, OLDEST_NODE))} or later"
    return None


def installed(storage: Storage = "pg") -> bool:
    """Is what `install` makes there, of the versions that are pinned now?"""
    folders = (PEER, PRISMA) if storage == "prisma" else (PEER,)
    return all(_stamp(folder).is_file() and _stamp(folder).read_text() == _pins(folder) for folder in folders)


def install(storage: Storage = "pg") -> None:
    """What the lock files pin, into node_modules beside them; nothing where it is there. Raises PeerProblem.

    "prisma" is apart, being ten times as large. Its client has no engine, so none is downloaded: no script of a package is run,
    and where it looks for the schema engine, which only migrations use, it finds a file that it never runs.
    """
    _install(PEER)
    if storage == "prisma":
        _install(PRISMA, ["npx", "--no-install", "prisma", "generate", "--schema", "schema.prisma"])


@contextmanager
def peer_api(redis_url: str, database_url: str, folder: Path, storage: Storage = "pg") -> Iterator[str]:
    """The API process; its address, once it answers. Whatever `storage` is, it only queues. Raises PeerProblem."""
    port = free_port(0)
    environment = _environment(redis_url, database_url, port=port, storage=storage)
    with _node(["server.mjs"], environment, folder) as process:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/readyz", process, folder / "server.log")
        yield address


@contextmanager
def peer_worker(
    redis_url: str, database_url: str, folder: Path, storage: Storage = "pg", concurrency: int = 100
) -> Iterator["subprocess.Popen[bytes]"]:
    """One worker process, at work until the end of the block. Nobody is told too often: the limit per user is out of reach."""
    environment = _environment(
        redis_url, database_url, storage=storage, concurrency=concurrency, rate_limit_per_minute=1_000_000_000
    )
    with _node(["worker.mjs"], environment, folder) as process:
        yield process


async def create_tables(database_url: str) -> None:
    """The peer's two tables, where they are not there yet; a database of its own."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute((PEER / "schema.sql").read_text())
    finally:
        await connection.close()


async def sent(database: "asyncpg.Connection[asyncpg.Record]") -> int:
    """Rows SENT: three for each event."""
    count: int = await database.fetchval("select count(*) from notification where status = 'SENT'")
    return count


async def fill(redis_url: str, events: int) -> None:
    """Put events on the queue, with no worker there; all of them are on it when this returns. Raises PeerProblem."""
    waiting = int(await _output(["fill.mjs", str(events)], redis_url))
    if waiting != events:
        raise PeerProblem(f"{waiting} events are on the peer's queue where {events} were put: it was not empty, or a worker runs")


async def hold(redis_url: str) -> None:
    """Keep what `fill` put on the queue from the workers, so that they can start first and a clock need not count their start."""
    async with Redis.from_url(redis_url, legacy_responses=False) as redis:
        await redis.rename(WAITING, HELD)


async def release(redis_url: str, events: int) -> None:
    """Let them have the next of it, at once."""
    async with Redis.from_url(redis_url, legacy_responses=False) as redis:
        await redis.eval(RELEASE, 3, HELD, WAITING, MARKER, str(events))


async def waiting_workers(redis_url: str) -> int:
    """How many workers are up, with nothing to do."""
    async with Redis.from_url(redis_url, legacy_responses=False) as redis:
        return sum(client["cmd"] == "bzpopmin" for client in await redis.client_list())


async def noop_drain(redis_url: str, jobs: int, concurrency: int = NOOP_CONCURRENCY) -> float:
    """Jobs/s of BullMQ alone: jobs that do nothing, from a full queue to the last one done, warmed up. Raises PeerProblem."""
    return float(await _output(["noop.mjs", str(jobs)], redis_url, concurrency=concurrency))


def _install(folder: Path, then: list[str] | None = None) -> None:
    if _stamp(folder).is_file() and _stamp(folder).read_text() == _pins(folder):
        return
    environment = {**os.environ, "PRISMA_SCHEMA_ENGINE_BINARY": __file__, "CHECKPOINT_DISABLE": "1"}
    for command in [["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], *([then] if then else [])]:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PeerProblem(f"`{' '.join(command)}` in {folder} failed: {_last_line(done.stderr or done.stdout)}")
    _stamp(folder).write_text(_pins(folder))


def _stamp(folder: Path) -> Path:
    return folder / "node_modules" / ".installed"


def _pins(folder: Path) -> str:
    return "".join(path.read_text() for path in (folder / "package-lock.json", folder / "schema.prisma") if path.is_file())


@contextmanager
def _node(command: list[str], environment: dict[str, str], folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`node COMMAND`; what it says goes to `folder`/NAME.log. Killed at the end; it dies with us."""
    with (folder / f"{Path(command[0]).stem}.log").open("ab") as log:
        process = subprocess.Popen(
            ["node", PEER / command[0], *command[1:]],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
    try:
        yield process
    finally:
        wait_or_kill(process, 0)


async def _output(command: list[str], redis_url: str, **settings: object) -> str:
    process = await asyncio.create_subprocess_exec(
        "node",
        PEER / command[0],
        *command[1:],
        env=_environment(redis_url, "", **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=die_with_parent(signal.SIGKILL),
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise PeerProblem(f"the peer's {command[0]} failed: {_last_line(err.decode())}")
    return out.decode()


def _environment(redis_url: str, database_url: str, **settings: object) -> dict[str, str]:
    named = {name.upper(): str(value) for name, value in settings.items()}
    return {**os.environ, "NODE_ENV": "production", "REDIS_URL": redis_url, "DATABASE_URL": database_url, **named}


def _wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(address, timeout=1):  # noqa: S310 -- our own process
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise PeerProblem(f"the peer's API does not answer: {_last_line(log.read_text())}")


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return next((line.strip() for line in reversed(lines) if "rror" in line), lines[-1].strip() if lines else "it said nothing")


if __name__ == "__main__":
    try:
        if why := missing():
            raise PeerProblem(why)
        for name in get_args(Storage):
            if name in (sys.argv[1:] or ["pg"]):
                install(name)
    except PeerProblem as problem:
        sys.exit(str(problem))
