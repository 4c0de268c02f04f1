"""An event that was claimed to be sent at once, and is routed without a word on what was sent of it: only its claimer knows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.domain import Channel
from app.store.routing import CHANNELS, Added

if TYPE_CHECKING:
    from app.store.batch import Pool

# All that may have been sent are inserted as their claim said, with the ids that the provider knows. Where the lease is over,
# whoever gets their entries applies the crash rule; else they are parked until it is, and who claimed them may still record how
# they ended. $2: the channels in their order
TAKE_OVER = """
with mine as (
  select id, user_id, expires_at, decisions, claimed_by, claimed_at, lease_until, first_id, lease_until >= now() as leased
  from event where id = any($1::bigint[]) and status = 'NEW' and claimed_by is not null order by id for update
), routed as (
  update event e set status = 'ROUTED', updated_at = now() from mine where e.id = mine.id
), used as (
  select mine.*, c.channel, row_number() over (partition by mine.id order by c.place) as place
  from mine cross join lateral unnest($2::text[]) with ordinality as c(channel, place)
  where decisions -> c.channel -> 'use' = 'true'
), inserted as (
  insert into notification (id, event_pk, channel, user_id, expires_at, leads, status, attempt, tries, claimed_by, claimed_at,
    lease_until, published_at, due_at, created_at)
  overriding system value
  select first_id + place - 1, id, channel, user_id, expires_at, place = 1, 'PROCESSING', 1, 1, claimed_by, claimed_at,
    lease_until, case when not leased then now() end, case when leased then lease_until else now() end, claimed_at
  from used order by id, place
  on conflict (event_pk, channel) do nothing
  returning id, event_pk, channel, published_at
)
select id, event_pk, channel, published_at from inserted where published_at is not null
"""


async def take_over(pool: "Pool", ids: Sequence[int]) -> list[Added]:
    """Route those of the events that are claimed. Answers the notifications that the caller is to publish."""
    rows = await pool.fetch(TAKE_OVER, ids, [channel.value for channel in Channel])
    return [Added(r["id"], r["event_pk"], CHANNELS[r["channel"]], r["published_at"]) for r in rows]
