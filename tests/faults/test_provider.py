"""The provider is down, slow, or breaks off: refusals are tried again, and what nobody knows is never silently repeated."""

from collections.abc import Callable

import pytest

from tests.faults import catalogue
from tests.faults.conftest import Start, well
from tests.faults.provider import Mode
from tests.faults.run import Report, under_fault

Measured = Callable[[Report], None]
REFUSALS = {
    "503": Mode("status", 503),
    "429_with_retry_after": Mode("status", 429, retry_after_s=1),
    "401": Mode("status", 401),
}
NOBODY_KNOWS = {"500": Mode("status", 500), "hangs": Mode("hang"), "resets_after_it_took_it": Mode("reset")}


@pytest.mark.parametrize("mode", REFUSALS.values(), ids=REFUSALS)
async def test_it_refuses_for_a_while(mode: Mode, start: Start, measured: Measured) -> None:
    async with start() as system:
        report = await under_fault(system, lambda system: catalogue.provider_behaves(system, mode))
    measured(report)
    well(report)
    assert report.doubled == report.unknown == set()
    assert {n.status for n in report.facts.notifications if n.reason != "rate_limited"} == {"SENT"}


@pytest.mark.parametrize("mode", NOBODY_KNOWS.values(), ids=NOBODY_KNOWS)
async def test_nobody_knows_what_it_did(mode: Mode, start: Start, measured: Measured) -> None:
    async with start() as system:
        report = await under_fault(system, lambda system: catalogue.provider_behaves(system, mode))
    measured(report)
    well(report)
    unknown = [n for n in report.facts.notifications if n.status == "UNKNOWN"]
    assert unknown, "on the channels that allow no repeat"
    assert all(len(n.calls) == 1 for n in unknown)
    mails = [n for n in report.facts.notifications if n.channel == "EMAIL" and n.reason != "rate_limited"]
    assert {n.status for n in mails} == {"SENT"}
    assert all(n.possible_duplicate for n in mails if len(n.calls) > 1)
