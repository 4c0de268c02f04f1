"""How fast is the whole system? `python -m benchmarks.pipeline`: one API and one consumer process, instant providers; a minute.

Prints the time from POST to the third SENT, one event at a time on an idle system; events/s from the first POST to the last row
SENT; resident memory of the consumer process with 100,000 events waiting. Everything runs on this machine, the load included.
"""

import argparse
import asyncio
import logging
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil
import structlog
import uvloop

from app import local, schema
from app.accept import Acceptor
from app.resources import open_resources
from app.settings import Settings, load_settings
from benchmarks.http import Client
from tests.processes import api_process, environment, process
from tests.support import event

CONNECTIONS = 64
INSTANT = {f"simulated_{c}_{what}": 0 for c in ("email", "sms", "push") for what in ("latency_ms", "failure_rate")}


@dataclass(frozen=True, slots=True)
class System:
    """What is running: settings that name its servers, a folder for logs, and a connection to look with."""

    settings: Settings
    folder: Path
    database: "asyncpg.Connection[asyncpg.Record]"

    async def sent(self) -> int:
        count: int = await self.database.fetchval("select count(*) from notification where final_status = 'SENT'")
        return count


@asynccontextmanager
async def system(log_level: str) -> AsyncIterator[System]:
    """Real servers with their default durability (fsync on), data in a folder that goes away."""
    async with AsyncExitStack() as stack:
        folder = scratch(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidings-bench-")))
        valkey = local.start_valkey(folder / "valkey", 0)
        stack.callback(valkey.stop)
        postgres = local.start_postgres(folder / "postgres", 0)
        stack.callback(postgres.stop)
        await schema.apply(postgres.url)
        settings = load_settings(
            _env_file=None,
            redis_url=valkey.url,
            database_url=postgres.url,
            rate_limit_per_user=1_000_000,
            log_level=log_level,
            **INSTANT,
        )
        database = await asyncpg.connect(postgres.url)
        stack.push_async_callback(database.close)
        yield System(settings, folder, database)


def scratch(name: str) -> Path:
    folder = Path(name)
    folder.chmod(0o711)  # where PostgreSQL has to run as another user
    return folder


async def latency_ms(running: System, address: str, events: int) -> list[float]:
    """POST to third SENT, one event at a time."""
    took: list[float] = []
    sent = await running.sent()
    async with Client(address) as client:
        for number in range(events):
            began = time.perf_counter()
            assert await client.post("/api/events", body(f"one-{number}", number)) == 202
            await until(running.sent, sent + 3 * (number + 1), 0.0005)
            took.append((time.perf_counter() - began) * 1000)
    return took


async def throughput(running: System, address: str, events: int) -> tuple[float, float]:
    """(accepted events/s, events/s from the first POST to the last SENT)."""
    sent = await running.sent()
    began = time.perf_counter()
    numbers = iter(range(events))
    await asyncio.gather(*(post_all(address, lambda: next(numbers, None)) for _ in range(CONNECTIONS)))
    accepted_s = time.perf_counter() - began
    await until(running.sent, sent + 3 * events, 0.02)
    return events / accepted_s, events / (time.perf_counter() - began)


async def post_all(address: str, next_number: Callable[[], int | None]) -> None:
    async with Client(address) as client:
        while (number := next_number()) is not None:
            assert await client.post("/api/events", body(f"many-{number}", number)) == 202


async def waiting_memory_mb(running: System, events: int, watch_s: float) -> float:
    """Peak resident memory of a consumer process that works on a backlog of `events`, in MB."""
    async with open_resources(running.settings, "benchmark") as resources, Acceptor(resources).running() as acceptor:
        for start in range(0, events, 10_000):
            numbers = range(start, min(events, start + 10_000))
            await asyncio.gather(*(acceptor.accept(event(user_id=f"user_{n}")) for n in numbers))
    with process(["consumers"], environment(running.settings), running.folder) as consumers:
        await asyncio.sleep(watch_s)
        return peak_memory_mb(consumers.pid)


def peak_memory_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def body(event_id: str, number: int) -> bytes:
    return (
        b'{"eventId":"%s","eventType":"ORDER_PLACED","userId":"user_%d",'
        b'"payload":{"orderAmount":250,"items":["Laptop","Mouse"]},"timestamp":"2026-03-31T16:30:00Z"}'
    ) % (event_id.encode(), number)


async def main(options: argparse.Namespace) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))  # of this process alone
    async with system(options.log_level) as running:
        await whole_system(running, options.single, options.events)
        memory_mb = await waiting_memory_mb(running, options.waiting, 10)
        print(f"consumer process with {options.waiting} events waiting: {memory_mb:.0f} MB resident at most")


async def whole_system(running: System, single: int, events: int) -> None:
    env = environment(running.settings)
    with api_process(running.settings, running.folder) as address, process(["consumers"], env, running.folder):
        await until_up(address)
        took = (await latency_ms(running, address, single + 20))[20:]
        median, p99 = statistics.median(took), quantile(took, 0.99)
        print(f"POST to third SENT, one at a time: median {median:.1f} ms, p99 {p99:.1f} ms")
        before = cpu_s()
        accepted, whole = await throughput(running, address, events)
        print(f"{events} events: {accepted:,.0f} accepted/s; first POST to last SENT {whole:,.0f} events/s")
        spent = {name: (cpu_s()[name] - began_s) * 1e6 / events for name, began_s in before.items()}
        print("CPU us per event: " + ", ".join(f"{name} {us:.0f}" for name, us in spent.items()))


def cpu_s() -> dict[str, float]:
    """Seconds of CPU so far: the load (this process), and its children by name."""
    own = psutil.Process()
    seconds: dict[str, float] = {"load": sum(own.cpu_times()[:2])}
    for child in own.children(recursive=True):
        command = " ".join(child.cmdline())
        name = next((n for n in ("consumers", "app api", "valkey", "postgres") if n in command), "other")
        seconds[name] = seconds.get(name, 0.0) + sum(child.cpu_times()[:2])
    return seconds


async def until(count: Callable[[], Awaitable[int]], wanted: int, pause_s: float) -> None:
    while await count() < wanted:  # noqa: ASYNC110 -- what we wait for is in another process
        await asyncio.sleep(pause_s)


async def until_up(address: str) -> None:
    while True:
        try:
            async with Client(address) as client:
                if await client.get("/readyz") == 200:
                    return
        except OSError:
            await asyncio.sleep(0.05)


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m benchmarks.pipeline")
    parser.add_argument("--single", type=int, default=200, help="events sent one at a time (200)")
    parser.add_argument("--events", type=int, default=20_000, help="events sent at once (20000)")
    parser.add_argument("--waiting", type=int, default=100_000, help="events waiting while memory is measured (100000)")
    parser.add_argument(
        "--log-level", default="info", help="of the API and the consumers, which write their logs to a file (info)"
    )
    uvloop.run(main(parser.parse_args()))
