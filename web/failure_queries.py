"""What ended badly: FAILED and UNKNOWN notifications, dead letters, and the entries of the dead stream. Read only, bounded."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import ColumnElement, Select, Subquery, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import defer
from sqlmodel import col

from app.domain import EventStatus, Reason, Status
from app.models import Event, Notification
from app.streams import DEAD
from web.queries import PAGE_ROWS, Listed, listed, reading

GROUPED_ROWS = 5_000  # of each status, the newest: what is grouped and listed
GROUPS_SHOWN = 40
DEAD_ROWS = 50  # newest entries of the dead stream
BAD = (Status.FAILED, Status.UNKNOWN)


@dataclass(frozen=True, slots=True)
class FailureFilter:
    """What the list shows; `before` is the id that the page before it ended with."""

    status: Status | None = None
    reason: str | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """How many of the newest ended so, and when the last of them did."""

    status: str
    reason: str
    channel: str
    n: int
    newest: datetime


@dataclass(frozen=True, slots=True)
class FailureRows:
    """Groups by size; one page of the list, newest first. `capped`: older ones were not looked at."""

    now: datetime
    groups: list[FailureGroup]
    listed: list[Listed]
    next_before: int | None = None
    capped: bool = False


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


async def failures(engine: AsyncEngine, wanted: FailureFilter, rows: int = PAGE_ROWS) -> FailureRows:
    """FAILED and UNKNOWN notifications, by the index notification_final."""
    async with reading(engine) as (session, now):
        newest = union_all(*(select(_newest(Notification, s).subquery()) for s in BAD)).subquery()
        groups, capped = await _groups(session, newest)
        chosen = _of_status(wanted) if wanted.before is not None or wanted.status else newest
        page = await _listed(session, chosen, _conditions(chosen, wanted), rows + 1)
        more = page[rows - 1].notification.id if len(page) > rows else None
        return FailureRows(now, groups, page[:rows], more, capped)


async def dead_letters(engine: AsyncEngine, rows: int = PAGE_ROWS) -> DeadRows:
    """Dead letters that a row explains, by the indexes event_final and notification_final."""
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


def _newest(table: type[Notification] | type[Event], status: str, before: int | None = None) -> Select[Any]:
    columns: list[Any] = [col(table.id), col(table.final_status).label("status"), col(table.reason), col(table.error)]
    columns += [col(table.updated_at), *([col(Notification.channel)] if table is Notification else [])]
    query: Select[Any] = select(*columns).where(col(table.final_status) == status)
    if before is not None:
        query = query.where(col(table.id) < before)
    return query.order_by(col(table.id).desc()).limit(GROUPED_ROWS)


def _of_status(wanted: FailureFilter) -> Subquery:
    statuses = BAD if wanted.status is None else (wanted.status,)
    return union_all(*(select(_newest(Notification, s, wanted.before).subquery()) for s in statuses)).subquery()


def _conditions(rows: Subquery, wanted: FailureFilter) -> list[ColumnElement[bool]]:
    return [] if wanted.reason is None else [rows.c.reason == wanted.reason]


async def _groups(session: AsyncSession, newest: Subquery) -> tuple[list[FailureGroup], bool]:
    by = (newest.c.status, newest.c.reason, newest.c.channel)
    query = select(*by, func.count().label("n"), func.max(newest.c.updated_at)).group_by(*by)
    groups = [FailureGroup(*row) for row in await session.execute(query.order_by(func.count().desc(), *by).limit(GROUPS_SHOWN))]
    looked_at = await session.scalars(select(func.count()).select_from(newest).group_by(newest.c.status))
    return groups, any(n >= GROUPED_ROWS for n in looked_at)


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
