"""The moves an operator asks for: replay what failed, cancel what was not begun. Each is one guarded statement for a batch.

A replay parks its rows (`published_at` null, due now): the relay publishes them within a twentieth of the reclaim window, whether
Redis is there now or not. The caller publishes nothing, so nothing is published twice.
"""
# ruff: noqa: S608 (the parts of the statements are constants of this file)

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from app.domain import EventStatus, Status

if TYPE_CHECKING:
    from app.store.batch import Connection, Pool


class Operated(NamedTuple):
    """What became of one notification: did this call move it, and its status now."""

    id: int
    moved: bool
    status: Status


class OperatedEvent(NamedTuple):
    """The same for one event."""

    id: int
    moved: bool
    status: EventStatus


# What a replay sets, but for `due_at`: `mine` is the row as it was once locked.
NOTIFICATION_AGAIN = """status = 'PENDING', reason = null, error = null, tries = 0, replays = n.replays + 1,
    possible_duplicate = n.possible_duplicate or mine.status = 'UNKNOWN', published_at = null, updated_at = now()"""
EVENT_AGAIN = """status = 'NEW', reason = null, error = null, decisions = null, published_at = null, claimed_by = null,
    claimed_at = null, lease_until = null, first_id = null, updated_at = now()"""

REPLAY_NOTIFICATIONS = f"""
with mine as (
  select id, status from notification where id = any($1::bigint[]) order by id for update
), moved as (
  update notification n set {NOTIFICATION_AGAIN}, due_at = now()
  from mine where n.id = mine.id and mine.status in ('FAILED', 'UNKNOWN')
  returning n.id, n.status
)
select mine.id, moved.id is not null as moved, coalesce(moved.status, mine.status) as status
from mine left join moved using (id) order by mine.id
"""

REPLAY_EVENTS = f"""
with mine as (
  select id, status from event where id = any($1::bigint[]) order by id for update
), moved as (
  update event e set {EVENT_AGAIN}, due_at = now()
  from mine where e.id = mine.id and mine.status = 'FAILED'
  returning e.id, e.status
)
select mine.id, moved.id is not null as moved, coalesce(moved.status, mine.status) as status
from mine left join moved using (id) order by mine.id
"""

CANCEL_NOTIFICATIONS = """
with mine as (
  select id, status from notification where id = any($1::bigint[]) order by id for update
), moved as (
  update notification n set status = 'CANCELLED', reason = 'cancelled', error = 'stopped on request', updated_at = now()
  from mine where n.id = mine.id and mine.status = 'PENDING'
  returning n.id, n.status
)
select mine.id, moved.id is not null as moved, coalesce(moved.status, mine.status) as status
from mine left join moved using (id) order by mine.id
"""


async def replay_notifications(pool: "Pool | Connection", ids: Sequence[int]) -> list[Operated]:
    """FAILED or UNKNOWN -> PENDING, parked: due now, tries from 0, marked where it may have been sent.

    One answer per existing id, by id. The provider gets a new idempotency key. What is past `expires_at` ends FAILED once more.
    """
    return [Operated(r["id"], r["moved"], Status(r["status"])) for r in await pool.fetch(REPLAY_NOTIFICATIONS, ids)]


async def replay_events(pool: "Pool | Connection", ids: Sequence[int]) -> list[OperatedEvent]:
    """FAILED (a dead letter, or expired) -> NEW, parked: it is routed again. One answer per existing `event.id`, by id."""
    return [OperatedEvent(r["id"], r["moved"], EventStatus(r["status"])) for r in await pool.fetch(REPLAY_EVENTS, ids)]


async def cancel_notifications(pool: "Pool | Connection", ids: Sequence[int]) -> list[Operated]:
    """PENDING -> CANCELLED, reason `cancelled`: also between two tries. One answer per existing id, by id."""
    return [Operated(r["id"], r["moved"], Status(r["status"])) for r in await pool.fetch(CANCEL_NOTIFICATIONS, ids)]
