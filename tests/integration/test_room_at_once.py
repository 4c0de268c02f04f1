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
from app.store.hot_route import Case, Plain
from app.store.hot_send import Claimed
from app.store.owed import clock
from app.streams import channel_stream
from consumers import at_once
from consumers.at_once import AtOnce, Batch, Outlet
from consumers.channel_limit import ChannelLimit
from consumers.circuit import Circuit
from consumers.consumer import Consumer
from consumers.database import Database
from consumers.in_hand import InHand
from consumers.record import Ended
from consumers.sending import Underway
from consumers.settle import Acknowledge, Back, CallOver, Leave, Publish, Published, Settle
from tests.support import NOON

Wait = Callable[..., Awaitable[Any]]


async def test_slots_that_reclaim_may_fill_are_not_given_away(
    resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms, real = list[bool](), streams.reclaim

    async def reclaim(*args: Any) -> streams.Reclaimed:
        rooms.append(consumer.room.at_once(1))
        return await real(*args)

    monkeypatch.setattr(streams, "reclaim", reclaim)
    stopping = asyncio.Event()
    consumer = Consumer(resources, Database(), channel_stream(Channel.SMS), "c", Idle(), 8)
    task = asyncio.create_task(consumer.run(stopping))
    await wait_until(lambda: len(rooms) > 2)
    stopping.set()
    await task
    assert set(rooms) == {False}


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
        await wait_until(lambda: consumer.room.at_once(1))
    if how == "held":
        circuit.held = True
        await wait_until(lambda: not consumer.room.drained)
        circuit.held = False
    if how == "open":
        circuit.breaker.failed(time.monotonic(), "401", None, True)
        assert circuit.breaker.is_open
    assert not consumer.room.at_once(1)
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
    await wait_until(lambda: consumer.room.at_once(106))
    assert not consumer.room.at_once(107)
    begun = [streams.Entry(b"row %d" % n, n, 1) for n in range(106)]
    assert all(map(consumer.in_hand.add, begun))
    await publish_rows(resources, stream, 200)
    await wait_until(lambda: consumer._turns > 1)
    assert not consumer.room.at_once(1)
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
        assert not consumer.room.at_once(1), "it does not run yet"
        task = asyncio.create_task(consumer.run(stopping))
        stack.callback(stopping.set)
        await wait_until(lambda: consumer.room.at_once(most))
        assert not consumer.room.at_once(most + 1)
        consumer.in_hand.reserve(most)
        assert not consumer.room.at_once(1)
        stopping.set()
        assert not task.done()
        consumer.in_hand.reserve(-most)
        assert not consumer.room.at_once(1), "it ends"
        await task


def plain(event_pk: int, *channels: Channel) -> Plain:
    return Plain(event_pk, "u", Case(0, channels, ",".join(channels), "{}"))


def underway(first_id: int, *channels: Channel) -> Underway:
    """An event of its own, claimed, whose notifications have the ids from `first_id` on."""
    claimed = Claimed(first_id, f"e-{first_id}", "T", "u", channels, first_id, "{}", 0.0)
    return Underway(claimed, streams.Entry(b"%d-1" % first_id, first_id, 1), lambda _entry, _verdict: None)


def test_what_is_begun_holds_its_slot_until_it_is_over_and_redis_hears_of_retries_alone() -> None:
    consumer, deliver, sending = _Consumer(), _Deliver(), _Sending()
    batch = Batch(cast("Any", sending), {Channel.SMS: outlet(consumer, deliver)}, [plain(8 * n, Channel.SMS) for n in (1, 2, 3)])
    assert (len(batch.events), consumer.in_hand.reserved) == (3, 3)
    events = [underway(8 * n, Channel.SMS) for n in (1, 2, 3)]
    batch.begin(events, 0.0)
    assert (consumer.in_hand.reserved, consumer.in_hand.free()) == (0, 7)
    assert sending.followed == [events], "they are written, whatever becomes of their calls"
    (sent, settle), (again, settle_again), (gone, settle_gone) = deliver.begun
    settle(sent, CallOver())
    assert consumer.in_hand.over == {b"row 8"}
    settle(sent, Acknowledge())
    settle_again(again, Back(3.0, published=Published(NOON, 5.0)))
    settle_gone(gone, Leave())
    assert [verdict for _, verdict in consumer.settled] == [Publish(Outgoing(16, "e-16", "u", "T", NOON), 5.0)]
    assert [*consumer.in_hand.entries] == [b"row 16"], "until it is published"


def test_each_notification_of_an_event_tells_its_end_in_its_place() -> None:
    deliver, sending = _Deliver(), _Sending()
    outlets = {c: outlet(_Consumer(), deliver) for c in Channel}
    batch = Batch(cast("Any", sending), outlets, [plain(8, Channel.EMAIL, Channel.PUSH), plain(16, Channel.PUSH)])
    one, two = underway(8, Channel.EMAIL, Channel.PUSH), underway(16, Channel.PUSH)
    batch.begin([one, two], 0.0)
    assert [entry.row_id for entry, _ in deliver.begun] == [8, 9, 16]
    for n, record in enumerate(deliver.records):
        record(cast("Any", n))
    assert sending.told == [(one, 0, 0), (one, 1, 1), (two, 0, 2)]


def test_what_came_into_the_hand_another_way_is_not_begun_once_more() -> None:
    """A process that stood still for longer than its lease: another published the row, and it was read here."""
    consumer, deliver = _Consumer(), _Deliver()
    consumer.in_hand.add(streams.Entry(b"4-1", 8, 1))
    events = [plain(8, Channel.SMS), plain(16, Channel.SMS)]
    batch = Batch(cast("Any", _Sending()), {Channel.SMS: outlet(consumer, deliver)}, events)
    batch.begin([underway(8, Channel.SMS), underway(16, Channel.SMS)], 0.0)
    ((entry, settle),) = deliver.begun
    settle(entry, Acknowledge())
    assert entry.row_id == 16
    assert [*consumer.in_hand.entries] == [b"4-1"]


SMS, PUSH, EMAIL = Channel.SMS, Channel.PUSH, Channel.EMAIL


@pytest.mark.parametrize(
    ("events", "at_once"),
    [
        ([(PUSH,), (PUSH,)], [0, 1]),
        ([(SMS, PUSH), (PUSH,)], [0, 1]),
        ([(SMS, PUSH), (SMS,), (PUSH,)], [2]),
        ([(PUSH,), (PUSH,), (PUSH,), (SMS,)], [3]),
        ([(EMAIL, PUSH), (SMS, PUSH)], [1]),
        ([(EMAIL,), (EMAIL, SMS)], []),
        ([], []),
    ],
    ids=["one channel", "two", "one is full", "the other is full", "one is of another process", "all are", "nothing"],
)
def test_an_event_is_sent_at_once_where_each_of_its_channels_takes_all_that_the_batch_brings_it(
    events: list[tuple[Channel, ...]], at_once: list[int]
) -> None:
    """Or not at all: no channel of it. Slots are reserved for what goes."""
    consumers = {SMS: _Consumer(room=1), PUSH: _Consumer(room=2)}
    given = [plain(8 * n, *channels) for n, channels in enumerate(events)]
    batch = Batch(cast("Any", _Sending()), {c: outlet(consumer) for c, consumer in consumers.items()}, given)
    assert batch.events == [given[n] for n in at_once]
    going = [channel for n in at_once for channel in events[n]]
    assert {c: consumer.in_hand.reserved for c, consumer in consumers.items()} == {c: going.count(c) for c in consumers}
    batch.close()
    batch.close()
    assert [consumer.in_hand.reserved for consumer in consumers.values()] == [0, 0]


def test_nothing_is_sent_at_once_where_nobody_writes_it() -> None:
    with AtOnce().batch([plain(8, PUSH)]) as batch:
        assert batch.events == []


async def test_who_routes_waits_for_room_that_will_come() -> None:
    consumer, far_s = _Consumer(room=1), time.monotonic() + 60
    waits = asyncio.create_task(outlet(consumer).until_room(2, far_s))
    await asyncio.sleep(0)
    assert not waits.done()
    consumer.room.n = 2
    consumer.in_hand.changed.set()
    await waits


async def test_what_waited_for_room_is_sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, and nothing stays reserved meanwhile."""
    monkeypatch.setattr(at_once, "WAIT_S", 60)
    sms, push, events = _Consumer(room=1), _Consumer(room=2), [plain(8, SMS, PUSH), plain(16, SMS, PUSH)]
    lanes: Any = {SMS: (sms, _Deliver()), PUSH: (push, _Deliver())}
    waits = asyncio.create_task(AtOnce(cast("Any", _Sending()), lanes).batch_soon(events))
    await asyncio.sleep(0)
    assert not waits.done()
    assert (sms.in_hand.reserved, push.in_hand.reserved) == (0, 0)
    sms.room.n = 2
    sms.in_hand.changed.set()
    with await waits as batch:
        assert batch.events == events
        assert (sms.in_hand.reserved, push.in_hand.reserved) == (2, 2)
    assert (sms.in_hand.reserved, push.in_hand.reserved) == (0, 0)


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


@pytest.mark.parametrize("other", [PUSH, EMAIL], ids=["full", "of another process"])
async def test_who_routes_does_not_wait_for_room_that_cannot_be_used(other: Channel) -> None:
    """Where an event's other channel will not take it, it goes over the streams as a whole."""
    lanes: Any = {SMS: (_Consumer(room=1), _Deliver()), PUSH: (_Consumer(room=1), _Deliver(quick=False))}
    lane = AtOnce(cast("Any", _Sending()), lanes)
    with await lane.batch_soon([plain(8, SMS, other), plain(16, SMS, other)]) as batch:
        assert not batch.events
    assert not lane._outlets[SMS]._in_vain_until_s, "no wait was in vain"


def outlet(consumer: "_Consumer", deliver: Any = None) -> Outlet:
    return Outlet(cast("Any", consumer), cast("Any", deliver or _Deliver()))


class _Deliver:
    def __init__(self, quick: bool = True) -> None:
        self.begun, self.records, self.is_quick = list[tuple[streams.Entry, Settle]](), list[Callable[[Ended], None]](), quick

    def quick(self) -> bool:
        return self.is_quick

    def begin(
        self, entry: streams.Entry, claim: object, claimed_s: float, settle: Settle, record: Callable[[Ended], None]
    ) -> None:
        self.begun.append((entry, settle))
        self.records.append(record)


class _Sending:
    me = "me"

    def __init__(self) -> None:
        self.followed, self.told = list[Sequence[Underway]](), list[tuple[Underway, int, object]]()

    def follow(self, events: Sequence[Underway]) -> None:
        self.followed.append(events)

    def ended(self, event: Underway, place: int, end: object) -> None:
        self.told.append((event, place, end))


class _Room:
    def __init__(self, n: int) -> None:
        self.n = n

    def at_once(self, n: int) -> bool:
        return n <= self.n

    def may_come(self, n: int) -> bool:
        return n <= 10


class _Consumer:
    def __init__(self, room: int = 5) -> None:
        self.in_hand, self.room, self.settled = InHand(10), _Room(room), list[tuple[streams.Entry, object]]()

    def settle(self, entry: streams.Entry, verdict: object) -> None:
        self.settled.append((entry, verdict))
