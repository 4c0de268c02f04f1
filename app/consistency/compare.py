"""The first look at one stream: its entries, then its pending list, then its rows. What does not fit is a suspect, no more.

In this order a row that is unfinished, and whose entry was not met, has none: it is acknowledged only after the row's own commit.
Entries are never moved, so a walk by id meets every entry that is there all the time.
"""

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from app.consistency.carried import PAGE, START, Group, Seen, entries_page, pending_page
from app.consistency.look import Look, Patience
from app.store import consistency as store
from app.store.consistency import OwedRow

if TYPE_CHECKING:
    from app.store.consistency import Connection

ENTRIES_MAX = 200_000  # entries, pending entries and rows of each kind that are compared, per stream
ROWS_PAGE = 5_000
SUSPECTS_MAX = 200  # of each kind, that are looked at again
BEFORE_ALL = datetime(1970, 1, 1, tzinfo=UTC)


async def first_look(
    connection: "Connection", redis: Redis, stream: str, now: datetime, group: Group, patience: Patience, until: float
) -> Look:
    """Reads no later than `until` (monotonic). Raises redis.RedisError and asyncpg's errors."""
    look = Look(stream, now, group)
    await _read_entries(look, connection, redis, until)
    await _read_pending(look, redis, until)
    look.oldest = look.oldest or await _oldest(look, redis)
    await _read_published(look, connection, patience, until)
    unpublished, look.at_once = await store.count_unpublished(connection, look.channel, ENTRIES_MAX)
    look.parked = unpublished - look.at_once
    look.capped |= unpublished >= ENTRIES_MAX
    late = await store.late_parked(connection, look.channel, patience.parked_s, SUSPECTS_MAX + 1)
    look.parked_late = {row.id: row for row in late}
    return look


async def _read_entries(look: Look, connection: "Connection", redis: Redis, until: float) -> None:
    after, last = START, look.group.last
    while after < last and len(look.entries) < ENTRIES_MAX:
        if time.monotonic() > until:
            look.cut = True
            break
        page = await entries_page(redis, look.stream, after, last)
        ids = [seen.row_id for seen in page if seen.row_id is not None]
        _meet(look, page, await store.states(connection, look.channel, ids) if page else {})
        if len(page) < PAGE:
            return
        after = page[-1].id
        look.compared_to = page[-1].published_at or look.compared_to
    look.all_met = after >= last
    if look.all_met:
        look.compared_to = None


def _meet(look: Look, page: Iterable[Seen], states: dict[int, str]) -> None:
    """Count one page of entries, their rows' states known."""
    for seen in page:
        look.entries[seen.id] = seen.row_id
        state = None if seen.row_id is None else states.get(seen.row_id)
        if seen.row_id is None or state is None:
            look.strangers.append(seen.id)
            continue
        look.doubled += seen.row_id in look.delivered_rows or seen.row_id in look.unread_rows
        look.final += state == "final"
        look.parked_entries += state == "parked"
        (look.delivered_rows if seen.id <= look.group.read_to else look.unread_rows).add(seen.row_id)


async def _read_pending(look: Look, redis: Redis, until: float) -> None:
    after = START
    while len(look.pending) < ENTRIES_MAX:
        if time.monotonic() > until:
            look.cut = True
            return
        page = await pending_page(redis, look.stream, after, look.group.last)
        look.pending.update({p.id: p for p in page})
        if len(page) < PAGE:
            return
        after = page[-1].id


async def _oldest(look: Look, redis: Redis) -> Seen | None:
    """The oldest entry that the group still carries: pending, or not delivered when the walk began."""
    carried = (one for one in look.entries if one > look.group.read_to or one in look.pending)
    oldest = min(carried, default=None)
    if oldest is None:
        return None
    page = await entries_page(redis, look.stream, (oldest[0], oldest[1] - 1) if oldest[1] else (oldest[0] - 1, 2**63), oldest)
    return page[0] if page else None


async def _read_published(look: Look, connection: "Connection", patience: Patience, until: float) -> None:
    after = (BEFORE_ALL, 0)
    while look.published < ENTRIES_MAX:
        if time.monotonic() > until:
            look.cut = True
            return
        page = await store.published_page(connection, look.channel, after, ROWS_PAGE)
        for row in page:
            _weigh(look, row, patience)
        if len(page) < ROWS_PAGE:
            return
        assert page[-1].published_at is not None
        after = (page[-1].published_at, page[-1].id)
    look.capped = True


def _weigh(look: Look, row: OwedRow, patience: Patience) -> None:
    """Count one row, and suspect it where it does not fit."""
    look.published += 1
    look.in_flight += row.lease_in_s is not None and row.lease_in_s >= 0
    overdue = row.due_in_s < -patience.overdue_s and (row.lease_in_s is None or row.lease_in_s < 0)
    if row.lease_in_s is not None and row.lease_in_s < -patience.lease_s and row.id not in look.unread_rows:
        look.lease_over[row.id] = row
    elif row.id in look.unread_rows:
        if overdue and row.id not in look.delivered_rows:
            look.unread[row.id] = row
    elif row.id not in look.delivered_rows and _should_be_carried(look, row, patience):
        look.uncarried[row.id] = row


def _should_be_carried(look: Look, row: OwedRow, patience: Patience) -> bool:
    """Published a grace ago, under no live lease, and within what was compared of the stream."""
    assert row.published_at is not None
    bound = min(look.now, look.compared_to or look.now) - timedelta(seconds=patience.grace_s)
    return not look.cut and row.published_at < bound and (row.lease_in_s is None or row.lease_in_s < 0)
