"""The loop on one stream and group: reclaim, read, hand over, settle, drain. Handlers never see the group.

Two batches may be in hand, one in PostgreSQL while the next is read; never more entries than can be started at once.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol

import structlog
from redis.exceptions import RedisError

from app import streams
from app.batches import Batches, Pace
from app.cancelled import unless_cancelled
from app.resources import READ_BLOCK_MAX_S, Resources
from app.streams import Entry
from app.trouble import Trouble
from consumers.alone import Alone
from consumers.channel_limit import ChannelLimit
from consumers.circuit import Circuit
from consumers.database import Database
from consumers.in_hand import InHand
from consumers.reclaim import Reclaimer, split_alone
from consumers.room import Room, none_ahead
from consumers.settle import Back, Bury, CallOver, Leave, Publish, Settle, Verdict, settle_on_stream

log = structlog.get_logger()

LANES = 2
BATCH_MAX = 250
SPARE = 4 * BATCH_MAX  # what is sent, or written, and not settled yet: the next batches need not wait for it
AGAIN_AFTER_S = 0.25  # pause after Redis failed
ALONE_WAIT_MAX = 1 / 60  # of the reclaim window
FAULT_PAUSE_S = 0.5


class Handler(Protocol):
    """Handles a batch of entries of one stream: every entry gets one verdict, now or after the call has returned.

    Row ids within a batch, and among all entries in hand, differ.
    """

    async def __call__(self, entries: Sequence[Entry], settle: Settle) -> None: ...

    async def dead(self, entries: Sequence[Entry], settle: Settle) -> None:
        """Entries delivered too often: end their rows, then settle."""
        ...


class Consumer:
    """One consumer of one stream."""

    def __init__(
        self,
        resources: Resources,
        database: Database,
        stream: str,
        name: str,
        handler: Handler,
        slots: int,
        limit: ChannelLimit | None = None,
        circuit: Circuit | None = None,
        alone: Alone | None = None,
        acknowledge: Callable[[tuple[str, list[bytes]]], Awaitable[None]] | None = None,
        pace_s: float = 0.0,
        ahead: Callable[[], int] = none_ahead,
    ) -> None:
        settings = resources.settings
        self.stream, self.name, self.handler = stream, name, handler
        self.in_hand = InHand(slots, spare=SPARE)
        self.room = Room(self.in_hand, limit, circuit, ahead)
        self._limit, self._circuit, self._alone = limit, circuit, alone or Alone()
        self._alone.join(self.in_hand)
        self._acknowledge, self._pace = acknowledge, Pace(pace_s)
        self.reading_since_s: float | None = None  # time.monotonic()
        self._resources, self._database = resources, database
        self._reclaim_after_s, self._max_deliveries = settings.reclaim_after_s, settings.max_deliveries
        self._reclaimer = Reclaimer(
            resources.redis, stream, name, settings.reclaim_after_s, circle_every_s=min(1.0, settings.reclaim_after_s / 4)
        )
        self._lanes = asyncio.Semaphore(LANES)
        self._settling: Batches[tuple[Entry, Verdict]] = Batches(self._settle_batch)
        self._batches: set[asyncio.Task[None]] = set()
        self._found_due = False
        self._redis_fails = Trouble(log, "Redis is back")
        self._no_group = Trouble(log, "the group is there again")
        self._not_settled = Trouble(log, "entries are settled again")
        self._handler_fails = Trouble(log, "the handler works again")
        self._tidy_at = 0.0  # time.monotonic()
        self._turns = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Consumes until `stopping` is set, then finishes what is in hand."""
        self.room.stopping = stopping
        async with asyncio.TaskGroup() as duty:
            settling = duty.create_task(self._settling.run(), name=f"settle {self.stream}")
            with suppress(RedisError, OSError, TimeoutError):  # away: the first turn says so
                await streams.create_group(self._resources.redis, self.stream)
            while not stopping.is_set():
                unless_cancelled()
                self._turns += 1
                await self._database.here_or(stopping)
                if self._circuit is not None and self._circuit.holds(len(self.in_hand.entries)):
                    self.room.drained = False
                    await self._circuit.pause()
                elif not stopping.is_set():
                    await self._guarded_turn()
            await self.settled()
            settling.cancel()

    async def settled(self) -> None:
        """Returns once nothing is in hand, and Redis was told."""
        await self.in_hand.until_empty()
        await self._settling.idle()

    def signs(self) -> dict[str, Callable[[], int | None]]:
        """For the watch: what changes as long as this goes on."""
        return {f"consume {self.stream}": lambda: self._turns, f"settle {self.stream}": self._settling.sign}

    async def _guarded_turn(self) -> None:
        """A turn; what goes wrong with Redis is said once, and tried again."""
        try:
            await self.turn()
        except (RedisError, OSError, TimeoutError) as error:
            await self._mend(error)
        else:
            self._redis_fails.over(stream=self.stream)

    async def _mend(self, error: Exception) -> None:
        self.room.drained = False
        if streams.no_group(error):
            self._no_group.say("the group is missing: made at 0", stream=self.stream)
            try:
                await streams.create_group(self._resources.redis, self.stream)
                self._no_group.over(stream=self.stream)
                return
            except (RedisError, OSError) as why:
                error = why
        self._redis_fails.say("Redis failed: trying again", error, stream=self.stream)
        await asyncio.sleep(AGAIN_AFTER_S)

    async def turn(self) -> None:
        """One turn: wait for a free slot and a lane; take what is due or what is new; hand it over."""
        await self._tidy()
        await self.room.until_free()
        if (left_s := self._pace.left_s()) > 0:
            await asyncio.sleep(left_s)
        async with self._lanes:
            await self.room.until_free()  # what is sent at once may have taken it
            self.room.promised = free = 0 if self.room.stops() else await self.room.to_take(BATCH_MAX)
            try:
                entries = await self._next(free) if free else []
            finally:
                self.room.promised = 0
        if entries:
            await self._lanes.acquire()  # at once: only this loop takes lanes
            self._start(entries)
            await asyncio.sleep(0)  # the batch sends what it asks first, and then the next read goes out

    async def _tidy(self) -> None:
        """Once a window: consumers that are gone leave the group."""
        if time.monotonic() >= self._tidy_at:
            self._tidy_at = time.monotonic() + self._reclaim_after_s
            await streams.forget_consumers(self._resources.redis, self.stream, self._reclaim_after_s)

    async def _next(self, free: int) -> list[Entry]:
        """What is due; in the turn after such a find what is new, so that neither starves the other.

        It waits for what is new once all was read, and then for few entries: the other slots are for what is sent at once.
        """
        found_due = self._found_due
        due = [] if found_due else await self._due(free)
        self._found_due = bool(due)
        if due:
            return due
        waits = self.room.drained and not found_due
        block_s = min(READ_BLOCK_MAX_S, self._reclaim_after_s / 20, self._reclaimer.due_in_s()) if waits else None
        most = self.room.promised = min(free, self.room.kept_free) if waits and self._limit is None else free
        new = await self._read(most, block_s)
        self.room.was_read(len(new), most)
        await self._alone.nobody()
        return [e for e in new if self._admit(e)]

    async def _read(self, most: int, block_s: float | None) -> list[Entry]:
        """What is new; the watch sees for how long it takes."""
        block_ms, self.reading_since_s = None if block_s is None else round(1000 * block_s), time.monotonic()
        try:
            return await streams.read(self._resources.reader, self.stream, self.name, most, block_ms)
        finally:
            self.reading_since_s = None

    async def _due(self, most: int) -> list[Entry]:
        """Entries to take back. One that ended in silence too often is handled here, and alone."""
        taken = [e for e in await self._reclaimer.take(most) if e.id not in self.in_hand.entries]
        suspect, others = split_alone(taken)
        if suspect is None:
            await self._alone.nobody()
            return [e for e in taken if self._admit(e)]
        if others:
            await self._reclaimer.put_back(others)
        await self._handle_alone(suspect)
        return []

    async def _handle_alone(self, entry: Entry) -> None:
        """After a random wait: suspects of several streams that come back together must not die in the same order each time.

        Its delivery counts from when its turn comes: who dies before that, dies of another.
        """
        await self._reclaimer.wait(entry)
        await asyncio.sleep(random.uniform(0, ALONE_WAIT_MAX * self._reclaim_after_s))
        async with self._alone.only():
            if not await self._reclaimer.begin(entry) or not self._admit(entry):
                return
            log.warning(
                "entry ended in silence before: handled alone",
                stream=self.stream,
                entry=entry.id.decode(),
                deliveries=entry.deliveries,
            )
            await self._hand_over([entry])
            await self.in_hand.until_empty()

    def _admit(self, entry: Entry) -> bool:
        """Into the hand; a second entry of a row in hand waits until that one is surely settled.

        After a failover, or a group made again at 0, the very entry in hand may be delivered once more: it is in hand already.
        """
        if entry.id in self.in_hand.entries:
            return False
        if self.in_hand.add(entry):
            return True
        self._settling.add((entry, Back(self._reclaim_after_s / 2, handled=False)))
        return False

    def _start(self, entries: list[Entry]) -> None:
        self._pace.begins(len(entries))
        if self._limit is not None:
            self._limit.used(len(entries))
        task = asyncio.create_task(self._hand_over(entries), name=f"batch {self.stream}")
        self._batches.add(task)
        task.add_done_callback(self._batches.discard)
        task.add_done_callback(lambda _: self._lanes.release())

    async def _hand_over(self, entries: list[Entry]) -> None:
        """The handler's batch; whatever it raises, its entries are not lost: they stay pending."""
        readable = [e for e in entries if e.row_id is not None]
        for entry in entries:
            if entry.row_id is None:
                self.settle(entry, Bury(f"the entry has no readable field {streams.row_field(self.stream)!r}"))
        alive = [e for e in readable if e.deliveries <= self._max_deliveries]
        dead = [e for e in readable if e.deliveries > self._max_deliveries]
        try:
            if dead:
                await self.handler.dead(dead, self.settle)
            if alive:
                await self.handler(alive, self.settle)
            self._handler_fails.over(stream=self.stream)
        except Exception:
            for entry in entries:
                self.settle(entry, Leave())
            self._handler_fails.say(
                "handler failed: its entries stay pending", stream=self.stream, entries=len(entries), exc_info=True
            )
            await asyncio.sleep(FAULT_PAUSE_S)  # with the lane: a fault of ours must not run through the whole backlog

    def settle(self, entry: Entry, verdict: Verdict | CallOver) -> None:
        if isinstance(verdict, CallOver):
            self.in_hand.call_over(entry)
        elif entry.id in self.in_hand.entries:
            self._settling.add((entry, verdict))

    async def _settle_batch(self, batch: list[tuple[Entry, Verdict]]) -> None:
        redis, window_s = self._resources.redis, self._reclaim_after_s
        within_s = self._resources.settings.publish_within_s
        for entry, verdict in batch:
            if isinstance(verdict, Publish):  # before its entry can be read here: it would be a second one of a row in hand
                self.in_hand.drop(entry)
        error = await settle_on_stream(redis, self.stream, self.name, window_s, batch, within_s, self._acknowledge)
        if error is None:
            self._not_settled.over(stream=self.stream)
        else:
            self._not_settled.say("entries not settled", error, stream=self.stream, entries=len(batch))
        for entry, verdict in batch:
            self.in_hand.drop(entry)
            if isinstance(verdict, Back):
                self._reclaimer.expect(verdict.in_s)
