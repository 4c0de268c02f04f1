"""When something is sent at once: into free slots, and those that will be free in a moment, where nothing comes before it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest

from app import streams
from app.domain import Channel, Outgoing
from app.resources import Resources
from app.store.hot_route import Routed
from app.store.owed import clock
from app.streams import channel_stream
from consumers import at_once
from consumers.at_once import Batch, Claimed, Outlet
from consumers.channel_limit import ChannelLimit
from consumers.circuit import Circuit
from consumers.consumer import Consumer
from consumers.database import Database
from consumers.in_hand import InHand
from consumers.settle import Acknowledge, Back, CallOver, Leave, Publish, Published, Settle
from tests.support import NOON

Wait = Callable[..., Awaitable[Any]]


async def test_slots_that_reclaim_may_fill_are_not_given_away(
    resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms, real = list[int](), streams.reclaim

    async def reclaim(*args: Any) -> streams.Reclaimed:
        rooms.append(consumer.room.at_once())
        return await real(*args)

    monkeypatch.setattr(streams, "reclaim", reclaim)
    stopping = asyncio.Event()
    consumer = Consumer(resources, Database(), channel_stream(Channel.SMS), "c", Idle(), 8)
    task = asyncio.create_task(consumer.run(stopping))
    await wait_until(lambda: len(rooms) > 2)
    stopping.set()
    await task
    assert set(rooms) == {0}


@pytest.mark.parametrize("how", ["held", "open", "limited"])
async def test_nothing_is_sent_at_once_where_something_holds_the_channel_back(
    resources: Resources, wait_until: Wait, how: str
) -> None:
    """Nor right after that: what waits on the stream comes first."""
    stopping, circuit = asyncio.Event(), Circuit(resources.settings, Channel.SMS, "c")
    limit = ChannelLimit(resources.redis, Channel.SMS, 1000) if how == "limited" else None
    consumer = Consumer(resources, Database(), channel_stream(Channel.SMS), "c", Idle(), 8, limit, circuit)
    task = asyncio.create_task(consumer.run(stopping))
    if how == "limited":
        await wait_until(lambda: consumer.room.drained)
    else:
        await wait_until(consumer.room.at_once)
    if how == "held":
        circuit.held = True
        await wait_until(lambda: not consumer.room.drained)
        circuit.held = False
    if how == "open":
        circuit.breaker.failed(time.monotonic(), "401", None, True)
        assert circuit.breaker.is_open
    assert consumer.room.at_once() == 0
    stopping.set()
    await task


class Idle:
    """A handler that has nothing to do."""

    def __init__(self) -> None:
        self.rows: list[int | None] = []

    async def __call__(self, entries: Sequence[streams.Entry], settle: Settle) -> None:
        for entry in entries:
            self.rows.append(entry.row_id)
            settle(entry, Acknowledge())

    dead = __call__


async def test_what_is_sent_at_once_leaves_room_for_what_is_read_and_no_read_asks_for_less_than_one(
    resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More may be begun at once than there are slots, also while the next batch waits for a lane."""
    handler, stopping, asked, real, stream = Idle(), asyncio.Event(), list[int](), streams.read, channel_stream(Channel.SMS)

    async def read(reader: Any, stream: str, consumer: str, count: int, block_ms: int | None) -> list[streams.Entry]:
        asked.append(count)
        return await real(reader, stream, consumer, count, block_ms)

    monkeypatch.setattr(streams, "read", read)
    consumer, ahead = Consumer(resources, Database(), stream, "c", handler, 8, ahead=lambda: ahead[0]), [100]
    task = asyncio.create_task(consumer.run(stopping))
    await wait_until(lambda: consumer.room.at_once() == 106)
    begun = [streams.Entry(b"row %d" % n, n, 1) for n in range(106)]
    assert all(map(consumer.in_hand.add, begun))
    await publish_rows(resources, stream, 200)
    await wait_until(lambda: consumer._turns > 1)
    assert consumer.room.at_once() == 0
    ahead[0] = 0  # calls take longer by now
    await publish_rows(resources, stream, 201, 202)
    await wait_until(lambda: not consumer.room.drained)
    for entry in begun:
        consumer.in_hand.drop(entry)
    await wait_until(lambda: consumer.room.drained)
    stopping.set()
    await task
    assert min(asked) > 0
    assert handler.rows == [200, 201, 202]


async def test_what_waits_for_a_slot_when_the_consumer_is_stopped_is_not_read(resources: Resources, wait_until: Wait) -> None:
    """Its call would begin late, and be cut in mid-send."""
    held, stopping, stream = list[tuple[streams.Entry, Settle]](), asyncio.Event(), channel_stream(Channel.SMS)

    async def hold(entries: Sequence[streams.Entry], settle: Settle) -> None:
        held.extend((entry, settle) for entry in entries)

    consumer = Consumer(resources, Database(), stream, "c", cast("Any", hold), 1)
    await publish_rows(resources, stream, 1, 2)
    task = asyncio.create_task(consumer.run(stopping))
    await wait_until(lambda: len(held) == 1 and consumer._turns > 1)
    stopping.set()
    for entry, settle in held:
        settle(entry, Acknowledge())
    await task
    assert [entry.row_id for entry, _ in held] == [1]
    assert await resources.redis.xlen(stream) == 1


async def publish_rows(resources: Resources, stream: str, *row_ids: int) -> None:
    now = await clock(resources.pool)
    await streams.publish(resources.redis, stream, [Outgoing(n, "e", "u", "T", now) for n in row_ids])


@pytest.mark.parametrize(("slots", "most"), [(1, 0), (2, 1), (3, 2), (100, 75)])
async def test_a_quarter_of_the_slots_is_kept_for_what_is_read(
    resources: Resources, wait_until: Wait, slots: int, most: int
) -> None:
    async with AsyncExitStack() as stack:
        consumer, stopping = Consumer(resources, Database(), channel_stream(Channel.SMS), "c", Idle(), slots), asyncio.Event()
        assert consumer.room.at_once() == 0, "it does not run yet"
        task = asyncio.create_task(consumer.run(stopping))
        stack.callback(stopping.set)
        await wait_until(lambda: consumer.room.at_once() == most)
        consumer.in_hand.reserve(most)
        assert consumer.room.at_once() == 0
        stopping.set()
        assert not task.done()
        consumer.in_hand.reserve(-most)
        assert consumer.room.at_once() == 0, "it ends"
        await task


ROUTED = Routed(1, "e", "T", "u", (Channel.SMS,), 8, NOON, "{}", 0.0)


def test_what_is_begun_holds_its_slot_until_it_is_over_and_redis_hears_of_retries_alone() -> None:
    consumer, deliver = _Consumer(), _Deliver()
    batch = Batch({Channel.SMS: outlet(consumer, deliver)}, {Channel.SMS: 3})
    assert consumer.in_hand.reserved == 3
    batch.begin([Claimed(n, Channel.SMS, ROUTED) for n in (8, 9, 10)], 0.0)
    assert (consumer.in_hand.reserved, consumer.in_hand.free()) == (0, 7)
    (sent, settle), (again, settle_again), (gone, settle_gone) = deliver.begun
    settle(sent, CallOver())
    settle(sent, Acknowledge())
    settle_again(again, Back(3.0, published=Published(NOON, 5.0)))
    settle_gone(gone, Leave())
    assert [verdict for _, verdict in consumer.settled] == [CallOver(), Publish(Outgoing(9, "e", "u", "T", NOON), 5.0)]
    assert [*consumer.in_hand.entries] == [b"row 9"], "until it is published"


def test_what_came_into_the_hand_another_way_is_not_begun_once_more() -> None:
    """A process that stood still for longer than its lease: the relay published the row, and it was read here."""
    consumer, deliver = _Consumer(), _Deliver()
    consumer.in_hand.add(streams.Entry(b"4-1", 8, 1))
    batch = Batch({Channel.SMS: outlet(consumer, deliver)}, {Channel.SMS: 2})
    batch.begin([Claimed(8, Channel.SMS, ROUTED), Claimed(9, Channel.SMS, ROUTED)], 0.0)
    ((entry, settle),) = deliver.begun
    settle(entry, Acknowledge())
    assert entry.row_id == 9
    assert [*consumer.in_hand.entries] == [b"4-1"]


def test_a_channel_gets_all_that_it_is_to_send_or_nothing() -> None:
    sms, push = _Consumer(room=1), _Consumer(room=2)
    wanted = {Channel.SMS: 2, Channel.PUSH: 2, Channel.EMAIL: 1}
    batch = Batch({Channel.SMS: outlet(sms), Channel.PUSH: outlet(push)}, wanted)
    assert batch.channels() == [Channel.PUSH]
    assert (sms.in_hand.reserved, push.in_hand.reserved) == (0, 2)
    batch.close()
    assert (sms.in_hand.reserved, push.in_hand.reserved) == (0, 0)


async def test_who_routes_waits_for_room_that_will_come() -> None:
    consumer, far_s = _Consumer(room=1), time.monotonic() + 60
    waits = asyncio.create_task(outlet(consumer).until_room(2, far_s))
    await asyncio.sleep(0)
    assert not waits.done()
    consumer.room.n = 2
    consumer.in_hand.changed.set()
    await waits


async def test_who_routes_waits_in_vain_not_twice_in_a_row() -> None:
    """Or a channel that cannot follow would hold up the others."""
    lane, far_s = outlet(_Consumer(room=1)), time.monotonic() + 60
    await lane.until_room(2, time.monotonic() + 0.01)
    await lane.until_room(2, far_s)
    lane._in_vain_until_s -= at_once.REST_S
    waits = asyncio.create_task(lane.until_room(2, far_s))
    await asyncio.sleep(0)
    assert not waits.done()
    waits.cancel()


async def test_who_routes_does_not_wait_for_room_that_will_not_come() -> None:
    await outlet(_Consumer(room=1)).until_room(11, time.monotonic() + 60)
    await outlet(_Consumer(room=1), _Deliver(quick=False)).until_room(2, time.monotonic() + 60)
    await outlet(_Consumer(room=1)).until_room(2, time.monotonic())


def outlet(consumer: "_Consumer", deliver: Any = None) -> Outlet:
    return Outlet(cast("Any", consumer), cast("Any", deliver or _Deliver()))


class _Deliver:
    def __init__(self, quick: bool = True) -> None:
        self.begun, self.is_quick = list[tuple[streams.Entry, Settle]](), quick

    def quick(self) -> bool:
        return self.is_quick

    def begin(self, entry: streams.Entry, claim: object, claimed_s: float, settle: Settle) -> None:
        self.begun.append((entry, settle))


class _Room:
    def __init__(self, n: int) -> None:
        self.n = n

    def at_once(self) -> int:
        return self.n

    def may_come(self, n: int) -> bool:
        return n <= 10


class _Consumer:
    def __init__(self, room: int = 5) -> None:
        self.in_hand, self.room, self.settled = InHand(10), _Room(room), list[tuple[streams.Entry, object]]()

    def settle(self, entry: streams.Entry, verdict: object) -> None:
        self.settled.append((entry, verdict))
