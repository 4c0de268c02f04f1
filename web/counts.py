"""How much there is, and what is owed for how long: counts that stay cheap with millions of rows."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Select, func, literal, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlmodel import col

from app.domain import Channel, EventStatus, Status
from app.models import Event, Notification
from app.streams import EVENTS, channel_stream
from web.queries import OPEN_ROWS, open_notifications, reading, unfinished

COUNTED_ROWS = 10_000
Table: TypeAlias = type[Notification] | type[Event]


class Precision(StrEnum):
    EXACT = "exact"
    AT_LEAST = "at least"
    ABOUT = "about"


@dataclass(frozen=True, slots=True)
class Count:
    """A number of rows, and how well it is known."""

    n: int
    precision: Precision = Precision.EXACT


@dataclass(frozen=True, slots=True)
class CountRows:
    """Rows by status; every status has its count."""

    notifications: dict[Status, Count]
    events: dict[EventStatus, Count]


@dataclass(frozen=True, slots=True)
class Owed:
    """Unfinished work of one stream: since when the longest is published, and when the first parked was, or is, due."""

    published_at: datetime | None
    parked_due_at: datetime | None


@dataclass(frozen=True, slots=True)
class OwedRows:
    now: datetime
    by_stream: dict[str, Owed]


# PostgreSQL's own statistics, as of its last analyze: rows of a table times the share of each frequent value.
ESTIMATES = """
select s.tablename, v.value, (v.share * c.reltuples)::bigint as n
from pg_stats s join pg_class c on c.oid = to_regclass(quote_ident(s.tablename))
cross join lateral unnest(s.most_common_vals::text::text[], s.most_common_freqs) as v(value, share)
where s.attname = 'final_status' and s.tablename in ('event', 'notification') and c.reltuples > 0
"""


async def counts(engine: AsyncEngine) -> CountRows:
    """Notifications and events by status: exact up to COUNTED_ROWS, above it an estimate, else a lower bound.

    SENT and ROUTED, which nearly every row is, are exact while the whole table has fewer rows than that.
    """
    async with reading(engine) as (session, _):
        found = {(of, status): (n, seen) for of, status, n, seen in await session.execute(union_all(*_counted()))}
        estimates = await _estimates(session) if max(seen for _, seen in found.values()) >= COUNTED_ROWS else {}
        ended = {key: best_count(*numbers, estimates.get(key)) for key, numbers in found.items()}
        return CountRows(
            {**await _unfinished(session), **{s: ended["notification", s] for s in Status if s.final}},
            {s: ended["event", s] for s in EventStatus},
        )


async def owed(engine: AsyncEngine) -> OwedRows:
    """What the database says is unfinished, per stream: one step into an index each."""
    streams = [EVENTS, *(channel_stream(c) for c in Channel)]
    columns = [*_oldest(Event), *(time for c in Channel for time in _oldest(Notification, col(Notification.channel) == c))]
    async with reading(engine) as (session, now):
        times = (await session.execute(select(*columns))).one()
    pairs = zip(times[::2], times[1::2], strict=True)
    return OwedRows(now, {stream: Owed(*pair) for stream, pair in zip(streams, pairs, strict=True)})


def best_count(counted: int, seen: int, estimate: int | None) -> Count:
    """Pure: `counted` of `seen` rows; COUNTED_ROWS seen are not all there are: then an estimate counts where it says more."""
    if seen < COUNTED_ROWS:
        return Count(counted)
    if estimate is None or estimate < counted:
        return Count(counted, Precision.AT_LEAST)
    return Count(estimate, Precision.ABOUT)


def _counted() -> Iterator[Select[str, str, int, int]]:
    for status in Status:
        if status.final and status is not Status.SENT:
            yield _count(Notification, status, col(Notification.final_status) == status)
    yield _count(Event, EventStatus.NEW, unfinished(Event))
    for event_status in (EventStatus.FAILED, EventStatus.CANCELLED):
        yield _count(Event, event_status, col(Event.final_status) == event_status)
    yield _count_usual(Notification, Status.SENT)
    yield _count_usual(Event, EventStatus.ROUTED)


def _count(table: Table, status: str, condition: ColumnElement[bool]) -> Select[str, str, int, int]:
    rows = select(literal(1)).select_from(table).where(condition).limit(COUNTED_ROWS).subquery()
    return select(literal(str(table.__tablename__)), literal(str(status)), func.count(), func.count()).select_from(rows)


def _count_usual(table: Table, status: str) -> Select[str, str, int, int]:
    """Among the oldest rows: no index has this status, and what is waiting comes last."""
    rows = select(col(table.final_status)).order_by(col(table.id)).limit(COUNTED_ROWS).subquery()
    n = func.count().filter(rows.c.final_status == status)
    return select(literal(str(table.__tablename__)), literal(str(status)), n, func.count()).select_from(rows)


async def _unfinished(session: AsyncSession) -> dict[Status, Count]:
    rows = open_notifications()
    query = select(rows.c.channel, rows.c.status, func.count()).group_by(rows.c.channel, rows.c.status)
    by_status, by_channel = Counter[str](), Counter[str]()
    for channel, status, n in await session.execute(query):
        by_status[status] += n
        by_channel[channel] += n
    precision = Precision.AT_LEAST if any(n >= OPEN_ROWS for n in by_channel.values()) else Precision.EXACT
    return {status: Count(by_status[status], precision) for status in Status if not status.final}


async def _estimates(session: AsyncSession) -> dict[tuple[str, str], int]:
    return {(of, status): n for of, status, n in await session.execute(text(ESTIMATES))}


def _oldest(table: Table, *conditions: ColumnElement[bool]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    published, due = col(table.published_at), col(table.due_at)
    first = select(published).where(unfinished(table), published.is_not(None), *conditions).order_by(published).limit(1)
    if table is Notification:
        conditions += (func.coalesce(col(Notification.lease_until) < func.now(), literal(True)),)  # not what is being sent
    parked = select(due).where(unfinished(table), published.is_(None), *conditions).order_by(due).limit(1)
    return first.scalar_subquery(), parked.scalar_subquery()
