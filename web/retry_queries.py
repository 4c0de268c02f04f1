"""What waits for its next try: read only, by the two partial indexes of the unfinished, bounded in rows and in time."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, Subquery, func, literal, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col

from app.domain import Channel, Status
from app.models import Event, Notification
from web.queries import OPEN_ROWS, PAGE_ROWS, Listed, reading, unfinished

WITHIN: tuple[tuple[str, timedelta], ...] = (
    ("1 minute", timedelta(minutes=1)),
    ("10 minutes", timedelta(minutes=10)),
    ("1 hour", timedelta(hours=1)),
)


@dataclass(frozen=True, slots=True)
class Due:
    """How many of one channel wait: due by now, within each of WITHIN (each counts the ones before, too), and in all."""

    now: int = 0
    within: tuple[int, ...] = (0,) * len(WITHIN)
    all: int = 0


@dataclass(frozen=True, slots=True)
class RetryRows:
    """The PAGE_ROWS that are due soonest. `capped`: channels with more unfinished than the OPEN_ROWS of each kind looked at."""

    now: datetime
    listed: list[Listed]
    due: dict[Channel, Due]
    capped: frozenset[Channel] = frozenset()


async def retries(engine: AsyncEngine) -> RetryRows:
    """PENDING after at least one attempt, or parked. Within a channel: parked ones by due time, the others by publication."""
    looked_at = _looked_at()
    waiting = select(looked_at).where(_waits(looked_at)).subquery()
    async with reading(engine) as (session, now):
        due = {Channel(channel): Due(by[0], tuple(by[1:]), n) for channel, n, *by in await session.execute(_due(waiting))}
        listed = [Listed(*row) for row in await session.execute(_soonest(waiting))]
        full = await session.scalars(_full(looked_at))
        return RetryRows(now, listed, {c: due.get(c, Due()) for c in Channel}, frozenset(Channel(c) for c in full))


def _looked_at() -> Subquery:
    return union_all(*(select(one.subquery()) for channel in Channel for one in _unfinished(channel))).subquery()


def _unfinished(channel: Channel) -> Iterator[Select[int, str, str, int, datetime, bool]]:
    """One walk along each of the indexes notification_parked and notification_published."""
    published, due = col(Notification.published_at), col(Notification.due_at)
    for parked, condition, order in ((True, published.is_(None), due), (False, published.is_not(None), published)):
        yield (
            select(
                col(Notification.id),
                col(Notification.channel),
                col(Notification.status),
                col(Notification.attempt),
                due,
                literal(parked).label("parked"),
            )
            .where(unfinished(Notification), col(Notification.channel) == channel, condition)
            .order_by(order)
            .limit(OPEN_ROWS)
        )


def _waits(rows: Subquery) -> ColumnElement[bool]:
    return (rows.c.status == Status.PENDING) & or_(rows.c.attempt > 0, rows.c.parked)


def _due(waiting: Subquery) -> Select[Any]:
    by = [func.count().filter(waiting.c.due_at <= func.now() + within) for within in (timedelta(), *(w for _, w in WITHIN))]
    return select(waiting.c.channel, func.count(), *by).group_by(waiting.c.channel)


def _soonest(waiting: Subquery) -> Select[Notification, str, str]:
    ids = select(waiting.c.id).order_by(waiting.c.due_at, waiting.c.id).limit(PAGE_ROWS)
    return (
        select(Notification, col(Event.event_id), col(Event.type))
        .join(Event, col(Event.id) == col(Notification.event_pk))
        .where(col(Notification.id).in_(ids))
        .order_by(col(Notification.due_at), col(Notification.id))
    )


def _full(looked_at: Subquery) -> Select[str]:
    by_kind = select(looked_at.c.channel).group_by(looked_at.c.channel, looked_at.c.parked)
    return by_kind.having(func.count() >= OPEN_ROWS)
