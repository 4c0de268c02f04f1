"""Own servers: they keep their data, end with their parent however it dies, and never share a folder."""

import os
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest
from redis import Redis

from app import local
from app.local import server
from app.process import free_port, port_problem
from tests.conftest import wait_until

PARENT = """
import signal, sys
from pathlib import Path
from app import local
folder = Path(sys.argv[1])
valkey = local.start_valkey(folder / "valkey", 0)
postgres = local.start_postgres(folder / "postgres", 0, options=local.FAST)
print(valkey.process.pid, postgres.process.pid, valkey.url, postgres.url, flush=True)
signal.pause()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder another user can reach, should PostgreSQL have to run as one."""
    opened = [p for p in (tmp_path, *tmp_path.parents) if p.name.startswith(("pytest-", tmp_path.name))]
    for path in opened:
        path.chmod(path.stat().st_mode | 0o011)
    return tmp_path / "a folder with spaces"


async def test_data_is_kept_between_runs(folder: Path) -> None:
    for run in range(2):
        valkey = local.start_valkey(folder / "valkey", 0)
        postgres = local.start_postgres(folder / "postgres", 0, options=local.FAST)
        try:
            assert increment(valkey.url) == run + 1
            assert await add_row(postgres.url) == run + 1
        finally:
            postgres.stop()
            valkey.stop()


async def test_servers_that_were_killed_lose_nothing_and_start_again(folder: Path) -> None:
    for run in range(2):
        valkey = local.start_valkey(folder / "valkey", 0)
        postgres = local.start_postgres(folder / "postgres", 0, options=local.FAST)
        assert increment(valkey.url) == run + 1
        assert await add_row(postgres.url) == run + 1
        for running in (valkey, postgres):
            running.process.kill()
            running.process.wait()


async def test_a_parent_that_is_killed_leaves_no_process(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(folder)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        valkey_pid, postgres_pid, *urls = parent.stdout.readline().split()
        parent.kill()
    await wait_until(lambda: not alive(int(valkey_pid)) and not alive(int(postgres_pid)))
    valkey = local.start_valkey(folder / "valkey", 0)  # waits for the folder's lock: not one process of the old server is left
    postgres = local.start_postgres(folder / "postgres", 0, options=local.FAST)
    assert [valkey.url, postgres.url] != urls
    postgres.stop()
    valkey.stop()


async def test_a_pid_file_of_a_dead_server_is_no_obstacle(folder: Path) -> None:
    postgres = local.start_postgres(folder, 0, options=local.FAST)
    postgres.stop()
    (folder / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{folder / 'data'}\n")  # its pid is another process' by now
    local.start_postgres(folder, 0, options=local.FAST).stop()


def test_two_servers_never_share_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LOCK_WITHIN_S", 0.05)
    first = local.start_valkey(folder, 0)
    try:
        with pytest.raises(local.LocalError, match=r"^another Valkey still runs on .*: stop that first$"):
            local.start_valkey(folder, 0)
    finally:
        first.stop()


def test_the_next_free_port_where_the_first_is_taken(folder: Path) -> None:
    first = local.start_valkey(folder / "one", free_port(0))
    try:
        second = local.start_valkey(folder / "two", first.port)
        second.stop()
        assert second.port > first.port
        with pytest.raises(local.LocalError, match=f"^Valkey found no port: {first.port} is taken$"):
            local.start_valkey(folder / "three", first.port, exactly=True)
    finally:
        first.stop()
    assert port_problem("127.0.0.1", first.port) is None


def test_a_platform_without_wheels_is_told_what_to_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(local.LocalError, match=r"^no Valkey here .*: set REDIS_URL to a server that runs$"):
        local.start_valkey(folder)
    with pytest.raises(local.LocalError, match=r"^no PostgreSQL here .*: set DATABASE_URL to a server that runs$"):
        local.start_postgres(folder)


def test_a_server_that_cannot_start_says_why_in_one_line(folder: Path) -> None:
    with pytest.raises(local.LocalError, match=r"^PostgreSQL did not start: .*nonsense.* \(see .*server\.log\)$"):
        local.start_postgres(folder, 0, options=["-c", "nonsense=1"])


def test_valkey_persists_and_does_not_evict(folder: Path) -> None:
    running = local.start_valkey(folder, 0)
    with Redis.from_url(running.url, decode_responses=True) as client:
        told = {name: client.config_get(name)[name] for name in ("appendonly", "appendfsync", "maxmemory-policy", "bind")}
    running.stop()
    assert told == {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "bind": "127.0.0.1"}


def increment(url: str) -> int:
    with Redis.from_url(url) as client:
        return int(client.incr("runs"))


async def add_row(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("create table if not exists run (at float)")
        await connection.execute("insert into run values ($1)", time.time())
        return int(await connection.fetchval("select count(*) from run"))
    finally:
        await connection.close()


def alive(pid: int) -> bool:
    """Does it run? A zombie, waiting for a slow init, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False
