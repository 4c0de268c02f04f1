"""The calls of one channel: so many at a time, and the others in turn. Nobody waits long, since a claim that waits could be taken
for one in mid-send.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from consumers.clock import clock_s
from consumers.record import Attempt
from consumers.settle import Leave

log = structlog.get_logger()

AHEAD_S, AHEAD_MAX = 0.02, 500  # what is killed meanwhile was claimed, and not called
QUICK_S = 0.005
STALLS = 4  # times the mean
MEAN_OF = 32  # the mean time of a call follows about so many


class Calls:
    """`call` makes one, `give_back` takes what has waited for about `wait_max_s` since it was claimed.

    `longest_s`: for how long the oldest call under way lasts.
    """

    def __init__(
        self,
        slots: int,
        wait_max_s: float,
        call: Callable[[Attempt], Awaitable[None]],
        give_back: Callable[[Attempt], None],
        longest_s: Callable[[], float],
    ) -> None:
        self._slots, self._wait_max_s, self._call, self._give_back = slots, wait_max_s, call, give_back
        self._longest_s = longest_s
        self._waiting: deque[Attempt] = deque()
        self._callers: set[asyncio.Task[None]] = set()
        self._another = False  # a caller is about to begin
        self._timer: asyncio.TimerHandle | None = None
        self._mean_s: float | None = None

    def add(self, attempt: Attempt) -> None:
        """Calls as soon as its turn comes; returns before that."""
        self._waiting.append(attempt)
        self._next_caller()

    def took(self, took_s: float) -> None:
        """A call is over."""
        self._mean_s = took_s if self._mean_s is None else self._mean_s + (took_s - self._mean_s) / MEAN_OF

    def ahead(self) -> int:
        """So many that have no slot yet have one soon, by how long calls take: what is claimed beyond that would wait."""
        if self._mean_s is None or self._stalls(self._mean_s):
            return 0
        return min(AHEAD_MAX, int(self._slots * min(AHEAD_S, self._wait_max_s / 4) / max(self._mean_s, 1e-6)))

    def quick(self) -> bool:
        """Is it known that calls take next to no time?"""
        return self._mean_s is not None and self._mean_s <= QUICK_S and not self._stalls(self._mean_s)

    def _stalls(self, mean_s: float) -> bool:
        """Does one last for much longer than they did?"""
        return self._longest_s() > max(AHEAD_S, STALLS * mean_s)

    def _next_caller(self) -> None:
        """For what waits: one at a time, since the one before may do it all where calls take no time."""
        if not self._waiting or self._another:
            return
        if len(self._callers) < self._slots:
            self._another = True
            self._callers.add(asyncio.create_task(self._make_calls()))
        elif self._timer is None:
            self._look_later()

    async def _make_calls(self) -> None:
        self._another, caller = False, asyncio.current_task()
        assert caller is not None
        try:
            while self._waiting:
                attempt = self._waiting.popleft()
                self._next_caller()
                await self._guarded_call(attempt)
        finally:
            self._callers.remove(caller)  # at once: who comes next needs a new one

    async def _guarded_call(self, attempt: Attempt) -> None:
        """A fault of ours must not end who calls for others, too."""
        try:
            await self._call(attempt)
        except Exception:
            log.error("call failed: the crash rule will judge it", notification_id=attempt.claim.id, exc_info=True)
            attempt.settle(attempt.entry, Leave())

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._wait_max_s / 2, self._look)

    def _look(self) -> None:
        """Where what was added waits for too long, calls take longer than was thought."""
        late: list[Attempt] = []
        while self._waiting and clock_s() - self._waiting[0].claimed_s >= self._wait_max_s / 2:
            late.append(self._waiting.popleft())
        self._timer = None
        if self._waiting:
            self._look_later()
        for attempt in late:
            self._mean_s = max(self._mean_s or 0.0, self._wait_max_s)
            self._give_back(attempt)
