"""Takes back entries whose idle time passed the window: those of silent consumers, and retries that are due."""

import heapq
import time
from dataclasses import dataclass, field

import structlog
from redis.asyncio import Redis

from app import streams
from app.streams import Entry

log = structlog.get_logger()

CALLS_PER_TURN = 20
ALONE_AFTER_DELIVERIES = 2  # an entry that ended in silence more often is handled alone
DUE_PAUSE_S = 0.02  # between two circles that due entries set off
STEP_BACK_S = 5.0
START = b"0-0"


@dataclass(slots=True)
class ServerClock:
    """Notices that Redis' clock stepped back: idle times then stand still for as long, and reclaim would too."""

    skew_s: float | None = None

    def stepped_back(self, server_s: float, own_s: float, last_id_s: float) -> bool:
        """Is the server's time behind the own clock's account, or behind the stream's last id?"""
        skew = server_s - own_s
        behind = self.skew_s is not None and skew < self.skew_s - STEP_BACK_S
        self.skew_s = skew
        return behind or last_id_s > server_s + STEP_BACK_S


@dataclass(slots=True)
class Reclaimer:
    """Follows XAUTOCLAIM's cursor around a stream's pending entries: a circle a second, and at once when one is due."""

    redis: Redis
    stream: str
    consumer: str
    reclaim_after_s: float
    circle_every_s: float
    _cursor: bytes = START
    _circle_began: float = 0.0
    _due: list[float] = field(default_factory=list)
    _clock: ServerClock = field(default_factory=ServerClock)
    _min_idle_s: float = 0.0
    _stepped_back: bool = False
    _all_wanted: bool = False
    _all_asked_at: float = -1e9

    def expect(self, in_s: float) -> None:
        """An entry was put back and is due in `in_s` seconds."""
        heapq.heappush(self._due, time.monotonic() + in_s)

    def due_in_s(self) -> float:
        """Seconds until the next circle should begin; 0 while one is under way."""
        now = time.monotonic()
        if self._cursor != START:
            return 0.0
        circle = self._circle_began + self.circle_every_s
        due = max(self._due[0], self._circle_began + DUE_PAUSE_S) if self._due else circle
        return max(0.0, min(circle, due) - now)

    async def take(self, most: int) -> list[Entry]:
        """Up to `most` entries that are due; [] where no circle is. Raises redis.RedisError."""
        if self.due_in_s() > 0:
            return []
        if self._cursor == START:
            self._begin()
        taken: list[Entry] = []
        for _ in range(CALLS_PER_TURN):
            step = await streams.reclaim(
                self.redis, self.stream, self.consumer, self._min_idle_s, self._cursor, most - len(taken)
            )  # fmt: skip
            self._note(step)
            taken += step.entries
            self._cursor = step.cursor
            if self._cursor == START or len(taken) >= most:
                break
        return taken

    async def put_back(self, entries: list[Entry]) -> None:
        """Entries that were taken along with one that must be handled alone: due at once, this delivery not counted."""
        await streams.put_back(
            self.redis, self.stream, self.consumer, [(e.id, self.reclaim_after_s, max(0, e.deliveries - 1)) for e in entries]
        )  # fmt: skip
        self.expect(0)

    async def wait(self, entry: Entry) -> None:
        """It was taken back, and its turn is still to come: this delivery does not count yet."""
        await streams.put_back(self.redis, self.stream, self.consumer, [(entry.id, 0.0, entry.deliveries - 1)])

    async def begin(self, entry: Entry) -> bool:
        """Now it does. False where another has taken the entry meanwhile, or acknowledged it."""
        mine = await streams.has(self.redis, self.stream, self.consumer, entry.id)
        if mine:
            await streams.put_back(self.redis, self.stream, self.consumer, [(entry.id, 0.0, entry.deliveries)])
        return mine

    def _begin(self) -> None:
        self._circle_began = time.monotonic()
        while self._due and self._due[0] <= self._circle_began:
            heapq.heappop(self._due)
        self._min_idle_s = 0.0 if self._all_wanted else self.reclaim_after_s
        self._all_wanted = False

    def _note(self, step: streams.Reclaimed) -> None:
        if step.lost:
            log.error(
                "pending entries had lost their entry: somebody trimmed or deleted", stream=self.stream, entries=len(step.lost)
            )
        now, last_id_s = time.monotonic(), int(step.last_id.split(b"-")[0]) / 1000
        self._stepped_back |= self._clock.stepped_back(step.server_time_us / 1e6, now, last_id_s)
        if self._stepped_back and now - self._all_asked_at > self.reclaim_after_s / 2:
            log.warning("Redis' clock stepped back: the next round takes back everything pending", stream=self.stream)
            self._stepped_back, self._all_wanted, self._all_asked_at = False, True, now
            self.expect(0)


def split_alone(entries: list[Entry]) -> tuple[Entry | None, list[Entry]]:
    """The first entry that ended in silence too often, and the rest; (None, all) where there is none."""
    suspect = next((e for e in entries if e.deliveries > ALONE_AFTER_DELIVERIES), None)
    return suspect, [e for e in entries if e is not suspect]
