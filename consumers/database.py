"""PostgreSQL may go away: calls are repeated while the process lives, and nothing more is read until it is back."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from app.cancelled import unless_cancelled
from app.store.batch import FAULTY, REFUSED
from app.trouble import Trouble
from consumers.pause import sleep_or_stop

log = structlog.get_logger()
Answer = TypeVar("Answer")

REPEAT_AFTER_S = 0.25


class Database:
    """Whether PostgreSQL answers, as the process' own calls see it."""

    def __init__(self) -> None:
        self._here = asyncio.Event()
        self._here.set()
        self._back_at = time.monotonic()  # a process that starts cannot know whether PostgreSQL was away until now
        self.failed_s = float("-inf")  # time.monotonic() of the last call that failed
        self._trouble = Trouble(log, "PostgreSQL is back")

    async def patiently(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer of `call`, repeated while PostgreSQL is away or cannot do it. A lost answer may mean that it took effect."""
        while True:
            try:
                answer = await call()
            except REFUSED:  # it answers, and the data is at fault
                self._back()
                raise
            except FAULTY as error:
                unless_cancelled(error)
                self._gone(error)
                await asyncio.sleep(REPEAT_AFTER_S)
            else:
                self._back()
                return answer

    async def here(self) -> None:
        """Returns once the last call was answered."""
        await self._here.wait()

    async def here_or(self, stopping: asyncio.Event) -> None:
        """The same, or once the process is asked to stop."""
        while not (self._here.is_set() or stopping.is_set()):
            await sleep_or_stop(REPEAT_AFTER_S, stopping)

    def calm_left_s(self, calm_s: float) -> float:
        """What is left of the calm after an absence: a failover, or a recovery in place, looks like no start of PostgreSQL."""
        if not self._here.is_set():
            return calm_s
        return max(0.0, self._back_at + calm_s - time.monotonic())

    def _gone(self, error: BaseException) -> None:
        self._trouble.say("PostgreSQL is away or refuses: holding what is in hand", error)
        self.failed_s = time.monotonic()
        self._here.clear()

    def _back(self) -> None:
        self._trouble.over()
        if not self._here.is_set():
            self._back_at = time.monotonic()
        self._here.set()
