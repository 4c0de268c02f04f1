"""A duty that dies or hangs ends its process; a read that hangs is mended; a fault that lasts does not fill the log."""

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from app import local
from app.accept import Acceptor
from app.batches import Shared
from app.domain import Channel
from app.resources import Resources, open_reader, open_resources, read_within_s
from app.settings import Settings
from consumers.circuit import Circuit
from consumers.consumer import Consumer
from consumers.database import Database
from consumers.record import Recorder
from consumers.relay import Relay
from consumers.retention import Retention
from consumers.watch import Watch, watched_loop
from consumers.work import work
from tests.integration.api import closed_port
from tests.integration.consuming import consuming
from tests.processes import environment
from tests.proxy import Proxy
from tests.support import Scripted, add_notification, event

Wait = Callable[..., Awaitable[Any]]
MakeSettings = Callable[..., Settings]


async def fails(*_arguments: object) -> None:
    raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("part", "step"),
    [
        (Consumer, "_guarded_turn"),
        (Consumer, "_settle_batch"),
        (Recorder, "_record"),
        (Shared, "_answer"),
        (Relay, "sweep"),
        (Retention, "purge"),
        (Watch, "look"),
        (Circuit, "_tell"),
    ],
)
async def test_a_duty_that_dies_ends_all_of_them(
    resources: Resources, part: type, step: str, monkeypatch: pytest.MonkeyPatch, wait_until: Wait
) -> None:
    monkeypatch.setattr(part, step, fails)
    monkeypatch.setattr("consumers.watch.LOOK_EVERY_S", 0.01)
    monkeypatch.setattr("consumers.circuit.TELL_EVERY_S", 0.01)
    circuit_opens(monkeypatch)
    await add_notification(resources)  # the relay puts it on its stream
    provider: Any = Scripted()
    working = asyncio.ensure_future(work(resources, dict.fromkeys(Channel, provider), asyncio.Event()))
    await wait_until(lambda: working.done())
    failed = working.exception()
    assert isinstance(failed, ExceptionGroup)
    assert failed.subgroup(RuntimeError) is not None


def circuit_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each circuit has something to tell at once."""
    known = Circuit.__init__

    def opened(self: Circuit, *arguments: Any) -> None:
        known(self, *arguments)
        self._changed.set()

    monkeypatch.setattr(Circuit, "__init__", opened)


@pytest.mark.parametrize(
    ("harm", "line"),
    [
        ("consumers.relay.Relay.sweep = hang", "duty 'relay' has stood still for"),
        ("consumers.consumer.Consumer.turn = block", "nothing has run for 1 s, a call blocks the event loop"),
    ],
)
def test_a_process_that_hangs_ends_with_one_line(settings: Settings, tmp_path: Path, harm: str, line: str) -> None:
    script = f"""
import asyncio, threading
import consumers.consumer, consumers.relay, consumers.watch, consumers.work
from consumers.__main__ main as start
async def hang(*_): await asyncio.Event().wait()
async def block(*_): threading.Event().wait()  # for ever: the watch ends the process
{harm}
consumers.watch.hangs_after_s = lambda _: 1
watched_loop = consumers.watch.watched_loop
consumers.work.watched_loop = lambda _: watched_loop(1)
consumers.watch.LOOK_EVERY_S = 0.25
import sys
sys.argv[1:] = []
sys.exit(start())
""".replace("consumers.__main__ main", "consumers.__main__ import main")
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment(settings), cwd=tmp_path, capture_output=True, text=True, timeout=40
    )
    assert ended.returncode == 1
    said = [text for text in ended.stderr.splitlines() if text.startswith("tidings consumers:")]
    assert len(said) == 1, ended.stderr[-2000:]
    assert line in said[0]
    assert "Traceback" not in ended.stderr


async def test_a_process_that_goes_on_is_left_alone(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to do, and all the same every duty shows that it lives."""
    left: list[str] = []
    looks = looked(monkeypatch)
    monkeypatch.setattr("consumers.watch.leave", left.append)
    monkeypatch.setattr("consumers.watch.hangs_after_s", lambda _window_s: 1.0)
    async with consuming(resources), watched_loop(1.0, left.append):
        await asyncio.wait_for(looks.wait(), 20)
    assert left == []


def looked(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once the watch has looked three times."""
    known, enough, count = Watch.look, asyncio.Event(), iter(range(100))

    async def look(self: Watch) -> None:
        await known(self)
        if next(count) >= 3:
            enough.set()

    monkeypatch.setattr(Watch, "look", look)
    return enough


async def test_who_waits_for_a_server_does_not_hang(make_settings: MakeSettings) -> None:
    """A relay that stands still is no reason to end while Redis is away, or statements fail."""
    left: list[str] = []
    here, away = make_settings(), make_settings(redis_url=f"redis://127.0.0.1:{closed_port()}")
    async with open_resources(here, "test") as well, open_resources(away, "test") as cut_off:
        failing = Database()
        failing.failed_s = time.monotonic()
        for resources, database, expected in ((cut_off, Database(), 0), (well, failing, 0), (well, Database(), 1)):
            watch = Watch(resources, database, [], {"relay": lambda: 7}, left.append)
            for _ in range(31):
                await watch.look()
            assert len(left) == expected, left


async def test_an_event_loop_that_is_blocked_is_noticed(wait_until: Wait) -> None:
    left: list[str] = []
    async with watched_loop(1.0, left.append):
        until = time.monotonic() + 8
        while not left and time.monotonic() < until:
            time.sleep(0.05)  # noqa: ASYNC251 -- the fault
    assert left == ["nothing has run for 1 s, a call blocks the event loop: ending, so that this process is started anew"]


@asynccontextmanager
async def half_open(redis_url: str) -> AsyncIterator[Proxy]:
    """A way to Redis; `lose_all` makes what is open half open, new connections work."""
    way = await Proxy(urlsplit(redis_url).port or 6379).start()
    try:
        yield way
    finally:
        await way.stop()


def lose_all(way: Proxy) -> None:
    way.half_open()
    way.heal()


async def test_a_half_open_connection_heals_within_3_s(
    make_settings: MakeSettings, resources: Resources, wait_until: Wait
) -> None:
    """With the longest time limit that Redis may be given: the reads' own is shorter. All but the reads go straight."""
    provider = Scripted()
    async with half_open(resources.settings.redis_url) as way:
        slow = make_settings(redis_url=f"redis://127.0.0.1:{way.port}", redis_timeout_s=5, reclaim_after_s=60)
        async with (
            open_resources(slow, "test") as mine,
            consuming(replace(mine, redis=resources.redis), provider),
            Acceptor(resources).running() as acceptor,
        ):
            assert read_within_s(slow) == 2.5
            await acceptor.accept(event("before"))
            await wait_until(lambda: len(provider.calls) == 3)
            lose_all(way)
            began = time.monotonic()
            while len(provider.calls) == 3:  # the first is delivered to who cannot hear it, and is taken back after the window
                await acceptor.accept(event(user_id=f"u{time.monotonic()}"))
                await asyncio.sleep(0.02)
            assert time.monotonic() - began < 3.5


async def test_a_read_that_its_time_limit_does_not_end_is_ended_by_the_watch(resources: Resources, wait_until: Wait) -> None:
    provider = Scripted()
    async with half_open(resources.settings.redis_url) as way:
        deaf = open_reader(resources.settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{way.port}"}))
        deaf.connection_pool.connection_kwargs["socket_timeout"] = 3600
        with capture_logs() as lines:
            async with consuming(replace(resources, reader=deaf), provider), Acceptor(resources).running() as acceptor:
                await acceptor.accept(event())
                await wait_until(lambda: len(provider.calls) == 3)
                lose_all(way)
                await acceptor.accept(event())
                await wait_until(lambda: len(provider.calls) == 6)
        await deaf.aclose()
    assert 1 <= Counter(line["event"] for line in lines)["a read hangs: connecting anew"] <= 4, "once for each stream"


async def no_redis(resources: Resources) -> None:
    await resources.redis.shutdown(nosave=True)


async def out_of_memory(resources: Resources) -> None:
    await resources.redis.config_set("maxmemory", "1")


async def a_replica(resources: Resources) -> None:
    await resources.redis.replicaof("127.0.0.1", str(closed_port()))


async def no_attempts(resources: Resources) -> None:
    await resources.pool.execute("drop table attempt")


async def no_notifications(resources: Resources) -> None:
    await resources.pool.execute("drop table notification cascade")


async def no_events(resources: Resources) -> None:
    await resources.pool.execute("drop table event cascade")


@pytest.mark.parametrize("fault", [no_redis, out_of_memory, a_replica, no_attempts, no_notifications, no_events])
async def test_a_fault_that_lasts_is_said_once(
    make_settings: MakeSettings, tmp_path: Path, fault: Callable[[Resources], Awaitable[None]], wait_until: Wait
) -> None:
    valkey, lasts_s = local.start_valkey(tmp_path / "valkey", 0), 2.0
    try:
        async with open_resources(make_settings(redis_url=valkey.url), "test") as resources:
            with capture_logs() as lines:
                await under_load(resources, fault, lasts_s)
    finally:
        valkey.stop()
    told = [line for line in lines if line["log_level"] not in ("info", "debug") and "notification_id" not in line]  # no moves
    troubles = Counter((line["event"], line.get("stream")) for line in told)
    assert troubles, "it is said"
    assert max(troubles.values()) <= 2, troubles


async def under_load(resources: Resources, fault: Callable[[Resources], Awaitable[None]], lasts_s: float) -> None:
    """Events are posted and sent, then comes the fault, and they are still posted; cut off in the end, not drained."""
    stopping, provider = asyncio.Event(), Scripted()
    working = asyncio.ensure_future(work(resources, dict.fromkeys(Channel, provider), stopping))
    accepting = asyncio.ensure_future(accept_for_ever(resources))
    async with asyncio.timeout(20):
        while len(provider.calls) < 30:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await fault(resources)
    await asyncio.wait([working, accepting], timeout=lasts_s)
    ended = [task for task in (working, accepting) if task.done()]
    for task in (working, accepting):
        task.cancel()
    _, hanging = await asyncio.wait([working, accepting], timeout=10)
    assert not ended, ended[0].exception()
    assert not hanging, [task.get_stack() for task in asyncio.all_tasks()]


async def accept_for_ever(resources: Resources) -> None:
    async with Acceptor(resources).running() as acceptor:
        number = 0
        while True:
            number += 1
            await asyncio.gather(*(acceptor.accept(event(user_id=f"u{number}")) for _ in range(3)), return_exceptions=True)
            await asyncio.sleep(0.01)
