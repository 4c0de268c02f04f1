"""Calls of one channel: so many at a time, the others in turn, and not for long."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consumers import calls as calling
from consumers.calls import Calls
from consumers.record import Attempt
from consumers.settle import Leave

MARGIN_S = 4.0
Wait = Callable[..., Awaitable[Any]]


class Line:
    """Who is called, who may hang up, and who is given back. The clock is `now_s`."""

    def __init__(self, slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s, self.called, self.given_back = 100.0, list[int](), list[int]()
        self.over: dict[int, asyncio.Event] = {}
        monkeypatch.setattr(calling, "clock_s", lambda: self.now_s)
        self.longest_s = 0.0
        back = self.given_back
        self.calls = Calls(slots, MARGIN_S, self._call, lambda made: back.append(number(made)), lambda: self.longest_s)

    def add(self, *numbers: int) -> None:
        for n in numbers:
            self.over[n] = asyncio.Event()
            self.calls.add(attempt(n, self.now_s))

    async def _call(self, made: Attempt) -> None:
        self.called.append(number(made))
        await self.over[number(made)].wait()


def attempt(n: int, claimed_s: float) -> Attempt:
    whatever: Any = n
    return Attempt(whatever, whatever, whatever, claimed_s, whatever, whatever)


def number(made: Attempt) -> int:
    return cast("int", made.entry)


async def turns(n: int = 3) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    return Line(2, monkeypatch)


async def test_no_more_than_the_slots_are_called_and_the_others_in_turn(line: Line) -> None:
    line.add(1, 2, 3, 4)
    await turns()
    assert line.called == [1, 2]
    line.over[2].set()
    await turns()
    assert line.called == [1, 2, 3]
    for over in line.over.values():
        over.set()
    await turns()
    assert line.called == [1, 2, 3, 4]


async def test_who_comes_when_all_calls_are_over_is_called(line: Line) -> None:
    for n in (1, 2, 3):
        line.add(n)
        line.over[n].set()
        await turns()
        line.add(10 * n)  # in the very turn in which the last caller may have ended
        line.over[10 * n].set()
    await turns()
    assert line.called == [1, 10, 2, 20, 3, 30]


async def test_who_waits_too_long_is_given_back_and_fewer_may_wait_from_then_on(line: Line) -> None:
    line.calls.took(0.001)
    assert line.calls.ahead() == 40
    line.add(1, 2, 3)
    line.now_s += MARGIN_S / 4
    line.add(4)
    await turns()
    line.now_s += MARGIN_S / 4
    line.calls._look()
    assert (line.called, line.given_back) == ([1, 2], [3])
    assert line.calls.ahead() == 0
    line.now_s += MARGIN_S / 4
    line.calls._look()
    assert line.given_back == [3, 4]
    for over in line.over.values():
        over.set()


async def test_where_calls_take_no_time_one_caller_makes_them_all(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task for each would cost more than the call."""
    callers = set[object]()

    async def call(made: Attempt) -> None:
        callers.add(asyncio.current_task())
        line.called.append(number(made))

    monkeypatch.setattr(line.calls, "_call", call)
    line.add(*range(100))
    await turns()
    assert line.called == [*range(100)]
    assert len(callers) <= 2
    assert line.calls._callers == set()


async def test_a_fault_in_one_call_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    line, settled = Line(1, monkeypatch), list[object]()

    async def fail(made: Attempt) -> None:
        line.called.append(number(made))
        raise ZeroDivisionError

    monkeypatch.setattr(line.calls, "_call", fail)
    for n in (1, 2):
        line.calls.add(
            attempt(n, line.now_s)._replace(claim=cast("Any", SimpleNamespace(id=n)), settle=lambda *told: settled.append(told))
        )
    await turns()
    assert line.called == [1, 2]
    assert settled == [(1, Leave()), (2, Leave())]


async def test_the_timer_looks_while_somebody_waits(monkeypatch: pytest.MonkeyPatch, wait_until: Wait) -> None:
    monkeypatch.setitem(globals(), "MARGIN_S", 0.02)
    line = Line(1, monkeypatch)
    line.add(1, 2)
    line.now_s += 1
    await wait_until(lambda: line.given_back)
    line.over[1].set()
    assert (line.called, line.given_back) == ([1], [2])


async def test_how_many_may_wait_follows_how_long_calls_take(line: Line) -> None:
    assert line.calls.ahead() == 0, "nobody knows yet"
    assert not line.calls.quick()
    line.calls.took(0.004)
    assert line.calls.ahead() == 10  # two at a time, for 20 ms
    assert line.calls.quick()
    line.longest_s = 0.021
    assert (line.calls.ahead(), line.calls.quick()) == (0, False), "one hangs"
    line.longest_s = 0.019
    assert line.calls.quick()
    for _ in range(500):
        line.calls.took(10.0)
    assert (line.calls.ahead(), line.calls.quick()) == (0, False)
    for _ in range(5000):
        line.calls.took(0.0)
    assert line.calls.ahead() == calling.AHEAD_MAX
