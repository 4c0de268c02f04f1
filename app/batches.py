"""Work in sets: what arrives while a batch is under way goes into the next one. No wait is added when idle, unless asked for."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Generic, TypeVar

from app.cancelled import unless_cancelled

T = TypeVar("T")
Answer = TypeVar("Answer")

SEVERAL = 3  # items in a batch
ENOUGH = 12  # items that wait


class Pace:
    """What begins, begins `pace_s` after the one before at the earliest: two small batches cost nearly twice as much as one.

    Not after one or two items: so little arrives that a wait would bring no company.
    """

    def __init__(self, pace_s: float) -> None:
        self._pace_s, self._began_s = pace_s, 0.0

    def left_s(self) -> float:
        """Until the next may begin; none, or less, after a quiet moment."""
        return self._began_s + self._pace_s - time.monotonic()

    def begins(self, items: int) -> None:
        if items >= SEVERAL:
            self._began_s = time.monotonic()


class Batches(Generic[T]):
    """Collects items and hands them to `work`, at most `limit` at a time and one batch at a time, in order.

    `linger_s`: the first item waits so long for others, where nobody waits for it. `pace_s`: of the batches, see Pace; but one of
    ENOUGH items begins at once, since more would make it little cheaper for each.

    `work` answers for its own errors; one that escapes it ends `run`, and with it the process (its duty cannot go on).
    """

    def __init__(
        self, work: Callable[[list[T]], Awaitable[None]], limit: int = 500, linger_s: float = 0.0, pace_s: float = 0.0
    ) -> None:
        self._work, self._limit, self._linger_s, self._pace = work, limit, linger_s, Pace(pace_s)
        self._waiting: deque[T] = deque()
        self._wake = asyncio.Event()
        self._enough = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._done = 0

    def add(self, item: T) -> None:
        self._waiting.append(item)
        self._idle.clear()
        self._wake.set()
        if len(self._waiting) >= ENOUGH:
            self._enough.set()

    def sign(self) -> int | None:
        """How many batches were done, for who watches that it goes on; None while there is nothing to do."""
        return None if self._idle.is_set() else self._done

    async def run(self) -> None:
        """For ever: the next batch as soon as there is something in it."""
        while True:
            await self._wake.wait()
            if self._linger_s:
                await asyncio.sleep(self._linger_s)
            while self._waiting:
                await self._due_or_enough()
                self._pace.begins(min(len(self._waiting), self._limit))
                await self._work(self._take())
                unless_cancelled()
                self._done += 1
            self._wake.clear()
            self._idle.set()

    async def idle(self) -> None:
        """Returns once nothing waits and nothing is under way."""
        await self._idle.wait()

    async def _due_or_enough(self) -> None:
        if len(self._waiting) >= ENOUGH or (left_s := self._pace.left_s()) <= 0:
            return
        self._enough.clear()
        timer = asyncio.get_running_loop().call_later(left_s, self._enough.set)
        await self._enough.wait()
        timer.cancel()

    def _take(self) -> list[T]:
        batch = list(islice(self._waiting, self._limit))
        for _ in batch:
            self._waiting.popleft()
        return batch


class Shared(Generic[T, Answer]):
    """One call at a time for many callers: what they ask while a call is under way shares the next one.

    `call` gives an answer per ask, in order; what it raises is raised by all that shared it.
    """

    def __init__(self, call: Callable[[list[T]], Awaitable[list[Answer]]], linger_s: float = 0.0) -> None:
        self._call = call
        self._asks: Batches[tuple[T, asyncio.Future[Answer]]] = Batches(self._answer, linger_s=linger_s)

    async def __call__(self, ask: T) -> Answer:
        """The answer; `run` must be under way."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asks.add((ask, answer))
        return await answer

    def sign(self) -> int | None:
        """As of Batches."""
        return self._asks.sign()

    async def run(self) -> None:
        """For ever."""
        await self._asks.run()

    async def _answer(self, asks: list[tuple[T, "asyncio.Future[Answer]"]]) -> None:
        waiting = [future for _, future in asks]
        try:
            answers = await self._call([ask for ask, _ in asks])
        except Exception as error:
            for future in waiting:
                if not future.done():
                    future.set_exception(error)
        else:
            for future, answer in zip(waiting, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
