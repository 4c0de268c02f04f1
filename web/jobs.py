"""Operations on many notifications: one after the other in the background of this process, batch by batch.

What is begun is in the log of actions before anything moves, and how it ended in the transaction of its last batch. A process
that dies in between leaves rows that are done and rows that are not; the same operation again takes the rest.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.replay import step_of
from app.resources import open_resources
from app.settings import Settings
from app.store import audit
from app.store.dead import discard_notifications
from app.store.operate import cancel_notifications
from app.store.replay import Wanted, replay_chosen, room_from
from web.away import FAILURES, how_it_failed
from web.operations import Operation, Order
from web.search_queries import batch

if TYPE_CHECKING:
    from app.store.batch import Connection, Pool

log = structlog.get_logger()

BATCH = 500
KEPT = 100  # jobs that are shown, the newest


@dataclass(slots=True)
class Job:
    """One operation. `expected` was counted before, `at_least`: there may be more. Of `seen`, `moved` were moved, committed.

    `ended_at` None: it is under way, or waits for the one before; `trouble` says why it stopped early.
    """

    order: Order
    as_of: datetime
    expected: int
    at_least: bool
    entry: audit.Entry
    rate_per_s: float
    id: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    made_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    seen: int = 0
    moved: int = 0
    last_due_at: datetime | None = None
    begun: bool = False
    ended_at: datetime | None = None
    trouble: str = ""


class Jobs:
    """The jobs of this process: at most one runs at a time."""

    def __init__(self, settings: Settings, engine: AsyncEngine) -> None:
        self._settings, self._engine = settings, engine
        self._jobs: dict[str, Job] = {}
        self._turn = asyncio.Lock()
        self._running: set[asyncio.Task[None]] = set()

    @property
    def newest(self) -> list[Job]:
        return list(reversed(self._jobs.values()))

    def find(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def start(self, job: Job) -> None:
        """Put it in the queue; it goes on when the caller has answered."""
        self._jobs[job.id] = job
        for old in list(self._jobs)[:-KEPT]:
            if self._jobs[old].ended_at:
                del self._jobs[old]
        task = asyncio.get_running_loop().create_task(self._run(job))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def settled(self) -> None:
        """Until no job is under way."""
        await asyncio.gather(*self._running)

    async def _run(self, job: Job) -> None:
        async with self._turn:
            job.begun = True
            try:
                await self._act(job)
            except FAILURES as error:
                job.trouble = f"PostgreSQL {how_it_failed(error)}."
            except Exception:
                job.trouble = "The dashboard made a mistake; its log has the details."
                log.exception("an operation on many notifications failed", operation=job.order.operation)
            finally:
                job.ended_at = datetime.now(UTC)

    async def _act(self, job: Job) -> None:
        async with open_resources(self._settings, "web job", pool_size=1) as resources:
            due_at = await _first_due_at(resources.pool, job)
            low: int | None = 0
            while low is not None:
                found = await batch(self._engine, job.order.wanted, job.as_of, low, BATCH)
                low = found.next_low
                async with _transaction(resources.pool) as connection:
                    moved, last_due_at = await _move(connection, job, found.ids, due_at)
                    if low is None:
                        await audit.record(connection, replace(job.entry, count=job.moved + moved))
                job.seen, job.moved = job.seen + len(found.ids), job.moved + moved
                if last_due_at is not None:
                    job.last_due_at, due_at = last_due_at, last_due_at + step_of(job.rate_per_s)


async def _first_due_at(pool: "Pool", job: Job) -> datetime:
    """A replay begins after those of its channels that still wait."""
    if job.order.operation is not Operation.REPLAY:
        return job.as_of
    return await room_from(pool, Wanted(channel=job.order.wanted.channel), step_of(job.rate_per_s))


async def _move(connection: "Connection", job: Job, ids: list[int], due_at: datetime) -> tuple[int, datetime | None]:
    """How many of these were moved; a replay: when the last of them is due."""
    if job.order.operation is Operation.REPLAY:
        return await replay_chosen(connection, ids, job.as_of, due_at, step_of(job.rate_per_s))
    if job.order.operation is Operation.CANCEL:
        return sum(one.moved for one in await cancel_notifications(connection, ids)), None
    return len(await discard_notifications(connection, ids, job.entry.reason)), None


@asynccontextmanager
async def _transaction(pool: "Pool") -> AsyncIterator["Connection"]:
    async with pool.acquire() as connection, connection.transaction():
        yield connection
