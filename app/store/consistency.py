"""The statements of the consistency check. They only read, each is bounded in rows, and the caller bounds their time.

A check over finished rows looks at the newest alone: a million rows of history cost nothing. Each of these is one statement, so
it sees every transaction whole.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from app.domain import Channel

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

NEWEST = 10_000  # rows of history that are looked at
SHOWN = 100  # rows that one check answers at most


class OwedRow(NamedTuple):
    """An unfinished row. `lease_in_s`: until its lease is over, negative since then; None: nobody has it in mid-send."""

    id: int
    published_at: datetime | None
    due_in_s: float
    lease_in_s: float | None


class Unsent(NamedTuple):
    """A channel that an event's decisions use, and that has no notification."""

    event_pk: int
    channel: str


CLOCK = "select now()"

# An unfinished event has a lease while its notifications are sent at once. It is never parked.
_EVENT = """id, published_at, extract(epoch from due_at - now())::float8 as due_in_s,
  extract(epoch from lease_until - now())::float8 as lease_in_s
from event"""
_NOTIFICATION = """id, published_at, extract(epoch from due_at - now())::float8 as due_in_s,
  case when status = 'PROCESSING' then extract(epoch from lease_until - now())::float8 end as lease_in_s
from notification"""

# $1 and $2 published_at and id of the row before, $3 how many
PUBLISHED_EVENTS = f"select {_EVENT} where not done and (published_at, id) > ($1, $2) order by published_at, id limit $3"
PUBLISHED_NOTIFICATIONS = (
    f"select {_NOTIFICATION} where channel = $4 and not done and (published_at, id) > ($1, $2) "
    "order by published_at, id limit $3"
)  # fmt: skip

COUNT_UNPUBLISHED_EVENTS = (
    "select count(*), 0 from (select from event where not done and published_at is null limit $1) as parked"
)
COUNT_UNPUBLISHED_NOTIFICATIONS = (
    "select count(*), count(*) filter (where lease_until >= now()) from "
    "(select lease_until from notification where channel = $2 and not done and published_at is null limit $1) as parked"
)

# $1 seconds overdue, $2 how many. What is under a live lease, the relay leaves alone.
LATE_EVENTS = f"""
select {_EVENT} where not done and published_at is null and due_at < now() - make_interval(secs => $1) order by due_at limit $2
"""
LATE_NOTIFICATIONS = f"""
select {_NOTIFICATION} where channel = $3 and not done and published_at is null and due_at < now() - make_interval(secs => $1)
  and (lease_until is null or lease_until < now() - make_interval(secs => $1)) order by due_at limit $2
"""

UNFINISHED_EVENTS = f"select {_EVENT} where id = any($1::bigint[]) and not done"
UNFINISHED_NOTIFICATIONS = f"select {_NOTIFICATION} where id = any($1::bigint[]) and not done"

_STATE = "select id, case when done then 'final' when published_at is null then 'parked' else 'owed' end as state"
STATE_OF_EVENTS = f"{_STATE} from event where id = any($1::bigint[])"
STATE_OF_NOTIFICATIONS = f"{_STATE} from notification where id = any($1::bigint[])"

# The newest routed events: a channel that is used has its notification, since one transaction makes both.
UNSENT = """
with newest as (
  select id, decisions from (select id, status, decisions from event order by id desc limit $1) as e
  where status = 'ROUTED' and jsonb_typeof(decisions) = 'object'
)
select newest.id as event_pk, d.key as channel from newest cross join lateral jsonb_each(newest.decisions) as d
where d.value->'use' = 'true' and not exists (select from notification n where n.event_pk = newest.id and n.channel = d.key)
order by newest.id desc limit $2
"""
ORPHANS = """
select id, done from (select id, event_pk, done from notification order by id desc limit $1) as n
where not exists (select from event e where e.id = n.event_pk) limit $2
"""
TOO_FAR = """
select id from (select id, attempt from notification order by id desc limit $1) as n
where exists (select from attempt a where a.notification_id = n.id and a.number > n.attempt) limit $2
"""
UNPROVED = """
select id from (select id, status from notification order by id desc limit $1) as n
where status = 'SENT' and not exists (select from attempt a where a.notification_id = n.id and a.outcome = 'sent') limit $2
"""


async def clock(connection: "Connection") -> datetime:
    """PostgreSQL's now()."""
    now: datetime = await connection.fetchval(CLOCK)
    return now


async def published_page(
    connection: "Connection", channel: Channel | None, after: tuple[datetime, int], count: int
) -> list[OwedRow]:
    """Unfinished, published rows after (published_at, id), oldest first. `channel` None: events."""
    if channel is None:
        rows = await connection.fetch(PUBLISHED_EVENTS, *after, count)
    else:
        rows = await connection.fetch(PUBLISHED_NOTIFICATIONS, *after, count, channel)
    return [OwedRow(*r) for r in rows]


async def count_unpublished(connection: "Connection", channel: Channel | None, most: int) -> tuple[int, int]:
    """How many unfinished rows are on no stream, and of these under a live lease; counts no further than `most`."""
    if channel is None:
        ((rows, leased),) = await connection.fetch(COUNT_UNPUBLISHED_EVENTS, most)
    else:
        ((rows, leased),) = await connection.fetch(COUNT_UNPUBLISHED_NOTIFICATIONS, most, channel)
    return rows, leased


async def late_parked(connection: "Connection", channel: Channel | None, late_s: float, count: int) -> list[OwedRow]:
    """Parked rows that are due for longer than `late_s`, the longest first."""
    if channel is None:
        rows = await connection.fetch(LATE_EVENTS, late_s, count)
    else:
        rows = await connection.fetch(LATE_NOTIFICATIONS, late_s, count, channel)
    return [OwedRow(*r) for r in rows]


async def unfinished(connection: "Connection", channel: Channel | None, ids: Sequence[int]) -> dict[int, OwedRow]:
    """Those of `ids` that are not final yet, by id."""
    rows = await connection.fetch(UNFINISHED_EVENTS if channel is None else UNFINISHED_NOTIFICATIONS, ids)
    return {r["id"]: OwedRow(*r) for r in rows}


async def states(connection: "Connection", channel: Channel | None, ids: Sequence[int]) -> dict[int, str]:
    """By id: final, parked or owed; an id without a row is left out."""
    rows = await connection.fetch(STATE_OF_EVENTS if channel is None else STATE_OF_NOTIFICATIONS, ids)
    return {r["id"]: r["state"] for r in rows}


async def unsent(connection: "Connection") -> list[Unsent]:
    """Used channels without a notification, among the newest events."""
    return [Unsent(*r) for r in await connection.fetch(UNSENT, NEWEST, SHOWN)]


async def orphans(connection: "Connection") -> dict[int, bool]:
    """Notifications without their event, among the newest: is it final?"""
    return {r["id"]: r["done"] for r in await connection.fetch(ORPHANS, NEWEST, SHOWN)}


async def too_far(connection: "Connection") -> list[int]:
    """Notifications with an attempt above their own number of attempts, among the newest."""
    return [r["id"] for r in await connection.fetch(TOO_FAR, NEWEST, SHOWN)]


async def unproved(connection: "Connection") -> list[int]:
    """SENT without an attempt that was sent, among the newest."""
    return [r["id"] for r in await connection.fetch(UNPROVED, NEWEST, SHOWN)]
