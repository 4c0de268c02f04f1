"""Lists of notifications: read only, bounded in rows and in time, whatever the tables hold.

No index mentions `status` (claims stay HOT), so the unfinished are found by `done` and the finished by `final_status`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, Subquery, func, not_, select, union_all
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlmodel import col

from app.domain import Channel, Status
from app.models import Event, Notification

STATEMENT_LIMIT_MS = 2000
PAGE_ROWS = 50
SEARCHED_ROWS = 20_000  # looked at, where a filter has no index of its own
OPEN_ROWS = 5_000  # unfinished notifications looked at, per channel


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list shows; `before` is the id that the page before it ended with."""

    status: Status | None = None
    channel: Channel | None = None
    user: str | None = None
    before: int | None = None


class Listed(NamedTuple):
    """A notification with its event's id and type."""

    notification: Notification
    event_id: str
    event_type: str


@dataclass(frozen=True, slots=True)
class ListRows:
    """One page, newest first; `next_before` None: the last one.

    `searched`: no index has this filter, and these are the matches among so many rows. `open_capped`: more notifications are
    unfinished than were looked at.
    """

    now: datetime
    listed: list[Listed]
    next_before: int | None = None
    searched: int | None = None
    open_capped: bool = False


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[tuple[AsyncSession, datetime]]:
    """One read-only transaction on one snapshot, and PostgreSQL's now()."""
    snapshot = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    async with AsyncSession(snapshot, expire_on_commit=False) as session:
        limit = func.set_config("statement_timeout", str(STATEMENT_LIMIT_MS), True)
        _, now = (await session.execute(select(limit, func.now()))).one()
        yield session, now


async def notifications(engine: AsyncEngine, wanted: Filter, rows: int = PAGE_ROWS) -> ListRows:
    """One page of notifications; the next one has `before = next_before`."""
    candidates = _candidates(wanted)
    async with reading(engine) as (session, now):
        found = await listed(session, _page_ids(candidates, wanted, rows + 1))
        more = found[rows - 1].notification.id if len(found) > rows else None
        page = ListRows(now, found[:rows], next_before=more)
        if _lists_open(wanted):
            return replace(page, open_capped=await _reached_the_cap(session, candidates))
        return page if more else await _last_page(session, candidates, page)


def open_notifications() -> Subquery:
    """id, channel, status of the unfinished, OPEN_ROWS per channel: what was published first comes first, parked work last."""
    each = [
        _columns()
        .where(unfinished(Notification), col(Notification.channel) == channel)
        .order_by(col(Notification.published_at))
        .limit(OPEN_ROWS)
        for channel in Channel
    ]
    return union_all(*(select(one.subquery()) for one in each)).subquery()


def _candidates(wanted: Filter) -> Subquery:
    if _lists_open(wanted):
        return open_notifications()
    query = _columns().order_by(col(Notification.id).desc()).limit(SEARCHED_ROWS)
    if wanted.before is not None:
        query = query.where(col(Notification.id) < wanted.before)
    if wanted.user is not None:
        return query.where(col(Notification.user_id) == wanted.user).subquery()
    if wanted.status is not None:
        return query.where(col(Notification.final_status) == wanted.status).subquery()
    return query.subquery()


def _page_ids(candidates: Subquery, wanted: Filter, most: int) -> Select[int]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.status is not None:
        conditions.append(candidates.c.status == wanted.status)
    if wanted.channel is not None:
        conditions.append(candidates.c.channel == wanted.channel)
    if wanted.before is not None:
        conditions.append(candidates.c.id < wanted.before)
    return select(candidates.c.id).where(*conditions).order_by(candidates.c.id.desc()).limit(most)


async def listed(session: AsyncSession, ids: Select[int]) -> list[Listed]:
    """These notifications with their events' ids and types, newest first."""
    page = (
        select(Notification, col(Event.event_id), col(Event.type))
        .join(Event, col(Event.id) == col(Notification.event_pk))
        .where(col(Notification.id).in_(ids))
    )
    return [Listed(*row) for row in await session.execute(page.order_by(col(Notification.id).desc()))]


async def _reached_the_cap(session: AsyncSession, candidates: Subquery) -> bool:
    counts = select(func.count()).select_from(candidates).group_by(candidates.c.channel)
    return any(n >= OPEN_ROWS for n in await session.scalars(counts))


async def _last_page(session: AsyncSession, candidates: Subquery, page: ListRows) -> ListRows:
    """The page is not full: because there is no more, or because no more was looked at?"""
    looked_at = select(func.count(), func.min(candidates.c.id)).select_from(candidates)
    n, last = (await session.execute(looked_at)).one()
    return replace(page, next_before=last, searched=n) if n == SEARCHED_ROWS else page


def _lists_open(wanted: Filter) -> bool:
    return wanted.status is not None and not wanted.status.final and wanted.user is None


def _columns() -> Select[int, str, str]:
    return select(col(Notification.id), col(Notification.channel), col(Notification.status))


def unfinished(table: type[Notification] | type[Event]) -> ColumnElement[bool]:
    """`not done`, spelled as in the partial indexes."""
    done: ColumnElement[bool] = table.done  # type: ignore[assignment]
    return not_(done)
