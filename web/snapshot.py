"""One look at both servers: what the overview, the health line and the streams page say is all decided from it."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain import Channel
from app.faults import read_faults
from app.pauses import read_pauses
from app.stream_stats import StreamStats, stream_stats
from web import backlog_queries, counts, lookups, rate_queries, search_queries
from web.away import POSTGRESQL, REDIS, Away, ask
from web.backlog_queries import Backlog
from web.counts import CountRows, OwedRows
from web.fault_words import Faults
from web.filters import Filter
from web.hold_queries import holds
from web.lookups import EventRows
from web.paused import Holds, Pauses
from web.queries import ListRows
from web.rate_queries import RateRows

NEWEST_ROWS = 12


@dataclass(frozen=True, slots=True)
class Now:
    """What changes by the second."""

    streams: list[StreamStats] | Away
    owed: OwedRows | Away
    pauses: Pauses | Away
    rates: RateRows | Away
    holds: Holds | Away = field(default_factory=dict)
    faults: Faults | Away = field(default_factory=dict)

    @property
    def at(self) -> datetime:
        """PostgreSQL's clock where it answered."""
        return datetime.now(UTC) if isinstance(self.owed, Away) else self.owed.now


@dataclass(frozen=True, slots=True)
class Lately:
    """What costs more, or is no less true a few seconds later."""

    at: datetime
    counts: CountRows | Away
    newest: ListRows | Away
    failed: EventRows | Away
    backlog: dict[Channel, Backlog] | Away
    latencies: dict[str, dict[int, int]] | Away


@dataclass(frozen=True, slots=True)
class Snapshot:
    now: Now
    lately: Lately


async def look_now(engine: AsyncEngine, redis: Redis) -> Now:
    streams, owed, pauses, rates, held, faults = await asyncio.gather(
        ask(REDIS, stream_stats(redis)),
        ask(POSTGRESQL, counts.owed(engine)),
        ask(REDIS, read_pauses(redis)),
        ask(POSTGRESQL, rate_queries.rates(engine)),
        ask(POSTGRESQL, holds(engine)),
        ask(REDIS, read_faults(redis)),
    )
    return Now(streams, owed, pauses, rates, held, faults)


async def look_lately(engine: AsyncEngine) -> Lately:
    counted, newest, failed, backlog, latencies = await asyncio.gather(
        ask(POSTGRESQL, counts.counts(engine)),
        ask(POSTGRESQL, search_queries.notifications(engine, Filter(), NEWEST_ROWS)),
        ask(POSTGRESQL, lookups.failed_events(engine)),
        ask(POSTGRESQL, backlog_queries.backlog(engine)),
        ask(POSTGRESQL, rate_queries.latencies(engine)),
    )
    at = datetime.now(UTC) if isinstance(newest, Away) else newest.now
    return Lately(at, counted, newest, failed, backlog, latencies)
