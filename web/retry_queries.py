"""What waits for its next try: read only, by the two partial indexes of the unfinished, bounded in rows and in time.

Parked ones are in the order of their due time. Those that wait on a stream (less than a reclaim window) were published before all
that is not read yet, so they are among the first by publication, however long the backlog.
"""
# ruff: noqa: S608 (the parts of the statements are constants of this file)

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain import Channel
from web.queries import PAGE_ROWS, Listed, reading
from web.search_queries import listed

PARKED_ROWS = 100_000  # of a channel, those due soonest: what is counted
CARRIED_ROWS = 30_000  # of a channel, those published first: what is looked at on its stream
MINUTES = 60  # columns of the histogram; one more before it (due now) and one behind (later)

PLACE = "least(:minutes, greatest(-1, floor(cast(extract(epoch from due_at - now()) as float8) / 60)))::int"
PARKED = """
  from notification where channel = '{c}' and not done and published_at is null and status = 'PENDING'
  order by due_at limit {rows}
"""
# Met once: each is counted, and may be among the soonest.
CARRIED = """
carried_{c} as materialized (
  select id, due_at, status = 'PENDING' and attempt > 0 as waits from notification
  where channel = '{c}' and not done and published_at is not null order by published_at limit {rows}
)
"""
# Grouped channel by channel: all rows at once would be sorted on disk, as no statistics tell how many these are.
PLACES_OF_ONE = """
select '{c}' as channel, 'parked' as kind, place, count(*) as n, null::bigint as id
from (select {place} as place from (select due_at {parked}) as parked) as parked group by place
union all
select '{c}', 'carried', place, count(*), null
from (select {place} as place from carried_{c} where waits) as carried group by place
union all
select '{c}', 'met', null, count(*), null from carried_{c}
"""
SOONEST = """
select null, 'soonest', null, null, id from (
  select id from ({each}) as waits order by due_at, id limit {rows}
) as soonest
"""


@dataclass(frozen=True, slots=True)
class RetryRows:
    """The PAGE_ROWS that are due soonest, and how many wait of each channel. `capped`: channels of which not all were looked at.

    `places` counts those due now, in the first minute, in the second and so on, and those due after MINUTES.
    """

    now: datetime
    listed: list[Listed]
    places: dict[Channel, list[int]] = field(default_factory=dict)
    capped: frozenset[Channel] = frozenset()


async def retries(engine: AsyncEngine) -> RetryRows:
    """PENDING after at least one attempt, or parked."""
    async with reading(engine) as (session, now):
        places = {channel: [0] * (MINUTES + 2) for channel in Channel}
        met = Counter[tuple[str, str]]()
        ids = []
        for channel, kind, place, n, row_id in await session.execute(text(statement()), {"minutes": MINUTES}):
            if kind == "soonest":
                ids.append(row_id)
                continue
            met[channel, kind] += n
            if place is not None:
                places[Channel(channel)][place + 1] += n
        found = sorted(await listed(session, ids), key=lambda row: (row.notification.due_at, row.notification.id))
        capped = frozenset(c for c in Channel if met[c, "parked"] >= PARKED_ROWS or met[c, "met"] >= CARRIED_ROWS)
        return RetryRows(now, found, places, capped)


def statement() -> str:
    """One that counts what waits and finds the soonest: `:minutes` is to be bound."""
    carried = ", ".join(CARRIED.format(c=c, rows=CARRIED_ROWS) for c in Channel)
    places = [PLACES_OF_ONE.format(c=c, place=PLACE, parked=PARKED.format(c=c, rows=PARKED_ROWS)) for c in Channel]
    waiting = [f"(select id, due_at {PARKED.format(c=c, rows=PAGE_ROWS)})" for c in Channel]
    waiting += [f"(select id, due_at from carried_{c} where waits)" for c in Channel]
    soonest = SOONEST.format(each=" union all ".join(waiting), rows=PAGE_ROWS)
    return f"with {carried} {' union all '.join((*places, soonest))}"
