"""Dead letters: events and notifications that ended so, and the entries of the dead stream. Read only, bounded."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import ColumnElement, Select, Subquery, Text, cast, func, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import defer
from sqlmodel import col

from app.domain import EventStatus, Reason, Status
from app.models import Event, Notification
from app.streams import DEAD
from web.dead_edit import Dead
from web.queries import PAGE_ROWS, Listed, listed, reading

GROUPED_ROWS = 20_000  # of each table, the newest that FAILED: among them dead letters are looked for
GROUPS_SHOWN = 40
DEAD_ROWS = 50  # newest entries of the dead stream


@dataclass(frozen=True, slots=True)
class DeadGroup:
    """How many of the newest FAILED rows are dead letters with this sentence."""

    what: str  # "event", "notification"
    error: str
    n: int


@dataclass(frozen=True, slots=True)
class DeadRows:
    """Rows with reason dead_letter among the newest GROUPED_ROWS that FAILED; at most PAGE_ROWS of each listed, newest first."""

    now: datetime
    groups: list[DeadGroup]
    events: list[Event]
    notifications: list[Listed]
    capped: bool = False


@dataclass(frozen=True, slots=True)
class DeadEntries:
    """The newest entries of the dead stream, (id, fields) as they are, and how many there are."""

    length: int
    entries: list[tuple[bytes, dict[bytes, bytes]]]


async def dead_letters(engine: AsyncEngine, rows: int = PAGE_ROWS) -> DeadRows:
    """Dead letters that a row explains, by the indexes event_not_routed and notification_not_sent."""
    async with reading(engine) as (session, now):
        events = _newest(Event, EventStatus.FAILED).subquery()
        notifications = _newest(Notification, Status.FAILED).subquery()
        groups = [
            DeadGroup(what, error or "", n)
            for what, newest in (("event", events), ("notification", notifications))
            for error, n in await session.execute(_by_error(newest))
        ]
        ids = select(events.c.id).where(_dead(events)).order_by(events.c.id.desc()).limit(rows)
        found = await session.scalars(
            select(Event).options(defer(Event.payload)).where(col(Event.id).in_(ids)).order_by(col(Event.id).desc())  # type: ignore[arg-type]
        )
        theirs = await _listed(session, notifications, [_dead(notifications)], rows)
        capped = [n >= GROUPED_ROWS for t in (events, notifications) for n in await session.scalars(_count(t))]
        return DeadRows(now, groups, list(found), theirs, any(capped))


async def dead_entries(redis: Redis, most: int = DEAD_ROWS) -> DeadEntries:
    """Entries that no row explains. Raises redis.RedisError where Redis is away."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.xlen(DEAD)
        pipe.xrevrange(DEAD, count=most)
        length, entries = await pipe.execute()
    return DeadEntries(length, list(entries))


async def find_dead(engine: AsyncEngine, kind: str, number: int) -> Dead | None:
    """One event or notification, dead or not any more; None: there is none."""
    async with reading(engine) as (session, _):
        notification = await session.get(Notification, number) if kind == "notification" else None
        if kind == "notification" and notification is None:
            return None
        its = select(Event, cast(col(Event.payload), Text)).options(defer(Event.payload))  # type: ignore[arg-type]
        pk = notification.event_pk if notification else number
        found = (await session.execute(its.where(col(Event.id) == pk))).one_or_none()
        if found is None:
            return None
        tried = or_(col(Notification.attempt) > 0, ~col(Notification.done))
        others = select(func.count()).where(col(Notification.event_pk) == pk, tried)
        others = others.where(col(Notification.id) != number) if notification else others
        return Dead(found[0], notification, found[1], bool(await session.scalar(others)))


def _newest(table: type[Notification] | type[Event], status: str) -> Select[Any]:
    columns: list[Any] = [col(table.id), col(table.reason), col(table.error)]
    query: Select[Any] = select(*columns).where(col(table.final_status) == status)
    return query.order_by(col(table.id).desc()).limit(GROUPED_ROWS)


async def _listed(session: AsyncSession, rows: Subquery, conditions: list[ColumnElement[bool]], most: int) -> list[Listed]:
    return await listed(session, select(rows.c.id).where(*conditions).order_by(rows.c.id.desc()).limit(most))


def _by_error(rows: Subquery) -> Select[str, int]:
    return (
        select(rows.c.error, func.count())
        .where(_dead(rows))
        .group_by(rows.c.error)
        .order_by(func.count().desc())
        .limit(GROUPS_SHOWN)
    )


def _dead(rows: Subquery) -> ColumnElement[bool]:
    dead: ColumnElement[bool] = rows.c.reason == Reason.DEAD_LETTER
    return dead


def _count(rows: Subquery) -> Select[int]:
    return select(func.count()).select_from(rows)
