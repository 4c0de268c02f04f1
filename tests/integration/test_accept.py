"""Accepting in sets: how many transactions are under way at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from app.accept import PART_EVENTS, Accepted, Acceptor
from app.resources import Resources
from tests.support import event

WAITING = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


async def test_a_full_batch_commits_beside_the_one_before_it(
    resources: Resources, wait_until: Callable[..., Awaitable[Any]]
) -> None:
    async def two_wait() -> bool:
        return bool(await resources.pool.fetchval(WAITING) == 2)

    async with Acceptor(resources).running() as acceptor:
        async with resources.pool.acquire() as other, other.transaction():
            await other.execute("lock table event in share mode")
            requests = [asyncio.create_task(acceptor.accept_all([event() for _ in range(PART_EVENTS)])) for _ in range(3)]
            await wait_until(two_wait)
        answers = await asyncio.gather(*requests)
    assert answers == [[Accepted.NEW] * PART_EVENTS] * 3
    assert await resources.pool.fetchval("select count(*) from event") == 3 * PART_EVENTS


async def test_what_was_accepted_last_is_stored_when_the_acceptor_ends(resources: Resources) -> None:
    async with Acceptor(resources).running() as acceptor:
        requests = [asyncio.create_task(acceptor.accept_all([event() for _ in range(PART_EVENTS)])) for _ in range(2)]
        await asyncio.sleep(0)
    assert [request.done() for request in requests] == [True, True]
    assert await resources.pool.fetchval("select count(*) from event") == 2 * PART_EVENTS
