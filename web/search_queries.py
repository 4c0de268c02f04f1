"""Lists of notifications by any filter: one page, how many there are, and the ids that an action takes. Read only.

Each looks for so long and then says how far it came; the caller goes on from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlmodel import col, select

from app.models import Event, Notification
from web.filters import Filter
from web.queries import PAGE_ROWS, Listed, ListRows, Searched, reading
from web.walk_queries import Plan, Window, bounds, candidates, plan, windows

PAGE_WINDOWS = (2_000, 10_000)  # rows met by one statement of a page: the first, and each further one
PAGE_LOOKS_FOR_S = 0.12
COUNT_WINDOWS = (10_000, 40_000)
COUNT_LOOKS_FOR_S = 1.5
COUNT_MAX = 100_000

IDS = "select n.id {found} order by n.id {order} limit :most"
GROUPS = """
select n.status, n.channel, n.reason, count(*) as rows,
  count(*) filter (where n.possible_duplicate or n.status = 'UNKNOWN') as doubtful
{found} and {as_of} group by n.status, n.channel, n.reason
"""
# What ended, or was made, later than a count was made is not what was counted.
AS_OF = "case when n.done then n.updated_at else n.created_at end <= :as_of"
MADE = "select created_at from notification where id = :id"


Groups = dict[tuple[str, str, str | None], tuple[int, int]]  # status, channel, reason: rows, doubtful


class Group(NamedTuple):
    """How many there are of one status, channel and reason; `doubtful` of them may have been sent."""

    status: str
    channel: str
    reason: str | None
    rows: int
    doubtful: int


@dataclass(frozen=True, slots=True)
class Counted:
    """What matches, as of a moment; `more`: there may be more than was counted, back from `to` (None: COUNT_MAX was reached)."""

    as_of: datetime
    groups: tuple[Group, ...]
    more: bool = False
    to: datetime | None = None


class Batch(NamedTuple):
    """Ids that match, by id; the next batch begins after `next_low`, None: there is none."""

    ids: list[int]
    next_low: int | None


async def notifications(engine: AsyncEngine, wanted: Filter, rows: int = PAGE_ROWS) -> ListRows:
    """One page, newest first: the newest, those before `wanted.before`, or those after `wanted.after`."""
    async with reading(engine) as (session, now):
        planned = await plan(session, wanted)
        if wanted.after is not None:
            newer = await _newer(session, now, planned, wanted, rows)
            if newer is not None:
                return newer
        return await _older(session, now, planned, wanted, rows)


async def count(engine: AsyncEngine, wanted: Filter, as_of: datetime | None = None) -> Counted:
    """How many match that had ended (unfinished: that were there) at `as_of`, or now."""
    until, groups = monotonic() + COUNT_LOOKS_FOR_S, Groups()
    async with reading(engine) as (session, now):
        as_of = min(as_of or now, now)
        planned = await plan(session, wanted)
        low, high = await bounds(session, wanted)
        async for window in windows(session, planned, low, high, COUNT_WINDOWS):
            await _add_groups(session, planned, window, as_of, groups)
            found = tuple(Group(*key, *numbers) for key, numbers in groups.items())
            if sum(group.rows for group in found) >= COUNT_MAX and not window.last:
                return Counted(as_of, found, more=True)
            if monotonic() > until and not window.last:
                return Counted(as_of, found, more=True, to=await _made(session, window.low + 1))
        return Counted(as_of, found)


async def batch(engine: AsyncEngine, wanted: Filter, as_of: datetime, low: int, most: int) -> Batch:
    """The next ids after `low` that match, of those that had ended (unfinished: that were there) at `as_of`; at most `most`."""
    async with reading(engine) as (session, _):
        planned = await plan(session, wanted)
        planned = replace(planned, conditions=(*planned.conditions, AS_OF), bound={**planned.bound, "as_of": as_of})
        lowest, high = await bounds(session, wanted)
        async for window in windows(session, planned, max(low, lowest), high, COUNT_WINDOWS, newest_first=False):
            ids = await _ids(session, planned, window, most, newest_first=False)
            if ids:
                done = window.last and len(ids) < most
                return Batch(ids, None if done else ids[-1] if len(ids) == most else window.high - 1)
        return Batch([], None)


async def _older(session: AsyncSession, now: datetime, planned: Plan, wanted: Filter, rows: int) -> ListRows:
    low, high = await bounds(session, wanted)
    high = high if wanted.before is None else min(high, wanted.before)
    found, edge, looked_at = await _look(session, planned, low, high, rows + 1, newest_first=True)
    page = await listed(session, found[:rows])
    newer = page[0].notification.id if page and wanted.before is not None else None
    if len(found) > rows:
        return ListRows(now, page, next_before=found[rows - 1], next_after=newer)
    searched = None if edge is None else Searched(looked_at, await _made(session, edge))
    return ListRows(now, page, next_before=edge, next_after=newer, searched=searched)


async def _newer(session: AsyncSession, now: datetime, planned: Plan, wanted: Filter, rows: int) -> ListRows | None:
    """None: there are too few for a page, so the newest are the page."""
    low, high = await bounds(session, wanted)
    found, edge, looked_at = await _look(session, planned, max(low, wanted.after or 0), high, rows + 1, newest_first=False)
    if len(found) <= rows and edge is None:
        return None
    page = await listed(session, found[:rows])
    older = page[-1].notification.id if page else (wanted.after or 0) + 1
    if len(found) > rows:
        return ListRows(now, page, next_before=older, next_after=found[rows - 1])
    searched = Searched(looked_at, await _made(session, edge or 0), newest_first=False)
    return ListRows(now, page, next_before=older, next_after=edge, searched=searched)


async def _look(
    session: AsyncSession, planned: Plan, low: int, high: int, most: int, *, newest_first: bool
) -> tuple[list[int], int | None, int]:
    """At most `most` ids that match; where the time ran out before: the id up to which it looked; and how many rows it met."""
    until, found, looked_at = monotonic() + PAGE_LOOKS_FOR_S, list[int](), 0
    async for window in windows(session, planned, low, high, PAGE_WINDOWS, newest_first=newest_first):
        found += await _ids(session, planned, window, most - len(found), newest_first=newest_first)
        looked_at += window.rows
        if len(found) >= most or window.last:
            break
        if monotonic() > until:
            return found, window.low + 1 if newest_first else window.high - 1, looked_at
    return found, None, looked_at


async def _ids(session: AsyncSession, planned: Plan, window: Window, most: int, *, newest_first: bool) -> list[int]:
    inside, bound = candidates(planned, window, newest_first=newest_first)
    query = IDS.format(found=inside, order="desc" if newest_first else "asc")
    return list(await session.scalars(text(query), {**bound, "most": most}))


async def _add_groups(session: AsyncSession, planned: Plan, window: Window, as_of: datetime, groups: Groups) -> None:
    inside, bound = candidates(planned, window)
    for status, channel, reason, rows, doubtful in await session.execute(
        text(GROUPS.format(found=inside, as_of=AS_OF)), {**bound, "as_of": as_of}
    ):
        known = groups.get((status, channel, reason), (0, 0))
        groups[status, channel, reason] = (known[0] + rows, known[1] + doubtful)


async def listed(session: AsyncSession, ids: Sequence[int]) -> list[Listed]:
    """These notifications with their events' ids and types, newest first."""
    page = (
        select(Notification, col(Event.event_id), col(Event.type))
        .join(Event, col(Event.id) == col(Notification.event_pk))
        .where(col(Notification.id).in_(ids))
    )
    return [Listed(*row) for row in await session.execute(page.order_by(col(Notification.id).desc()))]


async def _made(session: AsyncSession, notification_id: int) -> datetime | None:
    """When this one was made; None: it is gone."""
    made: datetime | None = await session.scalar(text(MADE), {"id": notification_id})
    return made
