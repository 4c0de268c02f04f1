"""Asks for each page many times, and PostgreSQL how long its statements took."""

import asyncio
import http.client
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from app.domain import PLACES
from app.process import free_port
from app.settings import load_settings
from benchmarks.load import until_listening
from benchmarks.subject import BenchmarkError
from tests.processes import environment, process
from web import links

TIMES = 20
WARM = 3
QUIET_S = 6  # what the dashboard asks by itself within this time is not the pages'

STATEMENTS = """
select queryid, calls, total_exec_time + total_plan_time as total_ms, max_exec_time + max_plan_time as worst_ms
from pg_stat_statements where dbid = (select oid from pg_database where datname = current_database()) and calls > 0
"""
SCANS = "select relname, seq_scan from pg_stat_user_tables where relname in ('event', 'notification', 'attempt')"


@dataclass(frozen=True, slots=True)
class Page:
    """`part`: "dashboard" or "API"."""

    part: str
    what: str
    path: str


@dataclass(frozen=True, slots=True)
class Answered:
    """One page: ms until it was there (each time), ms in PostgreSQL for one of it, and its slowest statement's mean and worst."""

    page: Page
    took_ms: Sequence[float]
    database_ms: float
    slowest_ms: float
    worst_ms: float


def all_pages(events: int) -> list[Page]:
    """Every page that reads history, with filters that are common, rare and empty, and places at both ends."""
    middle, listing, api = PLACES * events // 2, links.NOTIFICATIONS, "/api/notifications"
    heavy = f"a user with {3 * events // 100:,} notifications"
    return [
        Page("API", "history of a user", f"{api}/user_7?limit=50"),
        Page("API", f"history of {heavy}", f"{api}/user_heavy?limit=200"),
        Page("API", "the same, FAILED only", f"{api}/user_heavy?status=FAILED"),
        Page("API", "the same, UNKNOWN by SMS only", f"{api}/user_heavy?status=UNKNOWN&channel=SMS"),
        Page("API", "the same, a status that none of them has", f"{api}/user_heavy?status=PROCESSING"),
        Page("API", "the story of an event", f"/api/events/evt-{events // 3}"),
        Page("dashboard", "overview", links.BASE),
        Page("dashboard", "streams", links.STREAMS),
        Page("dashboard", "notifications", listing),
        Page("dashboard", "notifications, from the middle on", f"{listing}?before={middle}"),
        Page("dashboard", "notifications: FAILED", f"{listing}?status=FAILED"),
        Page("dashboard", "notifications: UNKNOWN by PUSH", f"{listing}?status=UNKNOWN&channel=PUSH"),
        Page("dashboard", "notifications: PENDING", f"{listing}?status=PENDING"),
        Page("dashboard", f"notifications: UNKNOWN of {heavy}", f"{listing}?user=user_heavy&status=UNKNOWN"),
        Page("dashboard", "notifications: of an event", f"{listing}?event=evt-{events // 2}"),
        Page("dashboard", "notifications: of a type", f"{listing}?type=PASSWORD_RESET"),
        Page("dashboard", "notifications: a part of the error", f"{listing}?status=FAILED&error=mailbox+7"),
        Page("dashboard", "notifications: of one day, a month ago", f"{listing}?since=31d&until=30d&status=FAILED"),
        Page("dashboard", "a user", f"{links.USER}?id=user_7"),
        Page("dashboard", heavy, f"{links.USER}?id=user_heavy"),
        Page("dashboard", "failures", links.FAILURES),
        Page("dashboard", "retries", links.RETRIES),
        Page("dashboard", "dead letters", links.DEAD_LETTERS),
        Page("dashboard", "search for an event's id", links.search(f"evt-{events // 2}")),
        Page("dashboard", "the story of an event", links.story(events // 2)),
        Page("dashboard", "audit", links.AUDIT),
        Page("dashboard", "mailbox", links.MAILBOX),
        Page("dashboard", "mailbox: SMS", links.mailbox(channel="SMS")),
        Page("dashboard", f"mailbox: of {heavy}", links.mailbox(user="user_heavy")),
        Page("dashboard", "fault panel", links.FAULTS),
    ]


@contextmanager
def background(database_url: str, redis_url: str, folder: Path) -> Iterator[dict[str, str]]:
    """The API and the dashboard as a user starts them; their addresses by part."""
    ports = {"API": free_port(0), "dashboard": free_port(0)}
    settings = load_settings(
        _env_file=None, redis_url=redis_url, database_url=database_url, api_port=ports["API"], dashboard_port=ports["dashboard"]
    )
    env = environment(settings)
    with process(["app", "api"], env, folder), process(["web"], env, folder):
        yield {part: f"http://127.0.0.1:{port}" for part, port in ports.items()}


async def ask_all(
    database: "asyncpg.Connection[asyncpg.Record]", addresses: Mapping[str, str], events: int
) -> list[Answered]:  # fmt: skip
    for address in addresses.values():
        await until_listening(address)
    await database.execute("select pg_stat_statements_reset()")
    await asyncio.sleep(QUIET_S)
    others = {row["queryid"] for row in await database.fetch(STATEMENTS)}
    return [await _ask(database, addresses[page.part], page, others) for page in all_pages(events)]


async def sequential_scans(database: "asyncpg.Connection[asyncpg.Record]") -> dict[str, int]:
    await database.execute("select pg_stat_clear_snapshot()")
    return {row["relname"]: row["seq_scan"] for row in await database.fetch(SCANS)}


async def _ask(database: "asyncpg.Connection[asyncpg.Record]", address: str, page: Page, others: set[int]) -> Answered:
    for _ in range(WARM):
        await asyncio.to_thread(_get_ms, address, page.path)
    await database.execute("select pg_stat_statements_reset()")
    took_ms = [await asyncio.to_thread(_get_ms, address, page.path) for _ in range(TIMES)]
    rows = [row for row in await database.fetch(STATEMENTS) if row["queryid"] not in others]
    slowest = max(rows, key=lambda row: row["total_ms"] / row["calls"], default=None)
    return Answered(
        page,
        took_ms,
        sum(row["total_ms"] for row in rows) / TIMES,
        0.0 if slowest is None else slowest["total_ms"] / slowest["calls"],
        max((row["worst_ms"] for row in rows), default=0.0),
    )


def _get_ms(address: str, path: str) -> float:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    began = time.perf_counter()
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
    finally:
        connection.close()
    if answer.status not in (200, 303):  # a search that finds one thing leads to it
        raise BenchmarkError(f"{path} was answered with {answer.status}")
    return 1000 * (time.perf_counter() - began)
