"""What each channel's unfinished notifications are doing, and what they complain of. Read only, bounded."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain import Channel
from web.queries import reading

LOOKED_AT = 2_000  # unfinished ones on a stream, and as many parked ones, of each channel
FAILED_ROWS = 5_000  # newest FAILED ones, of all channels
CAUSE_CHARS = 120

# Those that wait longest, by the indexes notification_published and notification_parked. The cause is the commonest error.
UNFINISHED = """
select c.channel, o.*
from unnest(cast(:channels as text[])) as c(channel) cross join lateral (
  select count(*) filter (where status = 'PROCESSING') as in_flight,
    count(*) filter (where status = 'PENDING' and attempt > 0) as retrying,
    count(*) filter (where status = 'PENDING' and attempt = 0 and parked) as parked,
    mode() within group (order by left(error, :chars)) filter (where error is not null) as cause,
    count(*) filter (where not parked) >= :most or count(*) filter (where parked) >= :most as capped
  from (
    (select status, attempt, error, false as parked from notification
     where not done and channel = c.channel and published_at is not null order by published_at limit :most)
    union all
    (select status, attempt, error, true from notification
     where not done and channel = c.channel and published_at is null order by due_at limit :most)
  ) as unfinished
) as o
"""
DEAD = """
select channel, count(*) from (
  select channel, reason from notification where final_status = 'FAILED' order by id desc limit :most
) as newest where reason = 'dead_letter' group by 1
"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """One channel: being sent now, waiting for a further try, parked before the first one, dead letters among the newest failed.

    `cause`: the commonest error of the unfinished. `capped`: not all of them were looked at, so the numbers are lower bounds.
    """

    in_flight: int = 0
    retrying: int = 0
    parked: int = 0
    cause: str | None = None
    capped: bool = False
    dead: int = 0


async def backlog(engine: AsyncEngine) -> dict[Channel, Backlog]:
    """Every channel has its entry."""
    asked = {"channels": list(Channel), "chars": CAUSE_CHARS, "most": LOOKED_AT}
    async with reading(engine) as (session, _):
        unfinished = [tuple(row) for row in await session.execute(text(UNFINISHED), asked)]
        dead = {row[0]: row[1] for row in await session.execute(text(DEAD), {"most": FAILED_ROWS})}
        return {
            Channel(channel): Backlog(in_flight, retrying, parked, cause, capped, dead.get(channel, 0))
            for channel, in_flight, retrying, parked, cause, capped in unfinished
        }
