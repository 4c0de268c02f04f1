"""The network between us and a server is cut, slow, half open, or loses replies."""

from collections.abc import Awaitable, Callable

import pytest

from tests.faults import catalogue
from tests.faults.conftest import Start, well
from tests.faults.run import Report, under_fault
from tests.faults.system import System
from tests.proxy import Proxy

Measured = Callable[[Report], None]
FAULTS = [catalogue.cut, catalogue.delayed, catalogue.half_open, catalogue.replies_lost]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("server", ["redis", "postgres"])
async def test_network(fault: Callable[[System, Proxy], Awaitable[None]], server: str, start: Start, measured: Measured) -> None:
    async with start() as system:
        net = system.redis_net if server == "redis" else system.postgres_net
        report = await under_fault(system, lambda system: fault(system, net))
    measured(report)
    well(report)
    assert report.doubled == set()
    if server == "redis":
        assert report.unknown == set()
