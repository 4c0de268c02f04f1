"""Rates and latencies are added up in PostgreSQL over all processes, and survive them."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import structlog

from app.accept import Acceptor
from app.domain import Channel, Status
from app.resources import Resources
from app.settings import Settings
from app.store.tally import add_tally, purge_tally
from app.tally import EVENTS, Key, Kind, bin_of
from app.tallying import tallying, write
from app.trouble import Trouble
from consumers.providers import Receipt, Rejected, Unavailable
from tests.conftest import wait_until
from tests.integration.consuming import consuming
from tests.processes import api_process
from tests.support import Scripted, event, start_attempt

ALL_DONE = "select not exists (select from event where not done) and not exists (select from notification where not done)"
WIDE = "select channel, kind, sum(n)::int as n from tally where width_s = 120 group by 1, 2"


async def written(resources: Resources) -> dict[tuple[str, str], int]:
    return {(r["channel"], r["kind"]): r["n"] for r in await resources.pool.fetch(WIDE)}


async def counted(resources: Resources, provider: Scripted, *events: Any) -> dict[tuple[str, str], int]:
    """What accept and the consumers counted of these events, once all is done."""
    async with Acceptor(resources).running() as acceptor, consuming(resources, provider):
        await acceptor.accept_all(events)
        await wait_until(lambda: resources.pool.fetchval(ALL_DONE))
    found: dict[tuple[str, str], int] = {}
    for key, n in resources.tally.take().items():
        found[key.channel, key.kind] = found.get((key.channel, key.kind), 0) + n
    return found


async def test_each_step_counts_what_it_did(make_settings: Callable[..., Settings], resources: Resources) -> None:
    provider = Scripted(Unavailable("busy", retry_after_s=0), Receipt("r"))
    seen = await counted(resources, provider, event(channels=(Channel.EMAIL, Channel.SMS)), event(channels=(Channel.EMAIL,)))
    assert seen == {
        (EVENTS, Kind.ACCEPTED): 2,
        (Channel.EMAIL, Kind.ACCEPTED): 2,
        (Channel.EMAIL, Kind.RETRIED): 2,
        (Channel.EMAIL, Kind.SENT): 2,
        (Channel.SMS, Kind.ACCEPTED): 1,
        (Channel.SMS, Kind.RETRIED): 1,
        (Channel.SMS, Kind.SENT): 1,
    }


async def test_refused_and_over_the_limit(resources: Resources) -> None:
    seen = await counted(resources, Scripted(Rejected("no")), *(event(channels=(Channel.PUSH,)) for _ in range(7)))
    assert seen[Channel.PUSH, Kind.FAILED] == 5
    assert seen[Channel.PUSH, Kind.LIMITED] == 2


async def test_the_latency_counts_from_acceptance(resources: Resources) -> None:
    await start_attempt(resources, me="one that died", lease_s=0)
    await resources.pool.execute("update event set created_at = now() - interval '100 s'")
    async with consuming(resources, Scripted()):
        await wait_until(lambda: resources.pool.fetchval(ALL_DONE))
    [of] = [key.bin for key in resources.tally.take() if key.kind is Kind.SENT]
    assert bin_of(99) <= of <= bin_of(115)


async def test_processes_add_to_the_same_rows(resources: Resources) -> None:
    counts = {Key(EVENTS, Kind.ACCEPTED): 2, Key("SMS", Kind.SENT, 7): 1}
    await asyncio.gather(*(add_tally(resources.pool, counts) for _ in range(8)))
    assert await written(resources) == {(EVENTS, "accepted"): 16, ("SMS", "sent"): 8}
    assert await resources.pool.fetchval("select sum(n)::int from tally where width_s = 10") == 24


async def test_what_was_counted_last_is_written_at_the_end(resources: Resources) -> None:
    async with tallying(resources):
        resources.tally.ended(Channel.SMS, Status.SENT, 0.1)
    assert await written(resources) == {("SMS", "sent"): 1}


async def test_an_older_database_costs_counts_and_nothing_else(resources: Resources) -> None:
    await resources.pool.execute("drop table tally")
    resources.tally.count(Kind.ACCEPTED)
    await write(resources, Trouble(structlog.get_logger(), "over"))
    assert resources.tally.take() == {}


async def test_old_counts_go_and_coarse_ones_last_longer(resources: Resources) -> None:
    await add_tally(resources.pool, {Key(EVENTS, Kind.ACCEPTED): 1})
    await resources.pool.execute("update tally set started_at = started_at - interval '2 days'")
    await add_tally(resources.pool, {Key(EVENTS, Kind.ACCEPTED): 1})
    await purge_tally(resources.pool)
    rows = await resources.pool.fetch("select width_s, count(*) as n from tally group by 1 order by 1")
    assert [(r["width_s"], r["n"]) for r in rows] == [(10, 1), (120, 2)]


async def test_the_api_writes_what_it_accepted(resources: Resources, settings: Settings, tmp_path: Path) -> None:
    with api_process(settings, tmp_path) as url:
        async with httpx2.AsyncClient(base_url=url) as client:
            await wait_until(lambda: _ready(client), within_s=20)
            body = {
                "eventId": "e-1", "eventType": "T", "userId": "u", "payload": {}, "timestamp": "2026-03-31T16:30:00Z"
            }  # fmt: skip
            assert (await client.post("/api/events", json=body)).status_code == 202
            await wait_until(lambda: written(resources))
    assert await written(resources) == {(EVENTS, "accepted"): 1}


async def _ready(client: httpx2.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx2.TransportError:
        return False
