"""Work in sets: what arrives while a batch is under way shares the next one."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from app.batches import ENOUGH, SEVERAL, Batches, Shared


class Slow:
    """Work that notes its batches and goes on when it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, batch: list[int]) -> None:
        self.batches.append(batch)
        self.began.set()
        await self.go_on.wait()


@asynccontextmanager
async def running(batches: Batches[Any] | Shared[Any, Any]) -> AsyncIterator[None]:
    task = asyncio.create_task(batches.run())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_one_item_alone_is_worked_on_at_once() -> None:
    work = Slow()
    batches = Batches(work)
    async with running(batches):
        batches.add(1)
        await work.began.wait()
    assert work.batches == [[1]]


async def test_what_arrives_meanwhile_shares_the_next_batch_in_order() -> None:
    work = Slow()
    batches = Batches(work)
    async with running(batches):
        batches.add(1)
        await work.began.wait()
        for item in (2, 3, 4):
            batches.add(item)
        assert work.batches == [[1]]
        work.go_on.set()
        await batches.idle()
    assert work.batches == [[1], [2, 3, 4]]


async def begun_s(items: int, limit: int, pace_s: float) -> list[float]:
    """When each batch of at most `limit` began, in seconds after all were added."""
    began_s = list[float]()

    async def work(_: list[int]) -> None:
        began_s.append(time.monotonic())

    batches, added_s = Batches(work, limit=limit, pace_s=pace_s), time.monotonic()
    async with running(batches):
        for item in range(items):
            batches.add(item)
        await batches.idle()
    return [s - added_s for s in began_s]


async def test_a_batch_begins_in_its_pace_and_the_first_at_once() -> None:
    first_s, second_s, third_s = await begun_s(3 * SEVERAL, limit=SEVERAL, pace_s=0.2)
    pace_s = 0.2 - 0.002  # the event loop counts whole milliseconds
    assert first_s < pace_s <= second_s - first_s
    assert third_s - second_s >= pace_s


async def test_after_a_batch_of_few_the_next_begins_at_once() -> None:
    few = SEVERAL - 1
    assert max(await begun_s(3 * few, limit=few, pace_s=10.0)) < 5.0


async def test_where_enough_waits_the_next_batch_begins_at_once() -> None:
    assert max(await begun_s(2 * ENOUGH + 1, limit=ENOUGH, pace_s=0.2)) >= 0.2 - 0.002, "the last ones are too few"
    assert max(await begun_s(3 * ENOUGH, limit=ENOUGH, pace_s=10.0)) < 5.0


async def test_who_makes_it_enough_ends_the_wait() -> None:
    work = Slow()
    work.go_on.set()
    batches = Batches(work, pace_s=10.0)
    async with running(batches):
        for item in range(SEVERAL):
            batches.add(item)
        await batches.idle()
        batches.add(SEVERAL)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(work.batches) == 1, "too few: they wait for their pace"
        for item in range(SEVERAL + 1, SEVERAL + ENOUGH):
            batches.add(item)
        async with asyncio.timeout(5):
            await batches.idle()
    assert [len(batch) for batch in work.batches] == [SEVERAL, ENOUGH]


async def test_a_batch_has_at_most_its_limit() -> None:
    work = Slow()
    work.go_on.set()
    batches = Batches(work, limit=2)
    for item in range(5):
        batches.add(item)
    async with running(batches):
        await batches.idle()
    assert work.batches == [[0, 1], [2, 3], [4]]


async def test_idle_means_that_nothing_waits_and_nothing_is_under_way() -> None:
    work = Slow()
    batches = Batches(work)
    await batches.idle()
    async with running(batches):
        batches.add(1)
        await work.began.wait()
        idle = asyncio.create_task(batches.idle())
        await asyncio.sleep(0)
        assert not idle.done()
        work.go_on.set()
        await idle


async def test_work_goes_on_after_it_was_idle() -> None:
    work = Slow()
    work.go_on.set()
    batches = Batches(work)
    async with running(batches):
        for item in (1, 2):
            batches.add(item)
            await batches.idle()
    assert work.batches == [[1], [2]]


async def test_an_error_that_escapes_the_work_ends_the_run() -> None:
    async def fail(_batch: list[int]) -> None:
        raise ValueError("no more")

    batches = Batches(fail)
    batches.add(1)
    with pytest.raises(ValueError, match="no more"):
        await batches.run()


async def test_callers_that_ask_meanwhile_share_one_call_and_get_their_own_answers() -> None:
    work = Slow()

    async def call(asks: list[int]) -> list[str]:
        await work(asks)
        return [f"answer {ask}" for ask in asks]

    shared = Shared(call)
    async with running(shared):
        first = asyncio.ensure_future(shared(1))
        await work.began.wait()
        others = [asyncio.ensure_future(shared(ask)) for ask in (2, 3)]
        await asyncio.sleep(0)
        work.go_on.set()
        assert await asyncio.gather(first, *others) == ["answer 1", "answer 2", "answer 3"]
    assert work.batches == [[1], [2, 3]]


async def test_an_error_is_everybodys_who_shared_the_call_and_nobody_elses() -> None:
    async def call(asks: list[int]) -> list[int]:
        if 2 in asks:
            raise OSError("away")
        return asks

    shared = Shared(call)
    async with running(shared):
        failed = await asyncio.gather(shared(1), shared(2), return_exceptions=True)
        assert [str(error) for error in failed] == ["away", "away"]
        assert await shared(3) == 3


async def test_the_first_item_waits_for_others_where_that_is_asked_for() -> None:
    done: list[list[int]] = []

    async def work(batch: list[int]) -> None:
        done.append(batch)

    batches = Batches(work, linger_s=0.05)
    running = asyncio.create_task(batches.run())
    for item in range(3):
        batches.add(item)
        await asyncio.sleep(0)
    await batches.idle()
    assert done == [[0, 1, 2]]
    running.cancel()
