"""The API as a process and on a real socket: start, readiness, large bodies, and the way out."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import httpx2
import pytest

from app.api.server import main
from app.domain import Channel
from app.listen import PortProblem, listen
from app.pauses import Pause, tell_pause
from app.settings import Settings
from app.store.hold import hold
from tests.conftest import wait_until
from tests.integration.api import (
    Api,
    assert_problem,
    closed_port,
    on_a_socket,
    open_api,
    open_api_without_postgresql,
    sample,
    serve_in_process,
)

MAIN = [sys.executable, "-c", "from app.api.server import main; main()"]


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    async with open_api(settings) as api:
        yield api


def environment(settings: Settings, port: int) -> dict[str, str]:
    known = {"REDIS_URL": settings.redis_url, "DATABASE_URL": settings.database_url, "API_PORT": str(port)}
    return {**os.environ, **known, "RECLAIM_AFTER_S": "2", "REDIS_TIMEOUT_S": "0.2"}


@asynccontextmanager
async def process(settings: Settings, port: int) -> AsyncIterator["subprocess.Popen[bytes]"]:
    """The API as a process of its own, once it answers."""
    child = subprocess.Popen(MAIN, env=environment(settings, port), stderr=subprocess.PIPE)
    try:
        await wait_until(lambda: child.poll() is not None or answers(port), 30)
        assert child.poll() is None
        yield child
    finally:
        child.kill()
        child.communicate()


async def answers(port: int) -> bool:
    async with httpx2.AsyncClient() as client:
        try:
            return (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200
        except httpx2.TransportError:
            return False


def run_main(settings: Settings, port: int, **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        MAIN, env={**environment(settings, port), **more}, capture_output=True, text=True, timeout=30, check=False
    )


async def test_ten_megabytes_get_a_clean_413(api: Api) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 100_000

    headers = {"content-type": "application/json"}
    async with on_a_socket(api) as client:
        for content in (b" " * 10_000_000, parts()):  # the second is sent in chunks, its length unknown
            assert_problem(await client.post("/api/events", content=content, headers=headers), 413, "body-too-large")
        assert (await client.get("/healthz")).json() == {"status": "ok"}


async def test_ids_keep_their_slashes_on_the_way_through_http(api: Api) -> None:
    async with on_a_socket(api) as client:
        response = await client.post("/api/events", json=sample(eventId="/a/b%2F?#ü"))
        got = await client.get(response.headers["location"])
        assert got.json()["eventId"] == "/a/b%2F?#ü"
        assert "server" not in got.headers
        assert_problem(await client.get("/api/events/a%00b"), 422, "validation")


async def test_a_person_finds_what_is_where(api: Api) -> None:
    body = (await api.client.get("/")).json()
    assert body["events"] == "/api/events"
    assert body["dashboard"].endswith("/admin/queues")


async def test_ready_with_both_servers(api: Api) -> None:
    response = await api.client.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "ok", "postgresql": "ok", "redis": "ok"})


async def test_a_paused_channel_is_told_and_the_service_still_accepts(api: Api) -> None:
    await tell_pause(api.resources.redis, Channel.EMAIL, Pause("c", "answered 401", 5, 1, 4))
    response = await api.client.get("/readyz")
    answer = {"status": "degraded", "postgresql": "ok", "redis": "ok", "channels": {"EMAIL": "paused: answered 401"}}
    assert (response.status_code, response.json()) == (200, answer)


async def test_so_is_one_that_was_paused_by_hand(api: Api) -> None:
    await tell_pause(api.resources.redis, Channel.EMAIL, Pause("c", "answered 401", 5, 1, 4))
    await hold(api.resources.pool, Channel.EMAIL, "ann", "maintenance")
    answer = (await api.client.get("/readyz")).json()
    assert (answer["status"], answer["channels"]) == ("degraded", {"EMAIL": "paused by ann: maintenance"})


async def test_without_redis_the_service_is_degraded(settings: Settings) -> None:
    async with open_api(settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{closed_port()}"})) as api:
        response = await api.client.get("/readyz")
        assert (response.status_code, response.json()) == (200, {"status": "degraded", "postgresql": "ok", "redis": "away"})


async def test_without_postgresql_the_service_is_unavailable_but_alive(settings: Settings) -> None:
    async with open_api_without_postgresql(settings) as api:
        response = await api.client.get("/readyz")
        assert (response.status_code, response.json()) == (503, {"status": "unavailable", "postgresql": "away", "redis": "ok"})
        assert (await api.client.get("/healthz")).json() == {"status": "ok"}


async def test_without_tables_the_service_says_what_to_do(api: Api) -> None:
    await api.pool.execute("drop table attempt")
    response = await api.client.get("/readyz")
    assert response.status_code == 503
    assert "tidings schema apply" in response.json()["postgresql"]


async def test_servers_that_say_nothing_do_not_hold_up_the_answer(settings: Settings) -> None:
    """Both accept connections and never answer: one limit for both, not one after the other."""
    async with await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        quiet = settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{port}", "redis_timeout_s": 30})
        async with open_api(quiet) as api:
            pool = asyncpg.create_pool(f"postgresql://postgres@127.0.0.1:{port}/x", min_size=0, max_size=1, timeout=30)
            async with pool, serve_in_process(replace(api.resources, pool=pool), api.engine) as hanging:
                started = time.monotonic()
                response = await hanging.client.get("/readyz")
                took_s = time.monotonic() - started
                pool.terminate()
    late = "no answer within 1.5 s"
    assert (response.status_code, response.json()) == (503, {"status": "unavailable", "postgresql": late, "redis": late})
    assert took_s < 2


async def test_sigterm_lets_the_request_under_way_finish(settings: Settings) -> None:
    port = closed_port()
    async with process(settings, port) as child, httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        locker = await asyncpg.connect(settings.database_url)
        async with locker.transaction():
            await locker.execute("lock table event in access exclusive mode")
            posting = asyncio.create_task(client.post("/api/events", json=sample()))
            await _wait_for_the_lock(locker)
            child.send_signal(signal.SIGTERM)
            await _wait_until_closed(port)
        assert (await posting).status_code == 202
        assert await locker.fetchval("select count(*) from event") == 1
        assert await asyncio.to_thread(child.wait, 10) == 0
        await locker.close()


async def _wait_for_the_lock(locker: "asyncpg.Connection[asyncpg.Record]") -> None:
    waiting = "select count(*) from pg_locks where not granted and relation = 'event'::regclass"
    await wait_until(lambda: locker.fetchval(waiting))


async def _wait_until_closed(port: int) -> None:
    async def closed() -> bool:
        return not await answers(port)

    await wait_until(closed)


Failure = Callable[[str], str]


@pytest.fixture
def failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Failure:
    """The line with which an API that cannot start on this API_PORT leaves; status 1 follows from sys.exit(line)."""

    def start(port: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("API_PORT", port)
        monkeypatch.setattr("app.api.server.configure", lambda *_: None)  # these tests keep their own logging
        with pytest.raises(SystemExit) as left:
            main()
        return str(left.value.code)

    return start


def test_a_port_that_is_taken_is_one_line(failure: Failure) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = failure(str(port))
    assert str(port) in line
    assert "API_PORT" in line


async def test_postgresql_that_is_away_is_one_line(settings: Settings) -> None:
    done = run_main(settings, closed_port(), DATABASE_URL=f"postgresql://postgres@127.0.0.1:{closed_port()}/x")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "DATABASE_URL" in line


def test_a_wrong_setting_is_one_line(failure: Failure) -> None:
    assert "API_PORT" in failure("0")


def test_a_host_that_is_none_names_its_setting() -> None:
    with pytest.raises(PortProblem, match="API_HOST"):
        listen("no such host", 3001, "API")
