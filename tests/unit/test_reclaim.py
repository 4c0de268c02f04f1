"""When to look for entries to take back, when Redis' clock cannot be trusted, and what is to be handled alone."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from app import streams
from app.streams import Entry, Reclaimed
from consumers import reclaim
from consumers.reclaim import CALLS_PER_TURN, DUE_PAUSE_S, Reclaimer, ServerClock, split_alone

WINDOW_S, CIRCLE_S = 60.0, 1.0


def entry(number: int, deliveries: int = 2) -> Entry:
    return Entry(f"{number}-0".encode(), number, deliveries)


# ---- whom to handle alone


@pytest.mark.parametrize(
    ("deliveries", "suspect", "others"),
    [
        ([], None, []),
        ([2, 2, 1], None, [0, 1, 2]),
        ([2, 3, 2], 1, [0, 2]),
        ([3, 9, 2], 0, [1, 2]),  # one at a time
        ([4], 0, []),
    ],
)
def test_an_entry_that_ended_in_silence_twice_is_handled_alone(
    deliveries: list[int], suspect: int | None, others: list[int]
) -> None:
    entries = [entry(number, count) for number, count in enumerate(deliveries)]
    assert split_alone(entries) == (None if suspect is None else entries[suspect], [entries[n] for n in others])


# ---- Redis' clock


@pytest.mark.parametrize(
    ("told", "stepped_back"),
    [
        # (server's time, own clock, time in the stream's last id)
        ([(1000, 10, 990)], False),
        ([(1000, 10, 990), (1001, 11, 1000)], False),
        ([(1000, 10, 990), (1300, 11, 1299)], False),  # forwards: the leases decide
        ([(1000, 10, 990), (996.1, 11, 990)], False),  # less than five seconds
        ([(1000, 10, 990), (995.9, 11, 990)], True),
        ([(1000, 10, 990), (1000, 40, 990)], True),  # it stood still for half a minute
        ([(1000, 10, 1004.9)], False),
        ([(1000, 10, 1005.1)], True),  # entries come from a later time: it stepped back before we looked
        ([(1000, 10, 990), (700, 11, 690), (701, 12, 691)], False),  # it is told once
    ],
)
def test_a_clock_that_stepped_back_is_noticed(told: list[tuple[float, float, float]], stepped_back: bool) -> None:
    clock = ServerClock()
    answers = [clock.stepped_back(*times) for times in told]
    assert answers[-1] is stepped_back


# ---- when to look


class Clock:
    """The process' own clock, as the test wants it."""

    def __init__(self) -> None:
        self.now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(reclaim, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


class Stream:
    """Answers reclaim's calls from a list, then with a closed circle that found nothing; notes the least idle times asked for."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.answers, self.asked_idle_s = clock, cast(list[Reclaimed], []), cast(list[float], [])
        self.step_back_s = 0.0

    def found(self, *numbers: int, more: bool = False) -> None:
        cursor = b"7-0" if more else b"0-0"
        self.answers.append(Reclaimed(cursor, [entry(n) for n in numbers], [], 0, b"0-0"))

    async def reclaim(self, _redis: Redis, _stream: str, _me: str, min_idle_s: float, _cursor: bytes, count: int) -> Reclaimed:
        self.asked_idle_s.append(min_idle_s)
        step = self.answers.pop(0) if self.answers else Reclaimed(b"0-0", [], [], 0, b"0-0")
        assert len(step.entries) <= count
        server_us = round((self.clock.now + 1e6 - self.step_back_s) * 1e6)
        return Reclaimed(step.cursor, step.entries, step.lost, server_us, step.last_id)


@pytest.fixture
def stream(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Stream:
    stream = Stream(clock)
    monkeypatch.setattr(streams, "reclaim", stream.reclaim)
    return stream


@pytest.fixture
def reclaimer(stream: Stream) -> Reclaimer:
    return Reclaimer(cast(Any, None), streams.EVENTS, "me", WINDOW_S, CIRCLE_S)


def numbers(entries: list[Entry]) -> list[int | None]:
    return [e.row_id for e in entries]


async def test_the_first_circle_begins_at_once_and_the_next_a_second_later(
    reclaimer: Reclaimer, stream: Stream, clock: Clock
) -> None:
    stream.found(1, 2)
    assert numbers(await reclaimer.take(10)) == [1, 2]
    assert reclaimer.due_in_s() == CIRCLE_S
    clock.now += 0.75
    assert reclaimer.due_in_s() == 0.25
    assert (await reclaimer.take(10), len(stream.asked_idle_s)) == ([], 1), "nobody was asked"
    clock.now += 0.25
    assert reclaimer.due_in_s() == 0
    await reclaimer.take(10)
    assert stream.asked_idle_s == [WINDOW_S, WINDOW_S]


async def test_a_known_due_entry_brings_the_circle_forward(reclaimer: Reclaimer, clock: Clock) -> None:
    await reclaimer.take(10)
    reclaimer.expect(0.5)
    reclaimer.expect(0.3)
    assert reclaimer.due_in_s() == pytest.approx(0.3)
    clock.now += 0.3001
    assert reclaimer.due_in_s() == 0
    await reclaimer.take(10)
    assert reclaimer.due_in_s() == pytest.approx(0.1999)
    reclaimer.expect(30)
    clock.now += 0.2
    await reclaimer.take(10)
    assert reclaimer.due_in_s() == CIRCLE_S, "what is due later than the next circle changes nothing"


async def test_circles_that_due_entries_set_off_are_a_little_apart(reclaimer: Reclaimer) -> None:
    await reclaimer.take(10)
    reclaimer.expect(0)
    assert reclaimer.due_in_s() == pytest.approx(DUE_PAUSE_S)


async def test_a_circle_is_followed_to_its_end_over_empty_steps(reclaimer: Reclaimer, stream: Stream) -> None:
    for step in ((), (1,), ()):
        stream.found(*step, more=True)
    stream.found(2)
    assert numbers(await reclaimer.take(10)) == [1, 2]
    assert len(stream.asked_idle_s) == 4


async def test_a_circle_pauses_when_enough_was_found_and_goes_on_at_once(reclaimer: Reclaimer, stream: Stream) -> None:
    stream.found(1, 2, more=True)
    stream.found(3)
    assert numbers(await reclaimer.take(2)) == [1, 2]
    assert reclaimer.due_in_s() == 0
    assert numbers(await reclaimer.take(2)) == [3]
    assert reclaimer.due_in_s() == CIRCLE_S


async def test_one_turn_makes_at_most_twenty_calls(reclaimer: Reclaimer, stream: Stream) -> None:
    for _ in range(50):
        stream.found(more=True)
    assert await reclaimer.take(10) == []
    assert len(stream.asked_idle_s) == CALLS_PER_TURN
    assert reclaimer.due_in_s() == 0


async def test_after_the_clock_stepped_back_one_circle_takes_back_everything(
    reclaimer: Reclaimer, stream: Stream, clock: Clock
) -> None:
    async def circles(number: int) -> list[float]:
        stream.asked_idle_s.clear()
        for _ in range(number):
            clock.now += CIRCLE_S
            await reclaimer.take(10)
        return stream.asked_idle_s

    assert await circles(2) == [WINDOW_S, WINDOW_S]
    stream.step_back_s = 300
    assert await circles(4) == [WINDOW_S, 0, WINDOW_S, WINDOW_S]


async def test_while_ids_are_ahead_of_the_clock_it_happens_every_half_window(
    reclaimer: Reclaimer, stream: Stream, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def behind(*args: Any) -> Reclaimed:
        step = await stream.reclaim(*args)
        return Reclaimed(step.cursor, [], [], step.server_time_us, f"{step.server_time_us // 1000 + 6000}-0".encode())

    monkeypatch.setattr(streams, "reclaim", behind)
    for _ in range(100):
        await reclaimer.take(10)
        clock.now += CIRCLE_S
    assert stream.asked_idle_s.count(0) == 4
