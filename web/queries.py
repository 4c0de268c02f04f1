"""Lists of notifications: read only, bounded in rows and in time, whatever the tables hold.

No index mentions `status` (claims stay HOT), so the unfinished are found by `done`, and what ended, but was not SENT, by
`final_status`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, Subquery, func, not_, select, union_all
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlmodel import col

from app.domain import Channel
from app.models import Event, Notification

STATEMENT_LIMIT_MS = 2000
PAGE_ROWS = 50
SEARCHED_ROWS = 20_000  # looked at, where a filter has no index of its own
OPEN_ROWS = 5_000  # unfinished notifications looked at, per channel


class Listed(NamedTuple):
    """A notification with its event's id and type."""

    notification: Notification
    event_id: str
    event_type: str


class Searched(NamedTuple):
    """A look that its time limit ended: it met so many rows, and came to those made at `to` (None: it cannot be told)."""

    rows: int
    to: datetime | None
    newest_first: bool = True


@dataclass(frozen=True, slots=True)
class ListRows:
    """One page, newest first; `next_before` None: nothing is older; `next_after` None: nothing is newer, or it is not known.

    `searched`: no index has this filter, the page is not full, and the next one goes on where this look ended.
    """

    now: datetime
    listed: list[Listed]
    next_before: int | None = None
    next_after: int | None = None
    searched: Searched | None = None


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[tuple[AsyncSession, datetime]]:
    """One read-only transaction on one snapshot, and PostgreSQL's now()."""
    snapshot = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    async with AsyncSession(snapshot, expire_on_commit=False) as session:
        limit = func.set_config("statement_timeout", str(STATEMENT_LIMIT_MS), True)
        _, now = (await session.execute(select(limit, func.now()))).one()
        yield session, now


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


async def listed(session: AsyncSession, ids: Select[int]) -> list[Listed]:
    """These notifications with their events' ids and types, newest first."""
    page = (
        select(Notification, col(Event.event_id), col(Event.type))
        .join(Event, col(Event.id) == col(Notification.event_pk))
        .where(col(Notification.id).in_(ids))
    )
    return [Listed(*row) for row in await session.execute(page.order_by(col(Notification.id).desc()))]


def _columns() -> Select[int, str, str]:
    return select(col(Notification.id), col(Notification.channel), col(Notification.status))


def unfinished(table: type[Notification] | type[Event]) -> ColumnElement[bool]:
    """`not done`, spelled as in the partial indexes."""
    done: ColumnElement[bool] = table.done  # type: ignore[assignment]
    return not_(done)
