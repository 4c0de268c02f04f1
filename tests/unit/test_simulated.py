"""The simulated provider: fails as often as it is told to, and the same way each time."""

import asyncio
import random
import time
from statistics import fmean

import pytest

from app.domain import Channel
from app.faults import Fault, Kind
from consumers.providers import Message, Receipt, Rejected, Unavailable
from consumers.providers.simulated import Simulated, chances

DRAWS = 10_000


def message(key: str, attempt: int = 1) -> Message:
    return Message(key, Channel.EMAIL, "ann", None, "e-1", "ORDER_PLACED", "{}", attempt)


async def fails(provider: Simulated, key: str, attempt: int = 1) -> bool:
    try:
        await provider.send(message(key, attempt))
    except Unavailable:
        return True
    return False


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.2, 0.5, 1.0])
async def test_it_fails_about_as_often_as_it_is_told_to(rate: float) -> None:
    provider = Simulated(0, rate, seed=0)
    failed = sum([await fails(provider, f"{n}-0") for n in range(DRAWS)])
    assert failed / DRAWS == pytest.approx(rate, abs=0.01 if 0 < rate < 1 else 0)


async def test_the_same_seed_message_and_attempt_fail_or_not_in_any_order() -> None:
    keys = [f"{n}-0" for n in range(200)]
    once = {key: await fails(Simulated(0, 0.5, seed=7), key) for key in keys}
    random.Random(1).shuffle(keys)
    again = {key: await fails(Simulated(0, 0.5, seed=7), key) for key in keys}
    assert again == once
    assert {key: await fails(Simulated(0, 0.5, seed=8), key) for key in keys} != once


async def test_each_attempt_has_its_own_chance() -> None:
    assert len({chances(0, "7-0", attempt) for attempt in range(1, 8)}) == 7
    provider = Simulated(0, 0.2, seed=0)
    for n in range(100):
        assert not all([await fails(provider, f"{n}-0", attempt) for attempt in range(1, 8)])


async def test_a_message_that_is_taken_gives_a_receipt() -> None:
    assert await Simulated(0, 0, seed=0).send(message("7-0")) == Receipt("simulated-7-0")


def test_latency_and_failure_are_spread_evenly_and_apart_from_each_other() -> None:
    drawn = [chances(0, f"{n}-0", 1) for n in range(DRAWS)]
    for numbers in zip(*drawn, strict=True):
        assert fmean(numbers) == pytest.approx(0.5, abs=0.01)
        assert 0 <= min(numbers) < max(numbers) < 1
    slow = [failure for latency, failure in drawn if latency > 0.5]
    assert fmean(slow) == pytest.approx(0.5, abs=0.02)


# ---- made to fail


def faulty(kind: Kind, amount: float = 0, left_s: float = 60) -> Simulated:
    provider = Simulated(0, 0, seed=0)
    provider.current.hear(Fault(kind, amount, left_s))
    return provider


async def test_slow_takes_its_time_and_still_sends() -> None:
    began = time.monotonic()
    assert await faulty(Kind.SLOW, 0.08).send(message("7-0")) == Receipt("simulated-7-0")
    assert 0.06 <= time.monotonic() - began < 1


async def test_flaky_fails_as_often_as_it_is_told_to() -> None:
    provider = faulty(Kind.FLAKY, 50)
    assert sum([await fails(provider, f"{n}-0") for n in range(2000)]) == pytest.approx(1000, abs=100)


async def test_busy_names_the_wait() -> None:
    with pytest.raises(Unavailable, match="429") as told:
        await faulty(Kind.BUSY, 30).send(message("7-0"))
    assert told.value.retry_after_s == 30


async def test_strict_refuses_for_good_and_down_for_now() -> None:
    with pytest.raises(Rejected):
        await faulty(Kind.REJECTING).send(message("7-0"))
    with pytest.raises(Unavailable, match="Connection refused"):
        await faulty(Kind.DOWN).send(message("7-0"))


async def test_silence_lasts_until_the_callers_limit() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await faulty(Kind.HANGING).send(message("7-0"))


async def test_a_fault_ends_in_time_although_nobody_says_so() -> None:
    provider = faulty(Kind.DOWN, left_s=0)
    assert not await fails(provider, "7-0")
