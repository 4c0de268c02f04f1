"""The loop on one stream: what becomes of good entries, bad ones, repeated ones, and of a group that is gone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from app import streams
from app.batches import SEVERAL
from app.domain import Channel, Outgoing
from app.resources import Resources
from app.store.owed import clock
from app.streams import EVENTS, GROUP, Entry
from consumers.alone import Alone
from consumers.consumer import Consumer
from consumers.database import Database
from consumers.in_hand import InHand
from consumers.settle import Acknowledge, Back, Settle, Verdict

Wait = Callable[..., Awaitable[Any]]


@dataclass
class Recorder:
    """A handler that answers what `verdict` says and remembers what it got."""

    verdict: Callable[[Entry], Verdict] = lambda _: Acknowledge()
    batches: list[list[int | None]] = field(default_factory=list)
    buried: list[int | None] = field(default_factory=list)

    async def __call__(self, entries: Sequence[Entry], settle: Settle) -> None:
        self.batches.append([e.row_id for e in entries])
        for entry in entries:
            settle(entry, self.verdict(entry))

    async def dead(self, entries: Sequence[Entry], settle: Settle) -> None:
        self.buried += [e.row_id for e in entries]
        for entry in entries:
            settle(entry, Acknowledge())

    @property
    def seen(self) -> list[int]:
        return [row or 0 for batch in self.batches for row in batch]


@dataclass
class Holding(Recorder):
    """Keeps what it got in hand until it is released."""

    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, entries: Sequence[Entry], settle: Settle) -> None:
        self.batches.append([e.row_id for e in entries])
        await self.released.wait()
        for entry in entries:
            settle(entry, Acknowledge())


@asynccontextmanager
async def consuming(resources: Resources, handler: Any, slots: int = 100, name: str = "c", **how: Any) -> AsyncIterator[Consumer]:
    consumer, stopping = Consumer(resources, Database(), EVENTS, name, handler, slots, **how), asyncio.Event()
    task = asyncio.create_task(consumer.run(stopping))
    yield consumer
    stopping.set()
    await task


async def publish(resources: Resources, *rows: int) -> None:
    now = await clock(resources.pool)
    await streams.publish(resources.redis, EVENTS, [Outgoing(row, f"e{row}", "u", "T", now) for row in rows])


async def empty(resources: Resources) -> bool:
    return not await resources.redis.xlen(EVENTS)


async def test_entries_are_handed_over_acknowledged_and_deleted(resources: Resources, wait_until: Wait) -> None:
    handler = Recorder()
    async with consuming(resources, handler):
        await publish(resources, 1, 2, 3)
        await wait_until(lambda: empty(resources))
    assert sorted(handler.seen) == [1, 2, 3]
    assert (await resources.redis.xpending(EVENTS, GROUP))["pending"] == 0


async def test_a_batch_begins_before_the_next_read_goes_out(
    resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first question would wait for that."""
    order, real, handler = list[str](), streams.read, Recorder()

    async def read(*args: Any) -> list[Entry]:
        order.append("asks")
        entries = await real(*args)
        order.extend(["reads"] * bool(entries))
        return entries

    async def handle(entries: Sequence[Entry], settle: Settle) -> None:
        order.append("begins")
        await handler(entries, settle)

    monkeypatch.setattr(streams, "read", read)
    async with consuming(resources, handle):
        await wait_until(lambda: order)
        await publish(resources, 1)
        await wait_until(lambda: empty(resources))
    after = order.index("reads")
    assert order[after : after + 2] == ["reads", "begins"]


async def test_a_pace_gathers_what_comes_meanwhile(resources: Resources, wait_until: Wait) -> None:
    handler, several = Recorder(), [*range(1, SEVERAL + 1)]
    await publish(resources, *several)
    async with consuming(resources, handler, pace_s=1.0):
        await wait_until(lambda: handler.batches == [several])
        await publish(resources, 8)
        await publish(resources, 9)
        await wait_until(lambda: handler.batches == [several, [8, 9]])


async def test_what_was_published_before_the_group_existed_is_delivered_too(resources: Resources, wait_until: Wait) -> None:
    await publish(resources, 1)
    handler = Recorder()
    async with consuming(resources, handler):
        await wait_until(lambda: handler.seen == [1])


async def test_an_entry_comes_back_when_it_is_due_and_not_before(resources: Resources, wait_until: Wait) -> None:
    times: list[float] = []

    def verdict(_entry: Entry) -> Verdict:
        times.append(asyncio.get_running_loop().time())
        return Back(0.6) if len(times) == 1 else Acknowledge()

    async with consuming(resources, Recorder(verdict)):
        await publish(resources, 1)
        await wait_until(lambda: empty(resources))
    assert 0.55 < times[1] - times[0] < 1.2


async def test_many_waiting_entries_keep_no_new_one_from_being_read(resources: Resources, wait_until: Wait) -> None:
    handler = Recorder(lambda entry: Back(0.05) if (entry.row_id or 0) < 1000 else Acknowledge())
    async with consuming(resources, handler, slots=10):
        await publish(resources, *range(200))
        await wait_until(lambda: len(handler.seen) > 400)
        await publish(resources, 1000)
        await wait_until(lambda: 1000 in handler.seen)
        handler.verdict = lambda _: Acknowledge()
        await wait_until(lambda: empty(resources))


async def test_an_entry_nobody_can_read_goes_to_the_dead_stream_and_the_stream_goes_on(
    resources: Resources, wait_until: Wait
) -> None:
    await resources.redis.xadd(EVENTS, {b"\xff\xfe": b"\x00\xff", "event": "not a number"})
    await publish(resources, 7)
    handler = Recorder()
    async with consuming(resources, handler):
        await wait_until(lambda: empty(resources))
    assert handler.seen == [7]
    found: Any = await resources.redis.xrange(streams.DEAD)
    [(_, dead)] = found
    assert dead[b"reason"] == b"the entry has no readable field 'event'"
    assert (dead[b"event"], dead[b"stream"]) == (b"not a number", EVENTS.encode())


async def test_a_silent_consumers_entries_are_taken_over_after_the_window(resources: Resources, wait_until: Wait) -> None:
    await streams.create_group(resources.redis, EVENTS)
    await publish(resources, 1, 2)
    assert len(await streams.read(resources.reader, EVENTS, "silent", 10, None)) == 2
    await streams.put_back(resources.redis, EVENTS, "silent", [(await first_id(resources), 1.9, 1)])
    handler = Recorder()
    async with consuming(resources, handler):
        await wait_until(lambda: handler.seen == [1])  # 0.1 s were missing
        await wait_until(lambda: sorted(handler.seen) == [1, 2], within_s=5)


async def first_id(resources: Resources) -> bytes:
    found: Any = await resources.redis.xrange(EVENTS, count=1)
    return bytes(found[0][0])


async def pending_with(resources: Resources, deliveries: int, *rows: int) -> None:
    """Entries that a consumer, now gone, was given `deliveries` times and never ended; due at once."""
    await streams.create_group(resources.redis, EVENTS)
    await publish(resources, *rows)
    read = await streams.read(resources.reader, EVENTS, "gone", 100, None)
    await streams.put_back(resources.redis, EVENTS, "gone", [(e.id, 10, deliveries) for e in read])


async def test_an_entry_that_ended_in_silence_too_often_is_handled_alone(resources: Resources, wait_until: Wait) -> None:
    await pending_with(resources, 3, 1, 2, 3)
    await pending_with(resources, 1, 4, 5)
    handler = Recorder()
    async with consuming(resources, handler):
        await wait_until(lambda: empty(resources))
    assert sorted(handler.seen) == [1, 2, 3, 4, 5]
    assert all(batch == [row] for batch in handler.batches for row in batch if row in (1, 2, 3)), handler.batches


async def pending(resources: Resources) -> Any:
    """The one entry that is."""
    [entry] = await resources.redis.xpending_range(EVENTS, GROUP, "-", "+", 10)
    return entry


async def owned(resources: Resources) -> tuple[bytes, int]:
    """By whom, and how often it was delivered."""
    entry = await pending(resources)
    return entry["consumer"], entry["times_delivered"]


async def waits(resources: Resources) -> bool:
    """Was it taken back, and does that not count?"""
    return await owned(resources) == (b"c", 3)


async def test_what_waits_to_be_handled_alone_is_not_counted_yet(resources: Resources, wait_until: Wait) -> None:
    """Whoever is handled before it may end the process, and that would condemn both."""
    counts, alone = list[int](), Alone()

    class Suspect(Recorder):
        async def __call__(self, entries: Sequence[Entry], settle: Settle) -> None:
            counts.extend([entries[0].deliveries, (await owned(resources))[1]])
            await super().__call__(entries, settle)

    await pending_with(resources, 3, 1)
    async with consuming(resources, Suspect(), alone=alone):
        async with alone.only():
            await wait_until(lambda: waits(resources))
        await wait_until(lambda: empty(resources))
    assert counts == [4, 4]


async def test_what_another_took_before_its_turn_came_is_the_others(resources: Resources, wait_until: Wait) -> None:
    """And so is the count of its deliveries."""
    alone, handler = Alone(), Recorder()
    await pending_with(resources, 3, 1)
    async with consuming(resources, handler, alone=alone) as consumer:
        turns = consumer.signs()[f"consume {EVENTS}"]
        async with alone.only():
            await wait_until(lambda: waits(resources))
            await streams.put_back(resources.redis, EVENTS, "another", [((await pending(resources))["message_id"], 0, 6)])
            before = turns()
        await wait_until(lambda: turns() != before)
        assert (await owned(resources), handler.seen) == ((b"another", 6), [])


async def test_an_entry_delivered_more_often_than_allowed_is_a_dead_letter(resources: Resources, wait_until: Wait) -> None:
    await pending_with(resources, resources.settings.max_deliveries, 1)
    handler = Recorder()
    async with consuming(resources, handler):
        await wait_until(lambda: empty(resources))
    assert (handler.buried, handler.seen) == ([1], [])


async def test_a_handler_that_raises_loses_nothing_and_ends_as_a_dead_letter(resources: Resources, wait_until: Wait) -> None:
    class Faulty(Recorder):
        async def __call__(self, entries: Sequence[Entry], settle: Settle) -> None:
            await super().__call__(entries, lambda _entry, _verdict: None)
            raise RuntimeError("a bug")

    handler = Faulty()
    await pending_with(resources, 7, 1)
    async with consuming(resources, handler):
        await wait_until(lambda: handler.seen == [1])
        await wait_until(lambda: handler.buried == [1], within_s=6)
        await wait_until(lambda: empty(resources))


@pytest.mark.parametrize("loss", ["FLUSHALL", f"DEL {EVENTS}", f"XGROUP DESTROY {EVENTS} {GROUP}"])
async def test_a_group_that_is_gone_is_made_again_at_0(resources: Resources, wait_until: Wait, loss: str) -> None:
    handler = Recorder()
    async with consuming(resources, handler):
        await publish(resources, 1)
        await wait_until(lambda: handler.seen == [1])
        await resources.redis.execute_command(*loss.split())
        await publish(resources, 2)
        await wait_until(lambda: handler.seen == [1, 2])


async def test_two_entries_of_one_row_are_never_in_hand_together(resources: Resources, wait_until: Wait) -> None:
    handler = Holding()
    await streams.create_group(resources.redis, EVENTS)
    await publish(resources, 1, 1)
    async with consuming(resources, handler) as consumer:
        await wait_until(lambda: waits_behind(resources))
        assert (handler.batches, consumer.in_hand.rows) == ([[1]], {1})
        handler.released.set()
        await wait_until(lambda: empty(resources))
    assert handler.batches == [[1], [1]]


async def waits_behind(resources: Resources) -> bool:
    """Has the second entry been put back, with idle time set so that it is due in half a window?"""
    entries: Any = await resources.redis.xpending_range(EVENTS, GROUP, "-", "+", 10)
    return any(e["time_since_delivered"] >= 1000 for e in entries)


async def test_no_more_is_read_than_there_are_free_slots(resources: Resources, wait_until: Wait) -> None:
    settles: list[tuple[Entry, Settle]] = []

    class Slow(Recorder):
        async def __call__(self, entries: Sequence[Entry], settle: Settle) -> None:
            settles.extend((entry, settle) for entry in entries)

    await publish(resources, *range(20))
    async with consuming(resources, Slow(), slots=5) as consumer:
        await wait_until(lambda: len(settles) == 5)
        assert consumer.in_hand.free() == 0
        assert (await resources.redis.xpending(EVENTS, GROUP))["pending"] == 5
        while not await empty(resources):
            for entry, settle in settles[:]:
                settle(entry, Acknowledge())
                settles.remove((entry, settle))
            await asyncio.sleep(0)


async def test_while_postgresql_is_away_nothing_is_read(resources: Resources, wait_until: Wait) -> None:
    database, stopping, handler, other = Database(), asyncio.Event(), Recorder(), Recorder()
    answers = iter([ConnectionRefusedError("away"), ConnectionRefusedError("away")])
    back = asyncio.Event()

    async def call() -> str:
        if (error := next(answers, None)) is not None:
            raise error
        await back.wait()
        return "here"

    asking = asyncio.create_task(database.patiently(call))
    await wait_until(lambda: database.calm_left_s(1) == 1)
    task = asyncio.create_task(Consumer(resources, database, EVENTS, "c", handler, 10).run(stopping))
    await publish(resources, 1)
    async with consuming(resources, other, name="other"):  # another process, whose PostgreSQL answers
        await wait_until(lambda: other.seen == [1])
    await publish(resources, 2)
    back.set()
    assert await asking == "here"
    await wait_until(lambda: handler.seen == [2])
    stopping.set()
    await task


def test_slots_and_rows_in_hand() -> None:
    hand, first = InHand(slots=2), Entry(b"1-1", 7, 1)
    assert hand.add(first)
    assert not hand.add(Entry(b"1-2", 7, 1))
    assert hand.free() == 1
    hand.drop(first)
    assert hand.free() == 2
    assert hand.add(Entry(b"1-2", 7, 1))


def test_an_entry_whose_call_is_over_holds_no_slot_but_stays_in_hand_until_it_is_recorded() -> None:
    hand, first, second, third = InHand(slots=1, spare=1), Entry(b"1-1", 1, 1), Entry(b"1-2", 2, 1), Entry(b"1-3", 3, 1)
    assert hand.add(first)
    assert hand.free() == 0
    hand.call_over(first)
    assert hand.free() == 1
    assert not hand.add(Entry(b"1-4", 1, 1)), "its row is still in hand"
    assert hand.add(second)
    hand.call_over(second)
    assert hand.free() == 0, "two are to be recorded, and one may be spare"
    hand.drop(first)
    hand.call_over(third)  # of another consumer, or settled before
    assert (hand.free(), hand.over) == (1, {second.id})


async def test_consumers_that_are_gone_are_removed_but_none_that_has_work(resources: Resources) -> None:
    await streams.create_group(resources.redis, EVENTS)
    await publish(resources, 1)
    await streams.read(resources.reader, EVENTS, "busy", 1, None)
    await streams.read(resources.reader, EVENTS, "gone", 1, None)
    assert await streams.forget_consumers(resources.redis, EVENTS, 60) == 0
    assert await streams.forget_consumers(resources.redis, EVENTS, 0) == 1
    left: Any = await resources.redis.xinfo_consumers(EVENTS, GROUP)
    assert [consumer["name"] for consumer in left] == [b"busy"]


async def test_the_entry_in_hand_delivered_once_more_stays_in_hand(resources: Resources, wait_until: Wait) -> None:
    """As after a failover, or where somebody destroyed the group and it was made again at 0."""
    handler = Holding()
    await publish(resources, 1)
    async with consuming(resources, handler) as consumer:
        await wait_until(lambda: handler.batches == [[1]])
        await resources.redis.xgroup_destroy(EVENTS, GROUP)
        await streams.create_group(resources.redis, EVENTS)
        await wait_until(lambda: delivered_again(resources))
        await publish(resources, 2)
        await wait_until(lambda: handler.batches == [[1], [2]])
        assert consumer.in_hand.rows == {1, 2}
        handler.released.set()
        await wait_until(lambda: empty(resources))
    assert handler.batches == [[1], [2]]


async def delivered_again(resources: Resources) -> bool:
    return bool((await resources.redis.xpending(EVENTS, GROUP))["pending"] == 1)


async def test_an_error_that_is_neither_away_nor_of_the_data_does_not_stop_the_process_for_ever(wait_until: Wait) -> None:
    database = Database()
    answers = iter([ConnectionRefusedError("away"), asyncpg.InvalidPasswordError("the password was changed")])

    async def call() -> str:
        if (error := next(answers, None)) is not None:
            raise error
        return "here"

    assert await database.patiently(call) == "here"
    await asyncio.wait_for(database.here(), 1)


async def test_with_nothing_in_hand_a_drain_does_not_wait_for_postgresql(resources: Resources, wait_until: Wait) -> None:
    database, stopping, refuse = Database(), asyncio.Event(), asyncio.Event()

    async def call() -> None:
        if not refuse.is_set():
            raise ConnectionRefusedError("away")

    asking = asyncio.create_task(database.patiently(call))
    await wait_until(lambda: database.calm_left_s(1) == 1)
    task = asyncio.create_task(Consumer(resources, database, EVENTS, "c", Recorder(), 10).run(stopping))
    stopping.set()
    await asyncio.wait_for(task, 2)
    refuse.set()
    await asking
    assert 0 < database.calm_left_s(1) <= 1, "the calm begins when it is back"


async def silent(resources: Resources, stream: str, row: int, deliveries: int) -> None:
    """An entry in the hands of a consumer that is gone, due now, which ended in silence so often."""
    now = await clock(resources.pool)
    await streams.publish(resources.redis, stream, [Outgoing(row, f"e{row}", "u", "T", now)])
    await streams.create_group(resources.redis, stream)
    (entry,) = await streams.read(resources.redis, stream, "gone", 1, None)
    await streams.put_back(resources.redis, stream, "gone", [(entry.id, 60, deliveries)])


async def test_while_a_suspect_is_handled_no_stream_of_the_process_has_anything_in_hand(
    resources: Resources, wait_until: Wait
) -> None:
    """Its end would be theirs, each time."""
    beside: list[int] = []
    other = Recorder()
    mail = streams.channel_stream(Channel.EMAIL)
    going_on = asyncio.Event()

    class Suspect(Recorder):
        async def __call__(self, entries: Sequence[Entry], settle: Settle) -> None:
            beside.append(len(hand.entries) + len(other.batches))
            await publish_mail()
            await asyncio.wait_for(going_on.wait(), 5)
            beside.append(len(hand.entries) + len(other.batches))
            await super().__call__(entries, settle)

    async def publish_mail() -> None:
        await streams.publish(resources.redis, mail, [Outgoing(7, "e7", "u", "T", await clock(resources.pool))])
        asyncio.get_running_loop().call_later(0.3, going_on.set)  # time enough for the other loop to read it

    await silent(resources, EVENTS, 1, deliveries=4)
    alone, stopping = Alone(), asyncio.Event()
    one = Consumer(resources, Database(), EVENTS, "one", Suspect(), 10, alone=alone)
    two = Consumer(resources, Database(), mail, "two", other, 10, alone=alone)
    hand = two.in_hand
    async with asyncio.TaskGroup() as running:
        running.create_task(one.run(stopping))
        running.create_task(two.run(stopping))
        await wait_until(lambda: other.seen == [7])
        stopping.set()
    assert beside == [0, 0]


async def test_who_finds_the_row_busy_does_not_clear_it_of_suspicion(resources: Resources, wait_until: Wait) -> None:
    await silent(resources, EVENTS, 1, deliveries=4)
    counts: list[int] = []

    def verdict(entry: Entry) -> Verdict:
        counts.append(entry.deliveries)
        return Back(0, handled=False) if len(counts) < 3 else Acknowledge()

    async with consuming(resources, Recorder(verdict)):
        await wait_until(lambda: empty(resources))
    assert counts == [5, 5, 5]
