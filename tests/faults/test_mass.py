"""FLUSHALL with 100,000 notifications outstanding: all come back by themselves, at no less than half of the speed before."""

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest

from app import streams
from app.accept import Accepted, Acceptor
from app.resources import open_resources
from app.settings import load_settings
from tests.conftest import wait_until
from tests.faults.conftest import OWED_WITHIN_S
from tests.faults.servers import Postgres, Valkey
from tests.faults.system import QUICK, Part
from tests.processes import environment
from tests.support import event

EVENTS = 42_000
AT_ONCE = 500
POLL_S = 0.1


@pytest.mark.timeout(300)
async def test_flushall_with_100_000_outstanding(
    postgres: Postgres, fault_database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    valkey = Valkey(tmp_path / "valkey")
    valkey.start()
    instant = {f"simulated_{c}_{what}": 0 for c in ("email", "sms", "push") for what in ("latency_ms", "failure_rate")}
    settings = load_settings(
        _env_file=None, redis_url=f"redis://127.0.0.1:{valkey.port}", database_url=fault_database_url,
        **{**QUICK, **instant, "log_level": "warning"},
    )  # fmt: skip
    part = Part("consumers", ["consumers"], environment(settings), tmp_path)
    async with open_resources(settings, "test") as resources:

        async def final() -> int:
            return int(await resources.pool.fetchval("select count(*) from notification where done"))

        async def reach(wanted: int) -> tuple[int, float]:
            """(how many are final, when), once so many are."""
            await wait_until(lambda: _at_least(wanted), 120, POLL_S)
            return await final(), time.monotonic()

        async def _at_least(wanted: int) -> bool:
            return await final() >= wanted

        async with Acceptor(resources).running() as acceptor:
            for start in range(0, EVENTS, AT_ONCE):
                users = range(start, min(start + AT_ONCE, EVENTS))
                answers = await asyncio.gather(*(acceptor.accept(event(user_id=f"u{n}")) for n in users))
                assert set(answers) == {Accepted.NEW}
        part.start()
        try:
            n0, t0 = await reach(3_000)
            n1, t1 = await reach(23_000)
            before_per_s = (n1 - n0) / (t1 - t0)
            await resources.redis.flushall()
            n2, t2 = await final(), time.monotonic()
            n3, t3 = await reach(n2 + 1_000)
            n4, t4 = await reach(3 * EVENTS)
        finally:
            part.kill()
        statuses = Counter(
            {r["status"]: r["n"] for r in await resources.pool.fetch("select status, count(*) n from notification group by 1")}
        )
        doubled = await resources.pool.fetchval("select count(*) from notification where possible_duplicate or tries > 1")
        carried = [await resources.redis.xlen(stream) for stream in streams.WORK_STREAMS]
    valkey.kill()
    after_per_s = (n4 - n3) / (t4 - t3)
    said = (
        f"FLUSHALL with {3 * EVENTS - n2:,} outstanding: the first final after {t3 - t2:.1f} s, all after {t4 - t2:.1f} s; "
        f"{after_per_s:,.0f}/s after, {before_per_s:,.0f}/s before"
    )
    request.node.user_properties.append(("said", said))
    assert statuses == {"SENT": 3 * EVENTS}
    assert doubled == 0
    assert carried == [0, 0, 0, 0]
    assert t3 - t2 < OWED_WITHIN_S
    assert after_per_s >= before_per_s / 2
