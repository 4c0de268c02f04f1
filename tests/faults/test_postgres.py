"""PostgreSQL goes away under load: clients are told to come back, what is in mid-send is held, nothing is judged too early."""

from collections.abc import Callable

import pytest

from tests.faults import catalogue
from tests.faults.conftest import Start, well
from tests.faults.run import Fault, Report, under_fault

Measured = Callable[[Report], None]


@pytest.mark.parametrize(
    "fault",
    [catalogue.postgres_restarted, catalogue.postgres_crashed, catalogue.postgres_away_for_long],
    ids=lambda fault: fault.__name__,
)
async def test_postgresql_goes_away(fault: Fault, start: Start, measured: Measured) -> None:
    async with start() as system:
        report = await under_fault(system, fault)
    measured(report)
    well(report)
    assert report.doubled == report.unknown == set(), "outcomes were held until they could be recorded"
    assert system.load.refused or fault is catalogue.postgres_restarted, "clients were told"  # a restart takes a moment
