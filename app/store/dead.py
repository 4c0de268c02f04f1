"""What becomes of a dead letter by hand, beyond a replay: edited and replayed, or discarded. Each statement guards its move."""
# ruff: noqa: S608 (the parts of the statements are constants)

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from app.store.operate import EVENT_AGAIN, NOTIFICATION_AGAIN

if TYPE_CHECKING:
    from app.store.batch import Connection, Pool


class Before(NamedTuple):
    """What an edit replaced: it is nowhere else any more."""

    type: str
    payload_json: str
    address: str | None = None


# The sentence of before stays readable behind the one who discards.
DISCARD = """
with mine as (
  select id from {table} where id = any($1::bigint[]) order by id for update
)
update {table} t set reason = 'discarded', updated_at = now(),
  error = left('discarded: ' || $2 || coalesce(' (it was: ' || t.error || ')', ''), 2000)
from mine where t.id = mine.id and t.status = 'FAILED' and t.reason = 'dead_letter'
returning t.id
"""
DISCARD_NOTIFICATIONS = DISCARD.format(table="notification")
DISCARD_EVENTS = DISCARD.format(table="event")

# The event keeps its identity and the hash of what the client posted: posted again, it is the same event.
EDIT_EVENT = f"""
with mine as (
  select id, type, payload from event where id = $1 and status = 'FAILED' and reason = 'dead_letter' for update
), moved as (
  update event e set type = $2, payload = $3::json, {EVENT_AGAIN}, due_at = now() from mine where e.id = mine.id returning e.id
)
select mine.type, mine.payload::text as payload_json from mine join moved using (id)
"""

# The payload is the event's: it may change only while no other channel was tried with it, or may be at this moment: a claim that
# waits for this statement goes on with the payload that it saw before.
EDIT_NOTIFICATION = f"""
with its as (
  select id, event_pk, status, reason, attempt, address, done from notification
  where event_pk = (select event_pk from notification where id = $1) order by id for update
), mine as (
  select * from its where id = $1 and status = 'FAILED' and reason = 'dead_letter'
    and (not $5::boolean or not exists (select from its as other where other.id <> $1 and (other.attempt > 0 or not other.done)))
), old as (
  select e.id, e.type, e.payload from event e join mine on e.id = mine.event_pk for update of e
), edited as (
  update event e set type = $2, payload = $3::json from old where e.id = old.id and $5::boolean
), moved as (
  update notification n set {NOTIFICATION_AGAIN}, due_at = now(), address = coalesce($4, n.address)
  from mine where n.id = mine.id returning n.id
)
select old.type, old.payload::text as payload_json, mine.address from mine join moved using (id) cross join old
"""


async def discard_notifications(pool: "Pool | Connection", ids: Sequence[int], why: str) -> list[int]:
    """Dead letters that are given up: they stay FAILED, with the reason `discarded`. The ids of those that were dead letters."""
    return [r["id"] for r in await pool.fetch(DISCARD_NOTIFICATIONS, ids, why)]


async def discard_events(pool: "Pool | Connection", ids: Sequence[int], why: str) -> list[int]:
    """The same for events."""
    return [r["id"] for r in await pool.fetch(DISCARD_EVENTS, ids, why)]


async def edit_event(pool: "Pool | Connection", event_pk: int, event_type: str, payload_json: str) -> Before | None:
    """A dead event, changed and on its way again: FAILED -> NEW, parked. None: it is no dead letter any more."""
    row = await pool.fetchrow(EDIT_EVENT, event_pk, event_type, payload_json)
    return None if row is None else Before(row["type"], row["payload_json"])


async def edit_notification(
    pool: "Pool | Connection",
    notification_id: int,
    event_type: str,
    payload_json: str,
    address: str | None = None,
    *,
    content: bool = True,
) -> Before | None:
    """A dead notification on its way again, with another address (None: the same); `content`: with its event's type and payload.

    None: it is no dead letter any more, or another channel of its event was, or may yet be, tried with the payload as it is.
    """
    row = await pool.fetchrow(EDIT_NOTIFICATION, notification_id, event_type, payload_json, address, content)
    return None if row is None else Before(row["type"], row["payload_json"], row["address"])
