"""The statements of the relay and of dead letters: what is owed and no stream carries, and what is given up."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from app.domain import Channel, Outgoing

if TYPE_CHECKING:
    import asyncpg

    from app.store.batch import Pool


class DeadVerdict(StrEnum):
    """What became of a row whose entry is a dead letter."""

    ENDED = "ended"  # this call made it FAILED
    FINAL = "final"  # it had ended before
    BUSY = "busy"  # under a live lease, or a claimed event: leave the entry


# $1 watermark or null (then only parked work is taken), $2 grace in s, $3 most rows of each kind
TAKE_EVENTS = """
with parked as (
  select id from event where not done and published_at is null and due_at <= now()
  order by due_at limit $3 for update skip locked
), lost as (
  select id from event where not done and published_at < $1::timestamptz - make_interval(secs => $2) and due_at <= now()
    and (lease_until is null or lease_until < now())
  order by published_at limit $3 for update skip locked
)
update event set published_at = now() where id in (select id from parked union all select id from lost)
returning id, event_id, user_id, type, published_at
"""

TAKE_NOTIFICATIONS = """
with parked as (
  select id from notification
  where channel = $4 and not done and published_at is null and due_at <= now() and (lease_until is null or lease_until < now())
  order by due_at limit $3 for update skip locked
), lost as (
  select id from notification
  where channel = $4 and not done and published_at < $1::timestamptz - make_interval(secs => $2) and due_at <= now()
    and (lease_until is null or lease_until < now())
  order by published_at limit $3 for update skip locked
), taken as (
  update notification set published_at = now() where id in (select id from parked union all select id from lost)
  returning id, event_pk, published_at
)
select t.id, e.event_id, e.user_id, e.type, t.published_at from taken t join event e on e.id = t.event_pk
"""

END_EVENTS = """
with mine as (
  select id, case when done then 'final' when claimed_by is not null then 'busy' else 'ended' end as verdict
  from event where id = any($1::bigint[]) order by id for update
), moved as (
  update event e set status = 'FAILED', reason = 'dead_letter', error = $2, updated_at = now()
  from mine where e.id = mine.id and mine.verdict = 'ended'
)
select id, verdict from mine
"""

END_NOTIFICATIONS = """
with mine as (
  select id, attempt, claimed_by, claimed_at, possible_duplicate, status,
    case when done then 'final'
         when status = 'PROCESSING' and lease_until >= now() then 'busy'
         when status = 'PROCESSING' and now() < pg_postmaster_start_time() + make_interval(secs => $3) then 'busy'
         when status = 'PROCESSING' and $4::float8 > 0 then 'busy'
         else 'ended' end as verdict
  from notification where id = any($1::bigint[]) order by id for update
), moved as (
  update notification n set status = 'FAILED', reason = 'dead_letter', error = $2, lease_until = null,
    possible_duplicate = n.possible_duplicate or mine.status = 'PROCESSING', updated_at = now()
  from mine where n.id = mine.id and mine.verdict = 'ended'
), closed as (
  insert into attempt (notification_id, number, consumer, started_at, ended_at, outcome, error, possible_duplicate)
  select id, attempt, claimed_by, claimed_at, now(), 'unknown', 'the consumer was gone before it recorded an outcome',
    possible_duplicate
  from mine where verdict = 'ended' and status = 'PROCESSING'
  on conflict (notification_id, number) do nothing
)
select id, verdict from mine
"""


async def clock(pool: "Pool") -> datetime:
    """PostgreSQL's now()."""
    now: datetime = await pool.fetchval("select now()")
    return now


async def take_owed_events(pool: "Pool", watermark: datetime | None, grace_s: float, limit: int) -> list[Outgoing]:
    """Events to publish again, their `published_at` set and committed: parked and due, or published before watermark - grace.

    None that is under a live lease: it is being sent.
    """
    return [_outgoing(r) for r in await pool.fetch(TAKE_EVENTS, watermark, grace_s, limit)]


async def take_owed_notifications(
    pool: "Pool", channel: Channel, watermark: datetime | None, grace_s: float, limit: int
) -> list[Outgoing]:
    """The same for the notifications of one channel."""
    return [_outgoing(r) for r in await pool.fetch(TAKE_NOTIFICATIONS, watermark, grace_s, limit, channel)]


async def end_dead_events(pool: "Pool", ids: Sequence[int], error: str) -> dict[int, DeadVerdict]:
    """Dead letters: NEW -> FAILED, unless it is claimed. A verdict per existing id."""
    return {r["id"]: DeadVerdict(r["verdict"]) for r in await pool.fetch(END_EVENTS, ids, error)}


async def end_dead_notifications(
    pool: "Pool", ids: Sequence[int], error: str, calm_s: float = 0.0, calm_left_s: float = 0.0
) -> dict[int, DeadVerdict]:
    """Dead letters: PENDING, or PROCESSING without a live lease -> FAILED. A verdict per existing id. Calm: as for a claim."""
    rows = await pool.fetch(END_NOTIFICATIONS, ids, error, calm_s, calm_left_s)
    return {r["id"]: DeadVerdict(r["verdict"]) for r in rows}


def _outgoing(r: "asyncpg.Record") -> Outgoing:
    return Outgoing(r["id"], r["event_id"], r["user_id"], r["type"], r["published_at"])
