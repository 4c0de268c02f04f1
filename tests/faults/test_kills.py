"""A consumer process is killed (signal 9) at each point of a notification's way; a supervisor starts another."""

import signal
from collections.abc import Callable

import pytest

from tests.faults.conftest import Start, well
from tests.faults.provider import Mode
from tests.faults.run import Report, under_fault
from tests.faults.system import System

Measured = Callable[[Report], None]
POINTS = ["before_claim", "as_routed", "after_claim", "before_record", "after_record"]


@pytest.mark.parametrize("point", POINTS)
async def test_killed(point: str, start: Start, measured: Measured) -> None:
    """Only what was between send and record may be doubled or unknown, and only where it is not recorded yet."""

    async def fault(system: System) -> None:
        await system.until(lambda: system.victim.ended() == -signal.SIGKILL)
        await system.restart(system.victim)

    async with start(consumers=1, harm=f"{point}:60:kill") as system:
        report = await under_fault(system, fault)
        in_mid_send = system.in_mid_send()
    measured(report)
    well(report)
    assert report.doubled | report.unknown - report.never_called <= in_mid_send
    if point == "before_record":
        assert in_mid_send, "it was killed with a message sent and not recorded"
        assert report.doubled | report.unknown


async def test_killed_during_the_send(start: Start, measured: Measured) -> None:
    """The provider itself kills the consumer, with the message in its hands."""

    async def fault(system: System) -> None:
        await system.provider.behave(Mode(kind="kill", pid=system.victim.pid))
        await system.until(lambda: system.victim.ended() == -signal.SIGKILL)
        await system.restart(system.victim)

    async with start(consumers=1) as system:
        report = await under_fault(system, fault)
    measured(report)
    well(report)
    assert report.doubled | report.unknown, "the message in the provider's hands"


@pytest.mark.parametrize("point", ["after_claim", "before_record"])
@pytest.mark.parametrize("action", ["stop", "block=4"])
async def test_stands_still_past_its_lease_and_goes_on(point: str, action: str, start: Start, measured: Measured) -> None:
    """SIGSTOP, or a blocked event loop: others take over meanwhile; what it knows when it wakes is fenced off, or the truth."""

    async def fault(system: System) -> None:
        await system.until(lambda: any("point" in fact for fact in system.noted()))
        await system.until(lambda: taken_over(system))
        if action == "stop":
            system.victim.send(signal.SIGCONT)
        await system.until(lambda: any("awake" in fact for fact in system.noted()))

    async with start(harm=f"{point}:60:{action}") as system:
        report = await under_fault(system, fault)
        in_mid_send = system.in_mid_send()
    measured(report)
    well(report)
    assert report.doubled <= in_mid_send


async def taken_over(system: System) -> bool:
    """Is nothing under a lease that ended, so that the crash rule has judged all that the silent consumer left?"""
    own = f"%-{system.victim.pid}-%"
    return bool(
        await system.sql("select not exists (select from notification where status = 'PROCESSING' and claimed_by like $1)", own)
    )
