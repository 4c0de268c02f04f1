"""A replay by filter: look first, then act in batches, no faster than asked. The API and the command line do it through this.

`Plan.as_of` is fixed when the count is made: what ends later, a row of this replay that fails again included, is not taken.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from app.store.owed import clock
from app.store.replay import COUNT_MAX, Counted, Wanted, count_wanted, replay_batch, room_from

if TYPE_CHECKING:
    from app.store.batch import Pool

BATCH = 500
RATE_PER_S = 100.0
RATE_MIN, RATE_MAX = 0.1, 10_000.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a replay would act on: what was wanted, as of when, and how many that is."""

    wanted: Wanted
    as_of: datetime
    counts: tuple[Counted, ...]

    @property
    def matching(self) -> int:
        """At most COUNT_MAX; `more` where that is not all."""
        return min(self._counted, COUNT_MAX)

    @property
    def more(self) -> bool:
        return self._counted > COUNT_MAX

    @property
    def doubtful(self) -> int:
        """How many of the counted may have been sent before: replayed, a person may get them twice."""
        return sum(one.doubtful for one in self.counts)

    @property
    def _counted(self) -> int:
        return sum(one.rows for one in self.counts)


class Progress(NamedTuple):
    """What is replayed so far, committed. `last_due_at` None: nothing is."""

    replayed: int
    last_due_at: datetime | None


async def plan(pool: "Pool", wanted: Wanted) -> Plan:
    """Count what matches now. Raises store.replay.CountTooSlow."""
    as_of = await clock(pool)
    return Plan(wanted, as_of, tuple(await count_wanted(pool, wanted, as_of)))


async def act(pool: "Pool", planned: Plan, rate_per_s: float, limit: int | None = None) -> AsyncGenerator[Progress, None]:
    """Replay what was planned, at most `limit` rows, oldest first; tells the progress after each batch.

    Rows are due one step apart, the first now, or after those of earlier replays that still wait. May be stopped anywhere: what
    was told is committed, and the same replay again takes the rest. Of replays at the same time, one gets each row.
    """
    step = step_of(rate_per_s)
    due_at = await room_from(pool, planned.wanted, step)
    after_id, replayed, last_due_at = 0, 0, None
    while size := BATCH if limit is None else min(BATCH, limit - replayed):
        batch = await replay_batch(pool, planned.wanted, planned.as_of, after_id, size, due_at, step)
        if batch.last_due_at is not None:
            replayed, last_due_at, due_at = replayed + batch.moved, batch.last_due_at, batch.last_due_at + step
            yield Progress(replayed, last_due_at)
        if batch.last_id is None or batch.seen < size:
            return
        after_id = batch.last_id


def step_of(rate_per_s: float) -> timedelta:
    """The time between two rows; whole microseconds, rounded up, so that the rate is kept."""
    return timedelta(microseconds=ceil(1e6 / rate_per_s))
