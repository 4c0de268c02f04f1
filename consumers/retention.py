"""Deletes what ended more than KEEP_DAYS ago, an hour apart and in small batches, so that nobody waits for it."""

import asyncio
from datetime import timedelta

import structlog

from app.cancelled import unless_cancelled
from app.resources import Resources
from app.store.batch import FAULTY
from app.store.idempotency import purge_idempotency_keys
from app.store.retention import PAGE, purge_page
from app.store.tally import purge_tally
from consumers.database import Database
from consumers.pause import sleep_or_stop

log = structlog.get_logger()

EVERY_S = 3600.0
BETWEEN_PAGES_S = 0.05


class Retention:
    """One duty per process; several do no harm."""

    def __init__(self, resources: Resources, database: Database) -> None:
        self._pool, self._database = resources.pool, database
        self._pages, self._asleep = 0, False
        self._keep = timedelta(days=resources.settings.keep_days)

    def sign(self) -> int | None:
        """For the watch: changes with each page; None between two purges."""
        return None if self._asleep else self._pages

    async def run(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            await self.purge(stopping)
            await self.purge_keys(stopping)
            await self.purge_tally()
            self._asleep = True
            await sleep_or_stop(EVERY_S, stopping)
            self._asleep = False

    async def purge(self, stopping: asyncio.Event) -> int:
        """Once through all that is old; answers how many events were deleted."""
        deleted, after_id = 0, 0
        while not stopping.is_set():
            page = await self._database.patiently(lambda: purge_page(self._pool, after_id, self._keep))  # noqa: B023
            deleted += page.deleted
            self._pages += 1
            if page.last_id is None:
                break
            after_id = page.last_id
            await sleep_or_stop(BETWEEN_PAGES_S, stopping)
        if deleted:
            log.info("old events deleted", events=deleted, keep_days=self._keep.days)
        return deleted

    async def purge_tally(self) -> None:
        """Old counts; an hour later where it fails now: no delivery waits for the charts."""
        try:
            await purge_tally(self._pool)
        except FAULTY as error:
            unless_cancelled(error)
            log.warning("old rates and latencies not deleted", error=str(error) or type(error).__name__)
        self._pages += 1

    async def purge_keys(self, stopping: asyncio.Event) -> int:
        """Idempotency keys older than a day; answers how many were deleted."""
        deleted, last = 0, PAGE
        while last == PAGE and not stopping.is_set():
            last = await self._database.patiently(lambda: purge_idempotency_keys(self._pool, limit=PAGE))
            deleted += last
            self._pages += 1
        return deleted
