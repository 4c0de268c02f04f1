"""A claim of which nothing was sent is given back: the third end of deliver, beside those of finish (notifications.py)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.store.batch import all_or_each, raise_refused

if TYPE_CHECKING:
    from app.store.batch import Pool

# So is its try. Where the crash rule already closed the attempt, the truth is written over its row. That is found as a conflict:
# it may be younger than this statement, which waited for the crash rule's lock. What was written in mid-send would be due when
# its lease ends.
RELEASE = """
with told as (
  select * from unnest($1::bigint[], $2::int[]) as u(id, attempt)
), mine as (
  select id, status, attempt, published_at, claimed_by, claimed_at from notification where id = any($1::bigint[])
  order by id for update
), moved as (
  update notification n set status = 'PENDING', reason = null, tries = n.tries - 1, lease_until = null,
    error = case when mine.status = 'UNKNOWN' then null else n.error end,
    published_at = case when mine.status = 'UNKNOWN' then null else n.published_at end, due_at = least(n.due_at, now()),
    updated_at = now()
  from told join mine using (id, attempt) where n.id = mine.id and mine.status in ('PROCESSING', 'UNKNOWN')
  returning n.id, n.attempt, n.published_at is null as parked
), noted as (
  insert into attempt (notification_id, number, consumer, started_at, ended_at, outcome, error)
  select id, attempt, claimed_by, claimed_at, now(), 'unavailable', 'released: nothing was sent'
  from mine join moved using (id, attempt) where mine.status = 'UNKNOWN'
  on conflict (notification_id, number) do update set outcome = excluded.outcome, error = excluded.error
)
select mine.id, coalesce(moved.parked, mine.published_at is null) as parked
from told join mine using (id, attempt) left join moved using (id)
where moved.id is not null or mine.status = 'PENDING'
"""


async def release(pool: "Pool", attempts: Sequence[tuple[int, int]]) -> dict[int, bool]:
    """Give back claims (id, attempt) of which nothing was sent. Answers {id: parked}; ids not in it have a new owner.

    May be repeated.
    """

    async def run(part: Sequence[tuple[int, int]]) -> list[tuple[int, bool]]:
        rows = await pool.fetch(RELEASE, [i for i, _ in part], [attempt for _, attempt in part])
        return [(r["id"], r["parked"]) for r in rows]

    return dict(await all_or_each(attempts, run, raise_refused))
