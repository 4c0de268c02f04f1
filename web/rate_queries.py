"""What was counted (table tally): per second just now, over the last hours, and how long it took. Read only."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from web.queries import reading

LATENCY_S = 300  # "just now", for latencies

# The bucket under way and the one before it: 10 to 20 s. Counts come every 2 s, so the current one alone would be jumpy.
JUST_NOW = """
select extract(epoch from now() - date_bin('10 s', now(), 'epoch') + interval '10 s')::float8 as seconds, channel, kind,
  sum(n)::bigint
from tally where width_s = 10 and started_at >= date_bin('10 s', now(), 'epoch') - interval '10 s' group by 1, 2, 3
"""
LATENCY = """
select channel, bin, sum(n)::bigint from tally
where width_s = 10 and started_at > now() - make_interval(secs => :seconds) and kind = 'sent' and bin >= 0 group by 1, 2
"""
COUNTS = """
select date_bin(cast(:step as interval), started_at, 'epoch') as began, channel, kind, sum(n)::bigint from tally
where width_s = :width_s and started_at >= date_bin(cast(:step as interval), now() - cast(:span as interval), 'epoch')
  and started_at < date_bin(cast(:step as interval), now(), 'epoch')
group by 1, 2, 3
"""
BINS = """
select date_bin(cast(:step as interval), started_at, 'epoch') as began, bin, sum(n)::bigint from tally
where width_s = :width_s and started_at >= date_bin(cast(:step as interval), now() - cast(:span as interval), 'epoch')
  and started_at < date_bin(cast(:step as interval), now(), 'epoch') and kind = 'sent' and bin >= 0
group by 1, 2
"""


@dataclass(frozen=True, slots=True)
class Span:
    """A range of the charts: `step_s` is the width of one point, made of buckets that are `width_s` wide."""

    name: str
    seconds: int
    step_s: int
    width_s: int


SPANS = (Span("15 min", 900, 10, 10), Span("1 h", 3600, 30, 10), Span("6 h", 21_600, 120, 120), Span("24 h", 86_400, 600, 120))


@dataclass(frozen=True, slots=True)
class RateRows:
    """How many of each (channel, kind) in the last `seconds`; none is left out."""

    seconds: float
    counts: dict[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class ChartRows:
    """Per point of a span: counts by (channel, kind), and latencies by bin. `now`: the points end with the last whole one."""

    now: datetime
    span: Span
    counts: dict[tuple[str, str], dict[datetime, int]]
    bins: dict[datetime, dict[int, int]]


async def rates(engine: AsyncEngine) -> RateRows:
    """Just now."""
    async with reading(engine) as (session, _):
        rows = [tuple(row) for row in await session.execute(text(JUST_NOW))]
        return RateRows(rows[0][0] if rows else 10.0, {(channel, kind): n for _, channel, kind, n in rows})


async def latencies(engine: AsyncEngine) -> dict[str, dict[int, int]]:
    """Per channel and bin of app/tally.py, over the last LATENCY_S."""
    found: dict[str, dict[int, int]] = {}
    async with reading(engine) as (session, _):
        for channel, of, n in await session.execute(text(LATENCY), {"seconds": LATENCY_S}):
            found.setdefault(channel, {})[of] = n
    return found


async def charts(engine: AsyncEngine, span: Span) -> ChartRows:
    """All points of a span."""
    asked = {"step": timedelta(seconds=span.step_s), "span": timedelta(seconds=span.seconds), "width_s": span.width_s}
    counts: dict[tuple[str, str], dict[datetime, int]] = {}
    bins: dict[datetime, dict[int, int]] = {}
    async with reading(engine) as (session, now):
        for began, channel, kind, n in await session.execute(text(COUNTS), asked):
            counts.setdefault((channel, kind), {})[began] = n
        for began, of, n in await session.execute(text(BINS), asked):
            bins.setdefault(began, {})[of] = n
    return ChartRows(now, span, counts, bins)
