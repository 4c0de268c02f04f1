"""The statements of a replay by filter: how many match, from when on there is room, and one batch sent on its way.

A batch parks its rows with `due_at` one step apart, and the relay publishes each when due: the rate holds without a process that
stays. Who stops between two batches leaves a prefix, by id, that is replayed; a row that is no longer as asked for is left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from app.domain import Channel, Reason, Status
from app.store.operate import EVENT_AGAIN, NOTIFICATION_AGAIN

if TYPE_CHECKING:
    from app.store.batch import Connection, Pool

COUNT_MAX = 100_000
COUNT_WITHIN_S = 10

# On stale statistics PostgreSQL would gather and sort all that match for each batch (90 ms instead of 10 among 100,000).
IN_INDEX_ORDER = "set local enable_bitmapscan = off"


class CountTooSlow(Exception):
    """The filter looks at too much to be counted in COUNT_WITHIN_S."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows: FAILED or UNKNOWN notifications, or (`events`) FAILED events, which have no channel. None: whichever.

    `since` and `until` (exclusive) are about when the row ended.
    """

    status: Status = Status.FAILED
    events: bool = False
    channel: Channel | None = None
    reason: Reason | None = None
    user_id: str | None = None
    event_type: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Counted(NamedTuple):
    """How many there are of one channel (None: events) and reason; `doubtful` of them may have been sent."""

    channel: str | None
    reason: str
    rows: int
    doubtful: int


class Found(NamedTuple):
    """One row, as it is. `channel` None: an event."""

    id: int
    channel: str | None
    status: str
    reason: str | None

    @property
    def replayable(self) -> bool:
        return self.status in (Status.FAILED, Status.UNKNOWN)


class Batch(NamedTuple):
    """What one batch did. `seen` rows matched, up to `last_id`; `moved` of them were replayed, the last due at `last_due_at`."""

    seen: int
    last_id: int | None
    moved: int
    last_due_at: datetime | None


# What somebody discarded is taken by its reason alone: they gave it up.
ENDED = """final_status = $1 and updated_at <= $2
    and (reason = $3 or $3::text is null and reason is distinct from 'discarded') and ($4::text is null or user_id = $4)
    and ($5::timestamptz is null or updated_at >= $5) and ($6::timestamptz is null or updated_at < $6)"""
NOTIFICATIONS = f"""{ENDED} and ($7::text is null or channel = $7)
    and ($8::text is null or (select e.type from event e where e.id = n.event_pk) = $8)"""  # noqa: S608 (constants)
EVENTS = f"{ENDED} and $7::text is null and ($8::text is null or type = $8)"

COUNT = """
select channel, reason, count(*) as rows, count(*) filter (where doubtful) as doubtful
from (select {channel} as channel, reason, {doubtful} as doubtful from {table} n where {wanted} limit $9) as found
group by channel, reason order by channel, count(*) desc, reason
"""
DOUBTFUL = "possible_duplicate or status = 'UNKNOWN'"
COUNT_NOTIFICATIONS = COUNT.format(channel="channel", doubtful=DOUBTFUL, table="notification", wanted=NOTIFICATIONS)
COUNT_EVENTS = COUNT.format(channel="null::text", doubtful="false", table="event", wanted=EVENTS)

# Judged twice: as of the snapshot to find the page, and once locked, because another run may have been faster (and the row may
# even have ended again since). Batches of other runs meet in the order of ids.
REPLAY = """
with page as (
  select id from {table} n where {wanted} and id > $9 order by id limit $10
), locked as (
  select id, status, updated_at from {table} where id = any(array(select id from page)) order by id for update
), mine as (
  select id, status, row_number() over (order by id) - 1 as place from locked where status = $1 and updated_at <= $2
), moved as (
  update {table} n set {again}, due_at = greatest(now(), $11::timestamptz) + mine.place * $12::interval
  from mine where n.id = mine.id
  returning n.due_at
)
select p.seen, p.last_id, m.moved, m.last_due_at
from (select count(*) as seen, max(id) as last_id from page) p,
  (select count(*) as moved, max(due_at) as last_due_at from moved) m
"""
REPLAY_NOTIFICATIONS = REPLAY.format(table="notification", wanted=NOTIFICATIONS, again=NOTIFICATION_AGAIN)
REPLAY_EVENTS = REPLAY.format(table="event", wanted=EVENTS, again=EVENT_AGAIN)

REPLAY_CHOSEN = f"""
with locked as (
  select id, status, updated_at from notification where id = any($1::bigint[]) order by id for update
), mine as (
  select id, status, row_number() over (order by id) - 1 as place from locked
  where status in ('FAILED', 'UNKNOWN') and updated_at <= $2
), moved as (
  update notification n set {NOTIFICATION_AGAIN}, due_at = greatest(now(), $3::timestamptz) + mine.place * $4::interval
  from mine where n.id = mine.id
  returning n.due_at
)
select count(*) as moved, max(due_at) as last_due_at from moved
"""  # noqa: S608 (constants)

# A replayed row that waits to be published is the only parked one with no try since.
ROOM_FROM = """
select greatest(now(), max(last.due_at) + $2::interval) from unnest($1::text[]) as c(channel) left join lateral (
  select due_at from notification n
  where n.channel = c.channel and not done and published_at is null and due_at > now() and tries = 0 and replays > 0
  order by due_at desc limit 1
) as last on true
"""

ONE_BY_ONE = "select id, channel, status, reason from notification where id = any($1::bigint[]) order by id"
ONE_EVENT = "select id, null::text, status, reason from event where source = $1 and event_id = $2"


async def count_wanted(pool: "Pool", wanted: Wanted, as_of: datetime) -> list[Counted]:
    """How many match that had ended at `as_of`, per channel and reason; of more than COUNT_MAX, one more than that is counted.

    Raises CountTooSlow.
    """
    query = COUNT_EVENTS if wanted.events else COUNT_NOTIFICATIONS
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(f"set local statement_timeout = '{COUNT_WITHIN_S}s'")
        try:
            rows = await connection.fetch(query, *_columns(wanted, as_of), COUNT_MAX + 1)
        except asyncpg.QueryCanceledError:
            raise CountTooSlow from None
    return [Counted(*r) for r in rows]


async def room_from(pool: "Pool", wanted: Wanted, step: timedelta) -> datetime:
    """When the first of a new replay may be due: now, or a step after those that earlier replays of its channels left waiting."""
    channels = [] if wanted.events else [wanted.channel] if wanted.channel else list(Channel)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(IN_INDEX_ORDER)
        room: datetime = await connection.fetchval(ROOM_FROM, channels, step)
    return room


async def replay_batch(
    pool: "Pool", wanted: Wanted, as_of: datetime, after_id: int, limit: int, due_at: datetime, step: timedelta
) -> Batch:
    """Replay the next `limit` rows, by id, that match and had ended at `as_of`; committed on return.

    The first is due at `due_at`, or now where that has passed; each further one a `step` later.
    """
    query = REPLAY_EVENTS if wanted.events else REPLAY_NOTIFICATIONS
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(IN_INDEX_ORDER)
        row = await connection.fetchrow(query, *_columns(wanted, as_of), after_id, limit, due_at, step)
    assert row is not None
    return Batch(*row)


async def replay_chosen(
    pool: "Pool | Connection", ids: Sequence[int], as_of: datetime, due_at: datetime, step: timedelta
) -> tuple[int, datetime | None]:
    """Replay those of `ids` that are FAILED or UNKNOWN and had ended at `as_of`: how many, and when the last of them is due.

    The first is due at `due_at`, or now where that has passed; each further one a `step` later.
    """
    row = await pool.fetchrow(REPLAY_CHOSEN, ids, as_of, due_at, step)
    assert row is not None
    return row["moved"], row["last_due_at"]


async def find_notifications(pool: "Pool", ids: Sequence[int]) -> list[Found]:
    """Those of `ids` that exist, by id."""
    return [Found(*r) for r in await pool.fetch(ONE_BY_ONE, ids)]


async def find_event(pool: "Pool", source: str, event_id: str) -> Found | None:
    """The row of a client's event; None: there is none."""
    row = await pool.fetchrow(ONE_EVENT, source, event_id)
    return None if row is None else Found(*row)


def _columns(wanted: Wanted, as_of: datetime) -> list[object]:
    """$1 to $8."""
    return [
        wanted.status, as_of, wanted.reason, wanted.user_id, wanted.since, wanted.until, wanted.channel, wanted.event_type
    ]  # fmt: skip
