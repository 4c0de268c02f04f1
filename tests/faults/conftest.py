"""Servers for fault tests: PostgreSQL once per session (killed and started again at will), a fresh Valkey for each test."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app import schema
from tests.faults.run import Report
from tests.faults.servers import Postgres, Valkey
from tests.faults.system import RECLAIM_AFTER_S, System, started
from tests.integration.conftest import resources  # noqa: F401  for the tests that need no processes

NEW_WITHIN_S = 5.0  # the first delivery of new work, once a fault is healed
OWED_WITHIN_S = RECLAIM_AFTER_S + 5  # the last of what was owed
Start = Callable[..., AbstractAsyncContextManager[System]]
numbers = count(1)


def kept(report: Report, wrong: list[str] | None = None) -> None:
    """The promise; where it is broken no stall of the machine is an excuse, and .ci/run gives no second try."""
    found = report.wrong if wrong is None else wrong
    assert not found, "BROKEN PROMISE: " + "; ".join(found[:20])


def well(report: Report) -> None:
    """Nothing lost, nothing silently doubled, and soon."""
    kept(report)
    assert report.first_new_s < NEW_WITHIN_S
    assert report.owed_s < OWED_WITHIN_S


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    folder = tmp_path_factory.mktemp("postgres")
    for part in (folder, *folder.parents):
        if part.owner() == folder.owner() and part.name.startswith(("pytest-", "postgres", "popen-")):
            part.chmod(0o711)  # where PostgreSQL has to run as another user
    server = Postgres(folder / "server")
    server.start()
    yield server
    if server.server is not None:
        server.stop()


@pytest.fixture(scope="session")
async def template(postgres: Postgres) -> str:
    await schema.apply(postgres.url + "tidings_template")
    return "tidings_template"


@pytest.fixture
async def fault_database_url(postgres: Postgres, template: str) -> AsyncIterator[str]:
    name = f"fault_{next(numbers)}"
    await _execute(postgres, f"create database {name} template {template} strategy wal_log")
    yield postgres.url + name
    if postgres.server is None:
        postgres.start()
    await _execute(postgres, f"drop database {name} with (force)")


@pytest.fixture
def start(tmp_path: Path, postgres: Postgres, fault_database_url: str) -> Start:
    """`async with start(...) as system`: see `started`; `valkey`: another than a plain one; settings by name."""

    @asynccontextmanager
    async def starting(
        valkey: Valkey | None = None, consumers: int = 2, harm: str = "", without: str = "", **override: Any
    ) -> AsyncIterator[System]:
        server = valkey or Valkey(tmp_path / "valkey")
        server.start()
        try:
            async with started(tmp_path, server, postgres, fault_database_url, consumers, harm, without, **override) as system:
                yield system
        finally:
            if server.server is not None:
                server.kill()

    return starting


async def _execute(postgres: Postgres, statement: str) -> None:
    connection = await asyncpg.connect(postgres.url + "postgres")
    await connection.execute(statement)
    await connection.close()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[Report], None]:
    """Notes a run's figures for the table at the end."""

    def note(report: Report) -> None:
        by_status = ", ".join(f"{n} {status}" for status, n in sorted(report.facts.by_status.items()))
        request.node.user_properties.append(
            ("fault", (report.lasted_s, report.first_new_s, report.owed_s, len(report.doubled), by_status))
        )

    return note


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How long each recovery took, and what other tests measured."""
    told = [
        (name, report.nodeid.partition("::")[2].removeprefix("test_"), value)
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        for name, value in getattr(report, "user_properties", ())
        if report.when == "call"
    ]
    rows = sorted((test, *figures) for name, test, figures in told if name == "fault")
    if rows:
        terminalreporter.section("recovery, in s after the fault was healed")
        terminalreporter.write_line(f"{'':72} fault  first new  last owed  doubled  notifications")
    for test, lasted, new, owed, doubled, by_status in rows:
        terminalreporter.write_line(f"{test[:72]:72} {lasted:5.1f} {new:10.2f} {owed:10.2f} {doubled:8}  {by_status}")
    for text in [value for name, _, value in told if name == "said"]:
        terminalreporter.write_line(text)
