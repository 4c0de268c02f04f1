"""What ended more than KEEP_DAYS ago is deleted, whole; everything else is kept."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from app.domain import Channel
from app.resources import Resources
from app.store.operate import replay_events
from consumers.database import Database
from consumers.retention import Retention
from tests.support import add_events, change, event, notifications_of, route

Wait = Callable[..., Awaitable[Any]]

OLD = "updated_at = now() - interval '91 days'"
OLD_EVENT = f"{OLD}, created_at = now() - interval '91 days'"


async def purge(resources: Resources) -> int:
    return await Retention(resources, Database()).purge(asyncio.Event())


async def sent_event(resources: Resources, assignments: str) -> int:
    """A routed event with one SENT mail and its attempt."""
    [pk] = await add_events(resources, event(channels=(Channel.EMAIL,)))
    [mail] = await route(resources, [pk])
    await change(resources, "notification", mail.id, f"status = 'SENT', attempt = 1, {assignments}")
    await change(resources, "event", pk, OLD_EVENT)
    await resources.pool.execute("insert into attempt values ($1, 1, 'p', 'c', now(), now(), 'sent')", mail.id)
    return pk


async def left(resources: Resources, table: str) -> int:
    count: int = await resources.pool.fetchval(f"select count(*) from {table}")
    return count


async def test_an_old_event_goes_with_its_notifications_and_attempts(resources: Resources) -> None:
    await sent_event(resources, OLD)
    assert await purge(resources) == 1
    assert [await left(resources, table) for table in ("event", "notification", "attempt")] == [0, 0, 0]


async def test_what_is_young_or_unfinished_is_kept_whole(resources: Resources) -> None:
    young = await sent_event(resources, "updated_at = now()")
    [new] = await add_events(resources, event())
    await change(resources, "event", new, OLD_EVENT)
    [waiting] = await add_events(resources, event())
    await route(resources, [waiting])
    await change(resources, "event", waiting, OLD_EVENT)
    assert await purge(resources) == 0
    assert await left(resources, "event") == 3
    assert len(await notifications_of(resources, young)) == 1


async def test_many_pages_are_followed_to_the_first_that_is_young(resources: Resources) -> None:
    pks = await add_events(resources, *(event() for _ in range(1200)))
    await change(resources, "event", pks, f"status = 'FAILED', reason = 'expired', {OLD_EVENT}")
    await add_events(resources, *(event() for _ in range(600)))
    assert await purge(resources) == 1200
    assert await left(resources, "event") == 600


async def test_an_event_that_is_replayed_while_it_is_being_deleted_is_kept(resources: Resources, wait_until: Wait) -> None:
    [pk] = await add_events(resources, event())
    await change(resources, "event", pk, f"status = 'FAILED', reason = 'expired', {OLD_EVENT}")
    async with resources.pool.acquire() as replaying:
        transaction = replaying.transaction()
        await transaction.start()
        await replay_events(replaying, [pk])
        purging = asyncio.create_task(purge(resources))
        await wait_until(lambda: resources.pool.fetchval("select count(*) > 0 from pg_locks where not granted"))
        await transaction.commit()
    assert await purging == 0
    assert await left(resources, "event") == 1
