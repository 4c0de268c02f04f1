"""One look for all who listen: what it costs, who is told what, and how it ends."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from app.process import free_port
from app.resources import Resources, open_engine
from app.settings import Settings
from tests import support
from tests.processes import environment, process
from web import collector as collecting
from web.collector import Collector
from web.live import new_collector

Wait = Callable[..., Awaitable[Any]]
BASE = "/admin/queues"


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    async with open_engine(settings, "web") as engine:
        yield engine


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten looks a second."""
    monkeypatch.setattr(collecting, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(collecting, "LATELY_EVERY_S", 0.5)


@pytest.fixture
async def collector(quick: None, settings: Settings, engine: AsyncEngine, resources: Resources) -> AsyncIterator[Collector]:
    collector = new_collector(settings, engine, resources.redis)
    yield collector
    collector.close()


class Statements:
    """Counts what this engine sends to PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.n = 0
        sqlalchemy.event.listen(engine.sync_engine, "before_cursor_execute", self._one)

    def _one(self, *_: Any) -> None:
        self.n += 1


async def take(listener: AsyncIterator[bytes], number: int) -> list[bytes]:
    return [await anext(listener) for _ in range(number)]


async def commands(redis: Redis) -> int:
    """What Redis was asked so far, without this."""
    return int((await redis.info("stats"))["total_commands_processed"])


async def cost(collector: Collector, engine: AsyncEngine, redis: Redis, listeners: int, looks: int = 10) -> tuple[int, int]:
    """Statements and Redis commands of so many looks while so many listen, on all topics."""
    topics = sorted(collector.topics)
    heard = [collector.listen(topics[i % len(topics)]) for i in range(listeners)]
    await asyncio.gather(*(take(one, 1) for one in heard))
    statements, before = Statements(engine), await commands(redis)
    await asyncio.gather(*(take(one, looks) for one in heard))
    asked = statements.n, await commands(redis) - before
    await asyncio.gather(*(one.aclose() for one in heard))  # type: ignore[attr-defined]
    return asked


async def test_fifty_listeners_cost_what_one_does(collector: Collector, engine: AsyncEngine, resources: Resources) -> None:
    one = await cost(collector, engine, resources.redis, 1)
    await asyncio.sleep(0)
    fifty = await cost(collector, engine, resources.redis, 50)
    assert one[0] > 10
    assert fifty[0] <= one[0] * 3, (one, fifty)
    assert fifty[1] <= one[1] * 3, (one, fifty)


async def test_nobody_listens_and_nothing_is_asked(collector: Collector, engine: AsyncEngine, wait_until: Wait) -> None:
    listener = collector.listen("overview")
    await take(listener, 2)
    await listener.aclose()  # type: ignore[attr-defined]
    await wait_until(lambda: collector._work is not None and collector._work.done())
    statements = Statements(engine)
    await asyncio.sleep(0)
    assert (collector.listeners, statements.n) == (0, 0)


async def test_all_are_told_the_same_bytes_and_ticks_when_nothing_changed(collector: Collector) -> None:
    first, second = collector.listen("health"), collector.listen("health")
    (a,), (b,) = await asyncio.gather(take(first, 1), take(second, 1))
    assert a == b
    assert b"event: page" in a
    [later] = await take(first, 1)
    assert later.startswith(b"event: tick\ndata: 20")
    assert b"event: page" not in later


async def test_a_change_is_told(collector: Collector, resources: Resources) -> None:
    listener = collector.listen("overview")
    await take(listener, 1)
    await support.add_notification(resources, event_id="evt-new")
    async with asyncio.timeout(10):
        while b"evt-new" not in (await take(listener, 1))[0]:
            pass


async def test_a_slow_listener_misses_looks_and_holds_up_nobody(collector: Collector) -> None:
    slow, quick = collector.listen("health"), collector.listen("health")
    await asyncio.gather(take(slow, 1), take(quick, 1))
    async with asyncio.timeout(10):
        await take(quick, 5)
        await take(slow, 1)


async def test_a_look_that_goes_wrong_ends_nothing(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = collector.listen("health")
    await take(listener, 1)
    with monkeypatch.context() as broken:
        broken.setattr(collecting, "look_now", lambda *_: 1 / 0)
        await take(listener, 2)
    async with asyncio.timeout(5):
        await take(listener, 3)


async def test_closing_ends_all_listeners(collector: Collector) -> None:
    listeners = [collector.listen("streams") for _ in range(5)]
    await asyncio.gather(*(take(one, 1) for one in listeners))
    collector.close()
    ends = await asyncio.gather(*(_rest(one) for one in listeners))
    assert all(len(rest) <= 1 for rest in ends)
    assert collector.full


async def _rest(listener: AsyncIterator[bytes]) -> list[bytes]:
    return [told async for told in listener]


# ---- over HTTP, in a process of its own


@pytest.fixture
def dashboard(settings: Settings, tmp_path: Path) -> Any:
    """A running dashboard: the process, and its address."""
    port = free_port(0)
    with process(["web"], environment(settings, dashboard_port=port), tmp_path) as child:
        yield child, f"http://127.0.0.1:{port}{BASE}"


async def up(url: str) -> bool:
    try:
        async with httpx2.AsyncClient() as client:
            return (await client.get(url, timeout=5)).status_code == 200
    except httpx2.TransportError:
        return False


async def events(stream: httpx2.Response) -> AsyncIterator[tuple[str, str]]:
    """(event, data) of a stream of server-sent events."""
    kind = ""
    async for line in stream.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, value


async def test_a_browser_is_told_how_it_is(dashboard: Any, resources: Resources, wait_until: Wait) -> None:
    _, url = dashboard
    await wait_until(lambda: up(url), within_s=20)
    async with httpx2.AsyncClient(timeout=10) as client, client.stream("GET", f"{url}/live?topic=overview") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert "unsafe" not in stream.headers["content-security-policy"]
        heard = events(stream)
        told = json.loads(dict([await anext(heard), await anext(heard)])["page"])
    assert told["headline"] == "Every stream: no consumer is connected. Nothing waits yet."
    assert set(told["parts"]) == {"now", "lately"}


async def test_a_topic_that_there_is_none_of(dashboard: Any, wait_until: Wait) -> None:
    _, url = dashboard
    await wait_until(lambda: up(url), within_s=20)
    async with httpx2.AsyncClient() as client:
        assert (await client.get(f"{url}/live?topic=../x")).status_code == 404


async def test_sigterm_with_open_streams_ends_at_once_and_without_an_error(
    dashboard: Any, resources: Resources, tmp_path: Path, wait_until: Wait
) -> None:
    child, url = dashboard
    await wait_until(lambda: up(url), within_s=20)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx2.AsyncClient(timeout=10))
        opened = [await stack.enter_async_context(client.stream("GET", f"{url}/live?topic=health")) for _ in range(5)]
        for stream in opened:
            await anext(events(stream))
        child.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(child.wait, 3) == 0
    log = (tmp_path / "web.log").read_text()
    assert "Traceback" not in log
    assert "error" not in log.lower()


async def test_a_browser_that_goes_is_forgotten(dashboard: Any, resources: Resources, wait_until: Wait) -> None:
    _, url = dashboard
    await wait_until(lambda: up(url), within_s=20)
    asked = "select max(query_start) > now() - interval '0.5 s' from pg_stat_activity where application_name = 'tidings web'"
    quiet = asked.replace(">", "<").replace("0.5 s", "2.2 s")  # for longer than two looks take
    async with httpx2.AsyncClient(timeout=10) as client, client.stream("GET", f"{url}/live") as stream:
        await anext(events(stream))
        await wait_until(lambda: resources.pool.fetchval(asked))
    await wait_until(lambda: resources.pool.fetchval(quiet))
