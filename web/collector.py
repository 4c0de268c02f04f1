"""The one who looks: asks both servers once a second while anybody listens, and tells everybody the same bytes.

However many pages are open, there is one look, and one encoding of it for each kind of page. A listener that is slow misses looks
and never holds up the others; who takes nothing for SEND_WITHIN_S is let go (web/live.py).
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Set
from contextlib import asynccontextmanager

import structlog
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from web.snapshot import Lately, Now, Snapshot, look_lately, look_now

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
LATELY_EVERY_S = 5.0
LISTENERS_MAX = 500

Encode = Callable[[Snapshot], bytes]


class Collector:
    """`encoders`: by topic, a snapshot as the bytes that its listeners get."""

    def __init__(self, engine: AsyncEngine, redis: Redis, encoders: Mapping[str, Encode]) -> None:
        self._engine, self._redis, self._encoders = engine, redis, encoders
        self._now: Now | None = None
        self._lately: Lately | None = None
        self._now_at_s = self._lately_at_s = float("-inf")
        self._looking = asyncio.Lock()
        self._news = asyncio.Event()  # of the next look
        self._told: dict[str, bytes] = {}  # by topic, as of the last look that anybody listened to
        self._tick = b""
        self._listeners: Counter[str] = Counter()
        self._work: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def topics(self) -> Set[str]:
        return self._encoders.keys()

    @property
    def listeners(self) -> int:
        return self._listeners.total()

    @property
    def full(self) -> bool:
        return self.listeners >= LISTENERS_MAX or self._closed

    async def current(self, now_within_s: float = 0.25, lately_within_s: float = 1.0) -> Snapshot:
        """The last look where it is not older than that, else a new one; those who ask meanwhile share it."""
        async with self._looking:
            started_s = time.monotonic()
            if self._now is None or started_s - self._now_at_s > now_within_s:
                self._now, self._now_at_s = await look_now(self._engine, self._redis), started_s
            if self._lately is None or started_s - self._lately_at_s > lately_within_s:
                self._lately, self._lately_at_s = await look_lately(self._engine), started_s
            return Snapshot(self._now, self._lately)

    async def listen(self, topic: str) -> AsyncIterator[bytes]:
        """After each look a tick, and what the topic's page is to show where that has changed; ends with `close`."""
        async with self._counted(topic):
            seen = b""
            while not self._closed:
                await self._news.wait()
                told = self._told.get(topic, b"")
                yield self._tick + (told if told != seen else b"")
                seen = told

    def close(self) -> None:
        """Nobody listens any more, and nobody will."""
        self._closed = True
        if self._work is not None:
            self._work.cancel()
        self._news.set()

    @asynccontextmanager
    async def _counted(self, topic: str) -> AsyncIterator[None]:
        self._listeners[topic] += 1
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._look_while_heard(), name="collector")
        try:
            yield
        finally:
            self._listeners[topic] -= 1

    async def _look_while_heard(self) -> None:
        while self.listeners and not self._closed:
            started_s = time.monotonic()
            try:
                self._tell(await self.current(LOOK_EVERY_S / 2, LATELY_EVERY_S))
            except Exception:
                log.exception("the dashboard could not say how it is")  # our own fault; the next look may be better
            heard, self._news = self._news, asyncio.Event()
            heard.set()
            await asyncio.sleep(max(0.0, started_s + LOOK_EVERY_S - time.monotonic()))

    def _tell(self, snapshot: Snapshot) -> None:
        self._told = {topic: self._encoders[topic](snapshot) for topic in +self._listeners}
        self._tick = b"event: tick\ndata: " + snapshot.now.at.isoformat(timespec="milliseconds").encode() + b"\n\n"
