"""What waits for its next try: read only, by the two partial indexes of the unfinished, bounded in rows and in time.

Parked ones are in the order of their due time. Those that wait on a stream (less than a reclaim window) were published before all
that is not read yet, so they are among the first by publication, however long the backlog.
"""
# ruff: noqa: S608 (the parts of the statements are constants of this file)

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from app.domain import Channel
from web.queries import PAGE_ROWS, Listed, reading
from web.search_queries import listed

PARKED_ROWS = 100_000  # of a channel, those due soonest: what is counted
CARRIED_ROWS = 30_000  # of a channel, those published first: what is looked at on its stream
MINUTES = 60  # columns of the histogram; one more before it (due now) and one behind (later)

PARKED = """
select {columns} from notification where channel = '{channel}' and not done and published_at is null order by due_at limit {rows}
"""
CARRIED = """
select {columns} from (
  select id, channel, due_at, status, attempt from notification
  where channel = '{channel}' and not done and published_at is not null order by published_at limit {rows}
) as carried where status = 'PENDING' and attempt > 0
"""
PLACES = """
select channel, kind, least(:minutes, floor(extract(epoch from due_at - now()) / 60))::int as place, count(*) as n
from ({each}) as waits group by 1, 2, 3
"""
SOONEST = "select id from ({each}) as waits order by due_at, id limit :rows"


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
        parked: dict[str, int] = {}
        for channel, kind, place, n in await session.execute(text(PLACES.format(each=_each())), {"minutes": MINUTES}):
            places[Channel(channel)][max(-1, place) + 1] += n
            parked[channel] = parked.get(channel, 0) + (n if kind == "parked" else 0)
        ids = list(await session.scalars(text(SOONEST.format(each=_soonest())), {"rows": PAGE_ROWS}))
        found = sorted(await listed(session, ids), key=lambda row: (row.notification.due_at, row.notification.id))
        capped = {c for c in Channel if parked.get(c, 0) >= PARKED_ROWS} | await _long(session)
        return RetryRows(now, found, places, frozenset(capped))


def _each() -> str:
    columns = "channel, due_at, '{kind}' as kind"
    return _union(
        [PARKED.format(columns=columns.format(kind="parked"), channel=c, rows=PARKED_ROWS) for c in Channel]
        + [CARRIED.format(columns=columns.format(kind="carried"), channel=c, rows=CARRIED_ROWS) for c in Channel]
    )


def _soonest() -> str:
    return _union(
        [PARKED.format(columns="id, due_at", channel=c, rows=PAGE_ROWS) for c in Channel]
        + [CARRIED.format(columns="id, due_at", channel=c, rows=CARRIED_ROWS) for c in Channel]
    )


async def _long(session: AsyncSession) -> set[Channel]:
    """Channels with more on their stream than CARRIED_ROWS."""
    each = [
        f"select '{c}' as channel where (select count(*) from (select from notification where channel = '{c}' and not done "
        f"and published_at is not null limit {CARRIED_ROWS + 1}) as few) > {CARRIED_ROWS}"
        for c in Channel
    ]
    return {Channel(c) for c in await session.scalars(text(_union(each)))}


def _union(parts: Sequence[str]) -> str:
    return " union all ".join(f"({part})" for part in parts)
