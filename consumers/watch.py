"""Who watches the duties: a read that hangs loses its connection, a duty that hangs ends the process, so that it starts anew.

A duty shows a sign: a number that changes as it goes on, None while it has nothing to do. Looks are counted, not seconds: a
process that was suspended has not hung.
"""

import asyncio
import os
import select
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NoReturn

import structlog

from app.resources import Resources, read_within_s
from consumers.consumer import Consumer
from consumers.database import Database

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
ANSWER_WITHIN_S = 2.0
STARTS_ANEW = "ending, so that this process is started anew"
Sign = Callable[[], int | None]


def leave(sentence: str) -> NoReturn:
    """Ends the process with one line, even where nothing else goes on: a log that nobody takes must not hold it up."""
    try:
        if select.select([], [2], [], 0)[1]:
            os.write(2, f"tidings consumers: {sentence}\n".encode())
    finally:
        os._exit(1)


@dataclass(slots=True)
class Still:
    """For how many looks in a row each sign has stood still. Pure."""

    signs: Mapping[str, Sign]
    seen: dict[str, int | None] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)

    def look(self) -> tuple[str, int]:
        """The duty that has stood still for longest, and for how many looks."""
        for name, sign in self.signs.items():
            now = sign()
            self.looks[name] = self.looks.get(name, 0) + 1 if now is not None and now == self.seen.get(name) else 0
            self.seen[name] = now
        return max(self.looks.items(), key=lambda item: item[1])

    def forgive(self) -> None:
        self.looks.clear()


class Watch:
    """One duty per process, over all the others. `left`: what is done about a duty that hangs."""

    def __init__(
        self,
        resources: Resources,
        database: Database,
        consumers: Sequence[Consumer],
        signs: Mapping[str, Sign],
        left: Callable[[str], object] = leave,
    ) -> None:
        self._resources, self._database, self._consumers, self._left = resources, database, consumers, left
        self._still = Still(signs)
        self._hangs_after_s = hangs_after_s(resources.settings.reclaim_after_s)
        self._read_within_s = 2 * read_within_s(resources.settings) + 1  # it may have to connect first

    async def run(self) -> None:
        """Looks once a second, for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        for consumer in self._consumers:
            self._look_at_read(consumer)
        name, looks = self._still.look()
        if looks * LOOK_EVERY_S < self._hangs_after_s:
            return
        if await self._servers_are_there():
            self._left(f"duty {name!r} has stood still for {looks * LOOK_EVERY_S:.0f} s: {STARTS_ANEW}")
        self._still.forgive()

    def _look_at_read(self, consumer: Consumer) -> None:
        """A read whose answer never comes: its socket time limit should have ended it."""
        since_s = consumer.reading_since_s
        if since_s is None or time.monotonic() - since_s < self._read_within_s:
            return
        consumer.reading_since_s = None
        log.error("a read hangs: connecting anew", stream=consumer.stream, after_s=round(self._read_within_s, 1))
        self._resources.reader.hang_up()

    async def _servers_are_there(self) -> bool:
        """Who waits for a server does not hang. Redis must take writes, and no statement has failed lately."""
        if time.monotonic() - self._database.failed_s < self._hangs_after_s:
            return False
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await self._resources.redis.set("tidings:{0}:watch", 1, px=1000)
                await self._resources.pool.execute("select 1")
        except Exception:
            return False
        return True


def hangs_after_s(reclaim_after_s: float) -> float:
    """No call to a provider, no wait for a full hand lasts so long."""
    return max(30.0, 2 * reclaim_after_s)


@asynccontextmanager
async def watched_loop(within_s: float, left: Callable[[str], object] = leave) -> AsyncIterator[None]:
    """While inside, a thread sees to it that the event loop goes on: where nothing runs for `within_s`, the process ends."""
    beats, done = 0, threading.Event()

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(min(LOOK_EVERY_S, within_s / 4))

    def watch() -> None:
        seen, looks = -1, 0
        while not done.wait(LOOK_EVERY_S):
            looks, seen = (looks + 1 if beats == seen else 0), beats
            if looks * LOOK_EVERY_S >= within_s:
                left(f"nothing has run for {within_s:g} s, a call blocks the event loop: {STARTS_ANEW}")
                return

    beating = asyncio.create_task(beat(), name="beat")
    threading.Thread(target=watch, name="watch", daemon=True).start()
    try:
        yield
    finally:
        done.set()
        beating.cancel()
