"""The time limit that calls share: each has its full time, and none has more."""

import asyncio
import time
from collections.abc import Callable

import pytest

from app.domain import Channel, Outcome
from consumers.call import call_provider
from consumers.providers import Message, Receipt
from consumers.retry import Result
from consumers.time_limit import TimeLimit
from tests.support import HANG, Scripted

MESSAGE = Message("7-0", Channel.SMS, "ann", None, "e-1", "ORDER_PLACED", "{}", 1)
LIMIT_S = 0.04
NO_ANSWER = Result(Outcome.UNKNOWN, "no answer from the provider within 0.04 s")
ROUNDED_S = 0.002  # the event loop counts whole milliseconds


async def hang(limit: TimeLimit) -> float:
    """For how long a call to a provider that does not answer lasts."""
    began_s = time.monotonic()
    assert await call_provider(Scripted(HANG), MESSAGE, limit) == NO_ANSWER
    return time.monotonic() - began_s


async def test_calls_that_began_at_different_times_have_each_its_full_time() -> None:
    limit, calls = TimeLimit(LIMIT_S), []
    for _ in range(4):
        calls.append(asyncio.create_task(hang(limit)))
        await asyncio.sleep(LIMIT_S / 4)
    for lasted_s in await asyncio.gather(*calls):
        assert LIMIT_S - ROUNDED_S <= lasted_s < 5


async def test_how_long_the_oldest_call_lasts_is_known() -> None:
    limit = TimeLimit(60)
    assert limit.longest_s() == 0
    first = asyncio.create_task(call_provider(Scripted(HANG), MESSAGE, limit))
    await asyncio.sleep(0.02)
    second = asyncio.create_task(call_provider(Scripted(HANG), MESSAGE, limit))
    await asyncio.sleep(0)
    assert 0.02 - ROUNDED_S <= limit.longest_s() < 5
    for call in (first, second):
        call.cancel()
    await asyncio.wait((first, second))
    assert limit.longest_s() == 0


async def test_one_task_may_call_again_after_its_time_was_over() -> None:
    limit = TimeLimit(LIMIT_S)
    for _ in range(3):
        assert await hang(limit) >= LIMIT_S - ROUNDED_S
    assert (await call_provider(Scripted(), MESSAGE, limit)).outcome is Outcome.SENT


async def test_a_call_that_ended_in_time_leaves_its_task_alone() -> None:
    limit = TimeLimit(LIMIT_S)
    assert (await call_provider(Scripted(), MESSAGE, limit)).outcome is Outcome.SENT
    await asyncio.create_task(hang(limit))  # begun later; who is cancelled meanwhile for the call that is over raises here


class Stubborn:
    """Hangs until it is cancelled, and then does this."""

    name = "stubborn"

    def __init__(self, then: Callable[[], Receipt]) -> None:
        self._then = then

    async def send(self, _message: Message) -> Receipt:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return self._then()
        raise AssertionError


async def test_an_answer_at_the_last_moment_counts() -> None:
    provider = Stubborn(lambda: Receipt("late"))
    assert await call_provider(provider, MESSAGE, TimeLimit(LIMIT_S)) == Result(Outcome.SENT, receipt="late")
    assert not running().cancelling()


async def test_who_is_cancelled_as_its_time_ends_is_cancelled() -> None:
    """As at the end of the process: nothing is recorded, the crash rule judges it."""

    def cancelled_too() -> Receipt:
        running().cancel()
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(call_provider(Stubborn(cancelled_too), MESSAGE, TimeLimit(LIMIT_S)))


def running() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task
