"""What PostgreSQL says is owed: parked work that is due, and work that no stream carries any more; and what is given up."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import pytest

from app.domain import Channel, Outgoing
from app.resources import Resources
from app.store.owed import DeadVerdict, clock, end_dead_events, end_dead_notifications, take_owed_events, take_owed_notifications
from tests.support import (
    add_events,
    add_notification,
    add_notifications,
    attempts,
    change,
    event,
    event_row,
    notification,
    start_attempt,
    start_attempts,
)

GRACE_S = 30.0
Add = Callable[[Resources, int], Awaitable[list[int]]]
Take = Callable[[Resources, datetime | None], Awaitable[Sequence[Outgoing]]]


async def take_events(resources: Resources, mark: datetime | None, limit: int = 500) -> list[Outgoing]:
    return await take_owed_events(resources.pool, mark, GRACE_S, limit)


async def take_mails(resources: Resources, mark: datetime | None, limit: int = 500) -> list[Outgoing]:
    return await take_owed_notifications(resources.pool, Channel.EMAIL, mark, GRACE_S, limit)


async def new_events(resources: Resources, number: int) -> list[int]:
    return await add_events(resources, *(event() for _ in range(number)))


def ids_of(rows: Sequence[Outgoing]) -> list[int]:
    return sorted(row.row_id for row in rows)


BOTH = pytest.mark.parametrize(
    ("table", "add", "take"),
    [("event", new_events, take_events), ("notification", add_notifications, take_mails)],
    ids=["events", "mails"],
)


# ---- the relay's rule, the same for events and notifications


@BOTH
async def test_parked_work_is_taken_once_it_is_due(resources: Resources, table: str, add: Add, take: Take) -> None:
    due, not_due, _published = await add(resources, 3)
    await change(resources, table, [due, not_due], "published_at = null")
    await change(resources, table, not_due, "due_at = now() + interval '1 minute'")
    assert ids_of(await take(resources, await clock(resources.pool))) == [due]


@BOTH
async def test_work_published_a_grace_before_the_watermark_is_lost_and_taken(
    resources: Resources, table: str, add: Add, take: Take
) -> None:
    lost, carried, later, _young = await add(resources, 4)
    mark = await clock(resources.pool)
    limit = f"timestamptz '{mark}' - interval '30 s'"
    await change(resources, table, carried, f"published_at = {limit}")
    await change(resources, table, [lost, later], f"published_at = {limit} - interval '1 microsecond'")
    await change(resources, table, later, "due_at = now() + interval '1 minute'")
    assert ids_of(await take(resources, mark)) == [lost]


@BOTH
async def test_without_a_watermark_only_parked_work_is_taken(resources: Resources, table: str, add: Add, take: Take) -> None:
    parked, old = await add(resources, 2)
    await change(resources, table, parked, "published_at = null")
    await change(resources, table, old, "published_at = now() - interval '1 year'")
    assert ids_of(await take(resources, None)) == [parked]


@BOTH
async def test_what_is_taken_is_published_now_and_not_taken_twice(resources: Resources, table: str, add: Add, take: Take) -> None:
    (mine,) = await add(resources, 1)
    await change(resources, table, mine, "published_at = null")
    before = await clock(resources.pool)
    (row,) = await take(resources, before)
    assert before < row.published_at <= await clock(resources.pool)
    assert (row.user_id, row.event_type) == ("user_123", "ORDER_PLACED")
    assert await take(resources, await clock(resources.pool)) == []


@BOTH
async def test_a_relay_does_not_wait_for_what_another_one_is_taking(
    resources: Resources, table: str, add: Add, take: Take
) -> None:
    ids = sorted(await add(resources, 4))
    await change(resources, table, ids[:2], "published_at = null")
    await change(resources, table, ids[2:], "published_at = now() - interval '1 hour'")
    mark = await clock(resources.pool)
    async with resources.pool.acquire() as other, other.transaction():
        await other.execute(f"select from {table} where id = any($1) for update", [ids[0], ids[2]])
        async with asyncio.timeout(5):
            assert ids_of(await take(resources, mark)) == [ids[1], ids[3]]
    assert ids_of(await take(resources, mark)) == [ids[0], ids[2]]


@BOTH
async def test_what_has_ended_is_never_owed(resources: Resources, table: str, add: Add, take: Take) -> None:
    parked, old = await add(resources, 2)
    await change(resources, table, [parked, old], "status = 'CANCELLED', reason = 'cancelled'")
    await change(resources, table, parked, "published_at = null")
    await change(resources, table, old, "published_at = now() - interval '1 hour'")
    assert await take(resources, await clock(resources.pool)) == []


async def test_a_sweep_takes_at_most_its_limit_of_each_kind_the_oldest_first(resources: Resources) -> None:
    ids = sorted(await new_events(resources, 6))
    await change(resources, "event", ids[:3], "published_at = null, due_at = now() - make_interval(secs => id)")
    await change(resources, "event", ids[3:], "published_at = now() - make_interval(secs => 100 + id)")
    assert ids_of(await take_events(resources, await clock(resources.pool), limit=2)) == [*ids[1:3], *ids[4:6]]


# ---- notifications only


async def test_what_is_under_a_live_lease_is_not_owed(resources: Resources) -> None:
    live_parked, _live_old, over_parked, over_old = ids = await start_attempts(resources, 4)
    await change(resources, "notification", [over_parked, over_old], "lease_until = now() - interval '1 s'")
    await change(resources, "notification", ids, "published_at = now() - interval '1 hour'")
    await change(resources, "notification", [live_parked, over_parked], "published_at = null")
    assert ids_of(await take_mails(resources, await clock(resources.pool))) == [over_parked, over_old]


async def test_each_channel_is_swept_alone(resources: Resources) -> None:
    mail, sms = await add_notification(resources), await add_notification(resources, Channel.SMS)
    await change(resources, "notification", [mail, sms], "published_at = null")
    assert ids_of(await take_mails(resources, None)) == [mail]


# ---- dead letters


async def test_a_dead_event_fails_unless_it_had_ended_before(resources: Resources) -> None:
    new, ended = await new_events(resources, 2)
    await change(resources, "event", ended, "status = 'CANCELLED', reason = 'cancelled'")
    verdicts = await end_dead_events(resources.pool, [new, ended, 10**15], "it killed 8 consumers")
    assert verdicts == {new: DeadVerdict.ENDED, ended: DeadVerdict.FINAL}
    row = await event_row(resources, new)
    assert (row["status"], row["reason"], row["error"]) == ("FAILED", "dead_letter", "it killed 8 consumers")
    assert (await event_row(resources, ended))["status"] == "CANCELLED"


async def test_a_dead_notification_fails_unless_it_ended_or_somebody_is_at_it(resources: Resources) -> None:
    pending, ended = await add_notifications(resources, 2)
    live = await start_attempt(resources)
    await change(resources, "notification", ended, "status = 'SENT'")
    verdicts = await end_dead_notifications(resources.pool, [pending, ended, live, 10**15], "it killed 8 consumers")
    assert verdicts == {pending: DeadVerdict.ENDED, ended: DeadVerdict.FINAL, live: DeadVerdict.BUSY}
    row = await notification(resources, pending)
    assert (row["status"], row["reason"], row["error"]) == ("FAILED", "dead_letter", "it killed 8 consumers")
    assert (row["possible_duplicate"], await attempts(resources, pending)) == (False, [])
    assert (await notification(resources, live))["status"] == "PROCESSING"


async def test_a_notification_that_died_in_mid_send_says_it_may_have_been_sent(resources: Resources) -> None:
    mine = await start_attempt(resources, me="gone")
    await change(resources, "notification", mine, "lease_until = now() - interval '1 s'")
    assert await end_dead_notifications(resources.pool, [mine], "poison") == {mine: DeadVerdict.ENDED}
    row = await notification(resources, mine)
    assert (row["status"], row["possible_duplicate"], row["lease_until"]) == ("FAILED", True, None)
    (attempt,) = await attempts(resources, mine)
    assert (attempt["number"], attempt["consumer"], attempt["outcome"]) == (1, "gone", "unknown")
