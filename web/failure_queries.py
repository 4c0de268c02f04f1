"""What ended badly lately, by error and over time: FAILED and UNKNOWN notifications. Read only, bounded in rows."""
# ruff: noqa: S608 (the parts of the statements are constants of this file; what was asked for is bound)

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain import Status
from web.queries import reading

LOOKED_AT_ROWS = 8_000  # of each status, the newest
KINDS_SHOWN = 25
COLUMNS = 48  # of a histogram
BAD = (Status.FAILED, Status.UNKNOWN)

# What differs between errors of the same kind: names, addresses, ids, long numbers. Short numbers stay: 429 is not 503.
VARYING = r"<[^>]*>|\"[^\"]*\"|\S+@\S+|\S*\d{4}\S*|[0-9a-f-]{16,}"
GAP = "…"

NEWEST = """
select id, channel, reason, error, final_status as status, updated_at from notification
where final_status = '{status}' order by id desc limit :rows
"""
LATELY = f"""
with newest as materialized (({NEWEST.format(status="FAILED")}) union all ({NEWEST.format(status="UNKNOWN")})),
told as materialized (
  select status, reason, channel, updated_at, {{error}} as error,
    least(:columns - 1, floor(extract(epoch from updated_at - :since) / cast(:width_s as float8))::int) as place
  from newest where updated_at >= :since
),
"""
SAME = "coalesce(regexp_replace(left(error, 160), :varying, :gap, 'g'), '')"
KINDS = f"""{LATELY.format(error=SAME)}
kinds as (
  select status, reason, error, count(*) as n, max(updated_at) as newest from told group by status, reason, error
  order by n desc, status, reason, error limit :kinds
)
select k.status, k.reason, k.error, k.n, k.newest, t.channel, t.place, count(*) as rows
from kinds k join told t using (status, reason, error) group by k.status, k.reason, k.error, k.n, k.newest, t.channel, t.place
order by k.n desc, k.status, k.reason, k.error
"""
PLACES = f"""{LATELY.format(error="null")}
looked as (select status, count(*) as n, min(updated_at) as oldest from newest group by status)
select l.status, l.n, l.oldest, t.place, count(t.place) as rows
from looked l left join told t using (status) group by l.status, l.n, l.oldest, t.place
"""


@dataclass(slots=True)
class Kind:
    """Failures whose error is the same but for names and numbers. `places`: how many fell into each column of the histogram."""

    status: str
    reason: str
    error: str
    n: int
    newest: datetime
    channels: dict[str, int] = field(default_factory=dict)
    places: list[int] = field(default_factory=lambda: [0] * COLUMNS)


@dataclass(frozen=True, slots=True)
class FailureRows:
    """What ended badly since `since`, the biggest kinds first. `complete_since` is later where LOOKED_AT_ROWS were too few."""

    now: datetime
    since: datetime
    kinds: list[Kind]
    places: dict[str, list[int]]
    complete_since: datetime | None = None

    @property
    def total(self) -> int:
        return sum(sum(places) for places in self.places.values())


async def failures(engine: AsyncEngine, over: timedelta) -> FailureRows:
    """FAILED and UNKNOWN notifications that ended within `over`, by the index notification_not_sent."""
    async with reading(engine) as (session, now):
        since, width_s = now - over, over.total_seconds() / COLUMNS
        bound = {"since": since, "width_s": width_s, "rows": LOOKED_AT_ROWS, "columns": COLUMNS}
        kinds = _kinds(await session.execute(text(KINDS), {**bound, "kinds": KINDS_SHOWN, "varying": VARYING, "gap": GAP}))
        places = {status: [0] * COLUMNS for status in BAD}
        cut = []
        for status, n, oldest, place, rows in await session.execute(text(PLACES), bound):
            if place is not None:
                places[status][place] += rows
            if n >= LOOKED_AT_ROWS and oldest > since:
                cut.append(oldest)
        return FailureRows(now, since, kinds, {str(s): p for s, p in places.items()}, max(cut, default=None))


def _kinds(found: Iterable[Any]) -> list[Kind]:
    """One of each, from a row per channel and column."""
    kinds: dict[tuple[str, str, str], Kind] = {}
    for status, reason, error, n, newest, channel, place, rows in found:
        kind = kinds.setdefault((status, reason, error), Kind(status, reason, error, n, newest))
        kind.channels[channel] = kind.channels.get(channel, 0) + rows
        kind.places[place] += rows
    return list(kinds.values())
