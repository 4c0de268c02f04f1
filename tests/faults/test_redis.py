"""Redis loses data, crashes, fills up, fails over: all it carries is made again from PostgreSQL, and nothing is sent twice."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import catalogue
from tests.faults.conftest import Start, well
from tests.faults.run import Fault, Report, under_fault
from tests.faults.servers import NO_PERSISTENCE, Valkey
from tests.faults.system import System

Measured = Callable[[Report], None]
BY_HAND = [
    catalogue.flushall,
    catalogue.delete_streams,
    catalogue.destroy_groups,
    catalogue.trim_streams,
    catalogue.delete_consumers,
    catalogue.redis_fails_over,
    catalogue.redis_out_of_memory,
]


def sent_once(report: Report) -> None:
    """Redis is no reason to double a send, or not to know."""
    assert report.doubled == set()
    assert report.unknown == set()


@pytest.mark.parametrize("fault", BY_HAND, ids=lambda fault: fault.__name__)
async def test_redis_loses_its_data(fault: Fault, start: Start, measured: Measured) -> None:
    async with start() as system:
        report = await under_fault(system, fault)
    measured(report)
    well(report)
    sent_once(report)


@pytest.mark.parametrize(
    "options",
    [("--appendfsync", "always"), ("--appendfsync", "everysec"), NO_PERSISTENCE],
    ids=["aof_always", "aof_everysec", "no_persistence"],
)
async def test_redis_is_killed(options: tuple[str, ...], start: Start, tmp_path: Path, measured: Measured) -> None:
    async with start(Valkey(tmp_path / "valkey", options)) as system:
        report = await under_fault(system, catalogue.redis_killed)
    measured(report)
    well(report)
    sent_once(report)


async def test_the_disk_of_the_append_only_file_is_full(start: Start, tmp_path: Path, measured: Measured) -> None:
    """A limit on its file size stands for the full disk; `trap` makes it an error of the write, as ENOSPC is."""
    valkey = Valkey(tmp_path / "valkey", wrapper="trap '' XFSZ")
    async with start(valkey) as system:
        report = await under_fault(system, catalogue.redis_disk_full)
    measured(report)
    well(report)
    sent_once(report)


LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


@pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not installed: apt-get install libfaketime")
@pytest.mark.parametrize("seconds", [600, -600])
async def test_the_clock_of_redis_jumps(seconds: int, start: Start, tmp_path: Path, measured: Measured) -> None:
    """Idle times, ids and buckets go by this clock, and leases do not."""
    told = tmp_path / "clock"
    told.write_text("+0")
    valkey = Valkey(
        tmp_path / "valkey",
        wrapper=f"export LD_PRELOAD={LIBRARIES[0]} FAKETIME_TIMESTAMP_FILE={told} FAKETIME_NO_CACHE=1 DONT_FAKE_MONOTONIC=1",
    )

    async def fault(system: System) -> None:
        before = await system.command("TIME")
        told.write_text(f"{seconds:+d}")
        after = await system.command("TIME")
        assert abs(int(after[0]) - int(before[0]) - seconds) < 5, "the clock of the server jumped"
        system.lost_data()  # buckets fill up while ten minutes pass for them

    async with start(valkey) as system:
        report = await under_fault(system, fault)
    measured(report)
    well(report)
    sent_once(report)
