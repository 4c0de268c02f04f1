"""How long a call to a provider may last. One timer serves all calls under way; asyncio.timeout sets one for each."""

import asyncio


class TimeLimit:
    """Cancels the task of a call once that has lasted `limit_s`. A call is what lies between `begin` and `end`, in one task."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._loop = asyncio.get_running_loop()
        self._until_s: dict[asyncio.Task[object], float] = {}  # who began first comes first
        self._cancelled: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None  # set for the oldest call, or for one before it that has ended

    def begin(self) -> "asyncio.Task[object]":
        """A call begins, in the current task."""
        task, until_s = asyncio.current_task(self._loop), self._loop.time() + self.limit_s
        assert task is not None
        self._until_s[task] = until_s
        if self._timer is None:
            self._timer = self._loop.call_at(until_s, self._look)
        return task

    def longest_s(self) -> float:
        """For how long the oldest call lasts by now; 0 where none is under way."""
        until_s = next(iter(self._until_s.values()), None)
        return 0.0 if until_s is None else self._loop.time() - until_s + self.limit_s

    def passed(self, task: "asyncio.Task[object]") -> bool:
        """Was the call under way in `task` cancelled here?"""
        return task in self._cancelled

    def end(self, task: "asyncio.Task[object]") -> None:
        """The call is over, whatever came of it, and the task goes on."""
        if self._until_s.pop(task, None) is None:
            self._cancelled.discard(task)
            task.uncancel()

    def _look(self) -> None:
        self._timer = None
        while self._until_s:
            task, until_s = next(iter(self._until_s.items()))
            if until_s > self._loop.time():
                self._timer = self._loop.call_at(until_s, self._look)
                return
            del self._until_s[task]
            self._cancelled.add(task)
            task.cancel()
