"""The statement of retention: what ended long ago is deleted, in small batches, oldest first."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.store.batch import Pool

PAGE = 500


@dataclass(frozen=True, slots=True)
class Purged:
    """One page of events in the order of their ids. `last_id` None: there are no more that are old enough."""

    deleted: int
    last_id: int | None


# Ids grow with time, so the first page without an old event is the last one to look at. An event goes only as a whole: it, and
# each of its notifications, ended before the limit; they are judged once they are locked, so a replay at that moment keeps them.
PURGE = """
with page as (
  select id, done and updated_at < now() - $2::interval as ended, created_at < now() - $2::interval as old
  from event where id > $1 order by id limit $3
), parts as (
  select n.id, n.event_pk, n.done and n.updated_at < now() - $2::interval as ended
  from notification n join page on page.id = n.event_pk where page.ended order by n.id for update of n
), whole as (
  select id from page where ended and not exists (select from parts where parts.event_pk = page.id and not parts.ended)
), attempts as (
  delete from attempt a using parts, whole where parts.event_pk = whole.id and a.notification_id = parts.id
), notifications as (
  delete from notification n using parts, whole where parts.event_pk = whole.id and n.id = parts.id
), events as (
  delete from event e using whole where e.id = whole.id and e.done and e.updated_at < now() - $2::interval returning e.id
)
select (select count(*) from events) as deleted, case when bool_or(old) then max(id) end as last_id from page
"""


async def purge_page(pool: "Pool", after_id: int, keep: timedelta) -> Purged:
    """Delete what ended before now - `keep`, of the next 500 events after `after_id` (0 to begin)."""
    row = await pool.fetchrow(PURGE, after_id, keep, PAGE)
    assert row is not None
    return Purged(row["deleted"], row["last_id"])
