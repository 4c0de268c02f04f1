"""A fault test that cannot fail proves nothing: with the mechanism switched off that a fault tests, the run is found out."""

import signal
from collections.abc import Awaitable, Callable

import psutil
import pytest

from tests.faults import catalogue, run
from tests.faults.conftest import Start
from tests.faults.run import Fault, Report, under_fault
from tests.faults.system import System


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not final by now will not be."""
    monkeypatch.setattr(run, "QUIET_WITHIN_S", 8)


async def killed(system: System) -> None:
    await system.until(lambda: system.victim.ended() == -signal.SIGKILL)
    await system.restart(system.victim)


@pytest.mark.parametrize(
    ("without", "fault", "harm"),
    [("relay", catalogue.trim_streams, ""), ("reclaim", killed, "before_record:60:kill"), ("relay", catalogue.redis_killed, "")],
    ids=["relay_and_lost_entries", "reclaim_and_a_kill", "relay_and_redis_killed"],
)
async def test_work_is_lost_without(without: str, fault: Fault, harm: str, start: Start) -> None:
    async with start(consumers=1, without=without, harm=harm) as system:
        with pytest.raises(AssertionError, match="all_final"):
            await under_fault(system, fault)


async def test_a_double_is_silent_without_its_mark(start: Start) -> None:
    async with start(consumers=1, without="mark", harm="before_record:60:kill") as system:
        report = await under_fault(system, killed)
    assert any("not marked" in wrong for wrong in report.wrong)


async def test_outcomes_are_lost_unless_they_are_held(start: Start) -> None:
    async with start(without="hold") as system:
        report = await ends_somehow(system, catalogue.postgres_crashed)
    assert report is None or report.wrong or report.doubled or report.unknown


async def ends_somehow(system: System, fault: Callable[[System], Awaitable[None]]) -> Report | None:
    """None: it never ended, or a process did."""
    try:
        return await under_fault(system, fault)
    except (AssertionError, psutil.NoSuchProcess):
        return None
