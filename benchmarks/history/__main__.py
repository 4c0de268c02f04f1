"""`make bench-history ROWS=10000000`: makes that many notifications once, and asks the dashboard and the API for pages of them.

The rows stay in .tidings-bench/ (about 1 GB a million); making them may be stopped and goes on where it was.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path

import asyncpg
import uvloop

from app import local, schema
from app.domain import PLACES
from app.local import LocalError, Server
from benchmarks.history.pages import Answered, ask_all, background, sequential_scans
from benchmarks.history.table import history_table
from benchmarks.keep import ROOT, circumstances, keep
from benchmarks.servers import versions
from benchmarks.subject import BenchmarkError

ROWS_SQL = (Path(__file__).parent / "rows.sql").read_text()
EVENTS_AT_ONCE = 50_000
KEPT_FROM = 1_000_000  # notifications: fewer say nothing, and are no result
# A crash while the rows are made may cost all of them; then they are measured as any other database.
LOADING = (
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "shared_buffers=1GB",
    "max_wal_size=8GB",
    "autovacuum=off",
)
MEASURING = ("shared_preload_libraries=pg_stat_statements", "pg_stat_statements.track_planning=on")


async def main(rows: int, folder: Path) -> None:
    began = time.monotonic()
    place = folder / f"history-{rows}"
    place.mkdir(parents=True, exist_ok=True)
    for each in (folder, place):
        each.chmod(0o711)  # where PostgreSQL has to run as another user
    if not (place / "complete").exists():
        await make(place, rows // 3)
    postgres = local.start_postgres(place / "postgres", 0, options=_options(MEASURING))
    valkey = local.start_valkey(place / "valkey", 0)
    try:
        found, scans, found_versions = await measure(postgres, valkey, place, rows // 3)
    finally:
        valkey.stop()
        postgres.stop()
    table = history_table(rows, found, scans)
    told = circumstances(*found_versions, time.monotonic() - began)
    print(f"\n{table}\n{told}")
    if rows >= KEPT_FROM:
        keep("make bench-history", f"{told}\n\n{table}")


async def make(place: Path, events: int) -> None:
    """From the last event that is there on; analysed and vacuumed at the end, as autovacuum would have done by then."""
    postgres = local.start_postgres(place / "postgres", 0, options=_options(LOADING))
    try:
        await schema.apply(postgres.url)
        database = await asyncpg.connect(postgres.url)
        first = 1 + (await database.fetchval("select max(id) from event") or 0)
        for start in range(first, events + 1, EVENTS_AT_ONCE):
            last = min(start + EVENTS_AT_ONCE - 1, events)
            await database.execute(ROWS_SQL, start, last, events)
            print(f"{3 * last:,} notifications", file=sys.stderr)
        await database.execute(f"alter table event alter id restart with {events + 1}")
        await database.execute(f"alter table notification alter id restart with {PLACES * events + 1}")
        await database.execute("vacuum analyze")
        await database.close()
    finally:
        postgres.stop()
    (place / "complete").touch()


async def measure(
    postgres: Server, valkey: Server, place: Path, events: int
) -> tuple[list[Answered], dict[str, int], tuple[str, str]]:
    """What each page took, the sequential scans of the large tables meanwhile, and the servers' versions."""
    database = await asyncpg.connect(postgres.url)
    await schema.apply(postgres.url)
    await database.execute("create extension if not exists pg_stat_statements")
    before = await sequential_scans(database)
    with background(postgres.url, valkey.url, place) as addresses:
        found = await ask_all(database, addresses, events)
    await asyncio.sleep(1)  # sessions that end tell their counts
    after = await sequential_scans(database)
    await database.close()
    scans = {table: after[table] - before[table] for table in before}
    return found, scans, await versions(postgres.url, valkey.url)


def _options(settings: tuple[str, ...]) -> list[str]:
    return [part for setting in settings for part in ("-c", setting)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m benchmarks.history")
    parser.add_argument("--rows", type=int, default=10_000_000, help="notifications (10000000)")
    parser.add_argument("--folder", type=Path, default=ROOT / ".tidings-bench", help="where they stay (.tidings-bench)")
    options = parser.parse_args()
    try:
        uvloop.run(main(options.rows, options.folder))
    except (BenchmarkError, LocalError) as error:
        sys.exit(f"benchmarks: {error}")
