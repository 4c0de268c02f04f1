"""Publishes again whatever PostgreSQL says is owed and no stream carries: parked work that is due, and entries that got lost.

Acknowledged entries are deleted, so work that was published before the oldest entry its group still carries (the watermark) is no
longer carried by that stream. This is what makes Redis expendable. Several relays may run.
"""

import asyncio
import time
from datetime import datetime

import structlog
from redis.exceptions import RedisError

from app import streams
from app.cancelled import unless_cancelled
from app.domain import Outgoing
from app.resources import Resources
from app.store.owed import clock, take_owed_events, take_owed_notifications
from app.streams import Head
from app.trouble import Trouble
from consumers.database import Database
from consumers.pause import sleep_or_stop

log = structlog.get_logger()

SWEEP_MAX = 2000  # rows of each kind that one sweep takes


class Relay:
    """One duty per process, for all streams."""

    def __init__(self, resources: Resources, database: Database) -> None:
        self._resources, self._database, self._settings = resources, database, resources.settings
        self._every_s = resources.settings.relay_sweep_s
        self._trouble = Trouble(log, "relay goes on")
        self._rounds = 0

    def sign(self) -> int:
        """For the watch: changes with each round."""
        return self._rounds

    async def run(self, stopping: asyncio.Event) -> None:
        """Sweeps every stream, a twentieth of the reclaim window apart, and at once again while a sweep was full."""
        while not stopping.is_set():
            unless_cancelled()
            self._rounds += 1
            if not await self._sweep_all():
                await sleep_or_stop(self._every_s, stopping)

    async def _sweep_all(self) -> bool:
        """Was any sweep full?"""
        await self._database.here()
        try:
            taken = [await self.sweep(stream) for stream in streams.WORK_STREAMS]
        except (RedisError, OSError, TimeoutError) as error:
            self._trouble.say("relay waits for Redis", error)
            return False
        self._trouble.over()
        return max(taken) >= SWEEP_MAX

    async def sweep(self, stream: str) -> int:
        """Publish again what `stream` owes; answers how many rows. Raises redis.RedisError where Redis is away.

        PostgreSQL's clock is read before Redis: what was published later than that is not judged.
        """
        now = await self._database.patiently(lambda: clock(self._resources.pool))
        mark = watermark(await self._head(stream), now)
        asked: list[float] = []

        async def take() -> list[Outgoing]:
            asked.append(time.monotonic())
            return await self._take(stream, mark)

        rows = await self._database.patiently(take)
        await self._publish(stream, rows, asked[-1] + self._settings.publish_within_s)
        return len(rows)

    async def _publish(self, stream: str, rows: list[Outgoing], until: float) -> None:
        """What would come later than `until` is left to the next sweep."""
        for start in range(0, len(rows), streams.SCRIPT_MAX):
            if time.monotonic() > until:
                return
            part = rows[start : start + streams.SCRIPT_MAX]
            await streams.publish(self._resources.redis, stream, part)
            log.info("published again", stream=stream, rows=len(part))

    async def _head(self, stream: str) -> Head:
        head = await streams.head(self._resources.redis, stream)
        if head.forgotten:
            log.error(
                "removed entries that the group had forgotten: the rows are published again",
                stream=stream,
                entries=head.forgotten,
            )
        return head

    async def _take(self, stream: str, mark: datetime | None) -> list[Outgoing]:
        pool, grace_s = self._resources.pool, self._settings.relay_grace_s
        channel = streams.CHANNEL_OF.get(stream)
        if channel is None:
            return await take_owed_events(pool, mark, grace_s, SWEEP_MAX)
        return await take_owed_notifications(pool, channel, mark, grace_s, SWEEP_MAX)


def watermark(head: Head, now: datetime) -> datetime | None:
    """What was published before this (less the grace) the stream no longer carries; None: nobody knows, publish only parked work.

    `now` is PostgreSQL's clock, read before `head`. An entry later than `now` means that this clock went back.
    """
    if head.entry_id is None:
        return now
    if head.published_at is None or head.published_at > now:
        return None
    return head.published_at
