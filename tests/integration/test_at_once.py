"""What is sent at once: claimed as it is routed, delivered as it is published, and nothing lost or doubled where that fails."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, cast

import asyncpg
import pytest

from app import streams
from app.domain import Channel, Outgoing
from app.resources import Resources
from app.store import hot, hot_route
from app.store.hot_route import Routed
from app.store.owed import clock
from app.streams import EVENTS, GROUP, channel_stream
from consumers import deliver as delivering
from consumers import work
from consumers.at_once import AtOnce, Batch, Claimed, claim_of
from consumers.channel_limit import ChannelLimit
from consumers.circuit import Circuit
from consumers.consumer import Consumer
from consumers.database import Database
from consumers.in_hand import InHand
from consumers.providers import Unavailable
from consumers.publish import Publisher
from consumers.record import CLOCK
from consumers.route import Route
from consumers.route_plain import claimed_of
from consumers.settle import Acknowledge, Back, CallOver, Leave, Settle
from tests.integration.consuming import consuming
from tests.support import (
    NOON,
    Scripted,
    add_events,
    add_notifications,
    added_by,
    change,
    claim,
    event,
    notification,
    notifications_of,
    route,
    route_short,
)

Wait = Callable[..., Awaitable[Any]]
RULES: dict[str, Any] = {"lease_s": 30, "at_most_once": False, "max_tries": 3, "calm_s": 0}


async def route_at_once(resources: Resources, event_pks: list[int], me: str = "me") -> list[Routed]:
    return await route_short(resources, event_pks, tuple(Channel), me)


# ---- the statement


async def test_a_row_claimed_as_it_is_routed_is_like_one_that_was_claimed(resources: Resources) -> None:
    at_once, before = await add_events(resources, event(user_id="ann"), event(user_id="ann"))
    rows = {a.channel: a for a in added_by(await route_at_once(resources, [at_once]))}
    others = {a.channel: a for a in await route(resources, [before])}
    await claim(resources, [a.id for a in others.values()], "me", **RULES)
    for channel in Channel:
        one, other = await notification(resources, rows[channel].id), await notification(resources, others[channel].id)
        own = {"id", "event_pk", "due_in_s"}
        times = {"claimed_at", "lease_until", "due_at", "published_at", "created_at", "updated_at"}
        assert {k: v for k, v in one.items() if k not in own | times} == {k: v for k, v in other.items() if k not in own | times}
        lease_s = [(r["lease_until"] - r["claimed_at"]).total_seconds() for r in (one, other)]
        assert lease_s == [resources.settings.lease_s, 30]


async def test_the_claim_says_what_the_statement_would_have_said(resources: Resources) -> None:
    at_once, before = await add_events(resources, event("e-1", user_id="ann"), event("e-2", user_id="ann"))
    (routed,) = await route_at_once(resources, [at_once])
    one = claim_of(Claimed(routed.first_id, Channel.EMAIL, routed))
    (other, *_) = await claim(resources, [(await route(resources, [before]))[0].id], "me", **RULES)
    assert one._replace(id=0, event_id="", age_s=0) == other._replace(id=0, event_id="", age_s=0)
    assert one.event_id == "e-1"
    assert 0 <= one.age_s < 60


async def test_only_what_is_on_a_channel_with_room_is_claimed(resources: Resources) -> None:
    (event_pk,) = await add_events(resources, event())
    (routed,) = await route_short(resources, [event_pk], (Channel.SMS,))
    rows = await notifications_of(resources, event_pk)
    assert {r["channel"]: r["status"] for r in rows} == {"EMAIL": "PENDING", "SMS": "PROCESSING", "PUSH": "PENDING"}
    (claimed,) = claimed_of([routed], [Channel.SMS])
    assert [claimed.id] == [r["id"] for r in rows if r["channel"] == "SMS"]


async def test_what_was_claimed_where_the_answer_was_lost_is_found_again(resources: Resources) -> None:
    """And nothing that was claimed by another, or later, or is over."""
    mine, theirs, later, over = await add_events(resources, *(event() for _ in range(4)))
    added = added_by(routed := await route_at_once(resources, [mine, over]))
    await route_at_once(resources, [theirs], "another")
    await claim(resources, [a.id for a in await route(resources, [later])], "me", **RULES)
    await change(resources, "notification", [a.id for a in added if a.event_pk == over], "lease_until = now() - interval '1 s'")
    found = await hot_route.claimed_as_routed(resources.hot, [mine, theirs, later, over], "me")
    assert sorted(added_by(found)) == sorted(a for a in added if a.event_pk == mine)
    (first,) = [r for r in routed if r.event_pk == mine]
    assert {r._replace(channels=(), first_id=0, age_s=0) for r in found} == {first._replace(channels=(), first_id=0, age_s=0)}
    assert [r.age_s for r in found] == pytest.approx([first.age_s] * 3)


# ---- the process


async def all_done(resources: Resources) -> bool:
    """Is every event routed, and every notification final?"""
    return bool(
        await resources.pool.fetchval(
            "select not exists (select from event where not done) and not exists (select from notification where not done)"
        )
    )


async def settled(resources: Resources) -> bool:
    """And nothing left on any stream?"""
    return not any([await resources.redis.xlen(stream) for stream in streams.WORK_STREAMS]) and await all_done(resources)


async def post(resources: Resources, *event_pks: int) -> None:
    now = await clock(resources.pool)
    await streams.publish(resources.redis, EVENTS, [Outgoing(pk, f"e{pk}", "u", "T", now) for pk in event_pks])


async def reading(resources: Resources) -> bool:
    """Does the process wait for entries of all its streams?"""
    return bool((await resources.redis.info("clients"))["blocked_clients"] == len(streams.WORK_STREAMS))


async def all_notifications(resources: Resources) -> list[asyncpg.Record]:
    return await resources.pool.fetch("select * from notification order by id")


async def test_a_process_at_rest_sends_at_once_and_leaves_nothing(resources: Resources, wait_until: Wait) -> None:
    provider = Scripted()
    async with consuming(resources, provider):
        await wait_until(lambda: reading(resources))
        (event_pk,) = await add_events(resources, event())
        await post(resources, event_pk)
        await wait_until(lambda: settled(resources))
        pending = [(await resources.redis.xpending(stream, GROUP))["pending"] for stream in streams.WORK_STREAMS]
    rows = await notifications_of(resources, event_pk)
    assert [(r["status"], r["attempt"], r["claimed_at"] == r["created_at"]) for r in rows] == [("SENT", 1, True)] * 3
    assert [len(calls) for calls in provider.calls.values()] == [1] * 3
    assert pending == [0] * 4


async def test_while_it_is_sent_its_entry_is_pending_with_the_process(resources: Resources, wait_until: Wait) -> None:
    provider = Scripted("hang")
    async with consuming(resources, provider):
        await wait_until(lambda: reading(resources))
        await post(resources, *await add_events(resources, event(channels=(Channel.EMAIL,))))
        await wait_until(lambda: delivered(resources, channel_stream(Channel.EMAIL)))
        (row,), redis = await all_notifications(resources), cast("Any", resources.redis)
        (entry,) = await redis.xpending_range(channel_stream(Channel.EMAIL), GROUP, "-", "+", 10)
        assert (row["status"], entry["consumer"].decode(), entry["times_delivered"]) == ("PROCESSING", row["claimed_by"], 1)


async def test_a_call_does_not_wait_for_redis(resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the record of its end; the entry is acknowledged once it is known."""
    provider, real, go_on = Scripted(), streams.publish_all, asyncio.Event()

    async def slow(redis: Any, rows: Any, claimed: Any = streams.NONE, consumer: str = "") -> list[bytes]:
        await go_on.wait()
        return await real(redis, rows, claimed, consumer)

    monkeypatch.setattr(streams, "publish_all", slow)
    async with consuming(resources, provider):
        await wait_until(lambda: reading(resources))
        await real(resources.redis, {EVENTS: [Outgoing(pk, "e", "u", "T", NOON) for pk in await add_events(resources, event())]})
        await wait_until(lambda: all_done(resources))
        assert [await resources.redis.xlen(channel_stream(channel)) for channel in Channel] == [0] * 3
        go_on.set()
        await wait_until(lambda: settled(resources))
    assert [(r["status"], r["attempt"]) for r in await all_notifications(resources)] == [("SENT", 1)] * 3


@pytest.mark.parametrize("answers", [(), (Unavailable("busy"),)], ids=["sent", "to be tried again"])
@pytest.mark.parametrize("how", ["not added", "answer lost"])
async def test_where_it_is_not_known_what_was_published_nothing_is_lost_or_doubled(
    resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch, how: str, answers: tuple[Exception, ...]
) -> None:
    """What was added comes back after the window, what was not is published by the relay; the end of the first call counts."""
    provider, real, lost = Scripted(*answers), streams.publish_all, list[int]()

    async def failing(redis: Any, rows: Any, claimed: Any = streams.NONE, consumer: str = "") -> list[bytes]:
        if not claimed or lost or how == "answer lost":
            entry_ids = await real(redis, rows, claimed, consumer)
        if claimed and not lost:
            lost.append(sum(claimed.values()))
            raise TimeoutError
        return entry_ids

    monkeypatch.setattr(streams, "publish_all", failing)
    async with consuming(resources, provider):
        await wait_until(lambda: reading(resources))
        await post(resources, *await add_events(resources, event()))
        await wait_until(lambda: settled(resources))
    calls = 1 + len(answers)
    assert lost == [3]
    rows = await all_notifications(resources)
    assert [(r["status"], r["attempt"], r["possible_duplicate"]) for r in rows] == [("SENT", calls, False)] * 3
    assert [len(calls) for calls in provider.calls.values()] == [calls] * 3


@pytest.mark.parametrize("how", ["not committed", "answer lost"])
async def test_where_postgresql_s_answer_is_lost_what_was_claimed_is_sent(
    resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Its lease counts from the first time that it was asked for."""
    provider, real, real_begin, asked_s, began_s = Scripted(), hot_route.route_plain, Batch.begin, list[float](), list[float]()

    async def losing(*args: Any) -> list[Routed]:
        asked_s.append(time.clock_gettime(CLOCK))
        if how == "answer lost" or len(asked_s) > 1:
            routed = await real(*args)
        if len(asked_s) == 1:
            raise ConnectionError
        return routed

    def begin(batch: Batch, claimed: Sequence[Claimed], claimed_s: float) -> None:
        began_s.append(claimed_s)
        real_begin(batch, claimed, claimed_s)

    monkeypatch.setattr(hot_route, "route_plain", losing)
    monkeypatch.setattr(Batch, "begin", begin)
    async with consuming(resources, provider):
        await wait_until(lambda: reading(resources))
        await post(resources, *await add_events(resources, event()))
        await wait_until(lambda: settled(resources))
    assert (len(asked_s), len(began_s)) == (2, 1)
    assert began_s[0] <= asked_s[0]
    rows = await all_notifications(resources)  # given back unsent where the lease was no longer fresh
    assert [(r["status"], r["tries"], r["possible_duplicate"]) for r in rows] == [("SENT", 1, False)] * 3
    assert all(r["claimed_at"] == r["created_at"] for r in rows if r["attempt"] == 1)
    assert [len(calls) for calls in provider.calls.values()] == [1] * 3


async def test_what_this_process_reads_of_what_it_has_in_hand_is_sent_once(
    resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that was not delivered as it was added, since older ones were unread: nobody claims its row once more."""
    provider, real, stream, asked = Scripted(), streams.publish_all, channel_stream(Channel.EMAIL), list[Sequence[int]]()

    async def claim_or_note(short: Any, pool: Any, ids: Sequence[int], *who: Any, **rules: Any) -> Any:
        asked.append(ids)
        return await hot.claim(short, pool, ids, *who, **rules)

    monkeypatch.setattr(delivering, "claim", claim_or_note)

    async def publish(redis: Any, rows: Any, claimed: Any = streams.NONE, consumer: str = "") -> list[bytes]:
        if not claimed:
            return await real(redis, rows, claimed, consumer)
        await real(redis, rows)
        await wait_until(lambda: delivered(resources, stream))
        await wait_until(lambda: put_back(resources, stream))
        return [entry_id for entry_id, _ in await redis.xrange(stream)]

    monkeypatch.setattr(streams, "publish_all", publish)
    async with consuming(resources, provider):
        await wait_until(lambda: reading(resources))
        await post(resources, *await add_events(resources, event(channels=(Channel.EMAIL,))))
        await wait_until(lambda: settled(resources))
    assert [(r["status"], r["attempt"]) for r in await all_notifications(resources)] == [("SENT", 1)]
    assert [len(calls) for calls in provider.calls.values()] == [1]
    assert asked == []


async def delivered(resources: Resources, stream: str) -> bool:
    return bool((await resources.redis.xpending(stream, GROUP))["pending"])


async def put_back(resources: Resources, stream: str) -> bool:
    (entry,) = await cast("Any", resources.redis).xpending_range(stream, GROUP, "-", "+", 10)
    return bool(entry["times_delivered"] == 0)


async def test_who_reads_what_it_has_in_hand_goes_on_with_it(
    resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of its own under a live lease is busy, not one whose claim was not answered: it would be sent twice in silence."""
    monkeypatch.setattr(work, "consumer_name", lambda: "me")
    provider, (row_id,) = Scripted(), await add_notifications(resources)
    await claim(resources, [row_id], "me", **RULES | {"lease_s": 1})
    now = await clock(resources.pool)
    async with consuming(resources, provider):
        await streams.publish(resources.redis, channel_stream(Channel.EMAIL), [Outgoing(row_id, "e", "u", "T", now)])
        await wait_until(lambda: settled(resources))
    row = await notification(resources, row_id)
    assert (row["status"], row["attempt"], row["possible_duplicate"]) == ("SENT", 2, True), "by the crash rule"


def test_an_entry_read_once_more_does_not_take_the_first_out_of_the_hand() -> None:
    hand, begun, read = InHand(3), streams.Entry(b"row 7", 7, 1), streams.Entry(b"1-1", 7, 1, (b"notification", b"7"))
    assert hand.add(begun)
    assert not hand.add(read), "its row is in hand"
    named = hand.rename(begun, b"1-1")
    hand.drop(read)
    assert hand.entries == {b"1-1": named}
    assert not hand.add(read)
    hand.drop(named)
    assert hand.add(read)


def test_a_call_that_is_over_holds_no_slot_under_any_name() -> None:
    hand, begun = InHand(1, spare=5), streams.Entry(b"row 7", 7, 1)
    hand.add(begun)
    hand.call_over(begun)
    named = hand.rename(begun, b"1-1")
    assert (hand.free(), hand.over) == (1, {b"1-1"})
    hand.drop(named)
    assert (hand.free(), hand.over, hand.rows) == (1, set(), set())


# ---- when


async def test_slots_that_reclaim_may_fill_are_not_given_away(
    resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms, real = list[int](), streams.reclaim

    async def reclaim(*args: Any) -> streams.Reclaimed:
        rooms.append(consumer.room_at_once())
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
        await wait_until(lambda: consumer._drained)
    else:
        await wait_until(consumer.room_at_once)
    if how == "held":
        circuit.held = True
        await wait_until(lambda: not consumer._drained)
        circuit.held = False
    if how == "open":
        circuit.breaker.failed(time.monotonic(), "401", None, True)
        assert circuit.breaker.is_open
    assert consumer.room_at_once() == 0
    stopping.set()
    await task


class Idle:
    """A handler for what nobody publishes."""

    async def __call__(self, entries: Sequence[streams.Entry], settle: Settle) -> None:
        for entry in entries:
            settle(entry, Acknowledge())

    dead = __call__


@pytest.mark.parametrize(("slots", "most"), [(1, 0), (2, 1), (3, 2), (100, 75)])
async def test_a_quarter_of_the_slots_is_kept_for_what_is_read(
    resources: Resources, wait_until: Wait, slots: int, most: int
) -> None:
    async with AsyncExitStack() as stack:
        consumer, stopping = Consumer(resources, Database(), channel_stream(Channel.SMS), "c", Idle(), slots), asyncio.Event()
        assert consumer.room_at_once() == 0, "it does not run yet"
        task = asyncio.create_task(consumer.run(stopping))
        stack.callback(stopping.set)
        await wait_until(lambda: consumer.room_at_once() == most)
        consumer.in_hand.reserve(most)
        assert consumer.room_at_once() == 0
        stopping.set()
        assert not task.done()
        consumer.in_hand.reserve(-most)
        assert consumer.room_at_once() == 0, "it ends"
        await task


async def test_what_comes_late_is_left_to_the_relay(resources: Resources) -> None:
    publish, stream = Publisher(resources, "me"), channel_stream(Channel.SMS)
    now_s, rows = time.clock_gettime(CLOCK), {stream: [Outgoing(7, "e", "u", "T", NOON)]}
    assert await publish(now_s - resources.settings.publish_within_s - 1, rows) is None
    assert await resources.redis.xlen(stream) == 0
    assert await publish(now_s, rows) == []
    assert await resources.redis.xlen(stream) == 1


def test_what_is_begun_is_settled_once_it_is_known_which_entry_it_is() -> None:
    consumer, deliver = _Consumer(), _Deliver()
    batch = Batch({Channel.SMS: (consumer, deliver)}, {Channel.SMS: 3})  # type: ignore[dict-item]
    assert consumer.in_hand.reserved == 3
    event = Routed(1, "e", "T", "u", (Channel.SMS,), 8, NOON, "{}", 0.0)
    batch.begin([Claimed(8, Channel.SMS, event), Claimed(9, Channel.SMS, event)], 0.0)
    assert (consumer.in_hand.reserved, consumer.in_hand.free()) == (0, 8)
    (first, settle), (second, settle_second) = deliver.begun
    settle(first, CallOver())
    settle(first, Acknowledge())
    assert [verdict for _, verdict in consumer.settled] == [CallOver()]
    batch.published([b"5-1", b"5-2"])
    settle_second(second, CallOver())
    settle_second(second, Back(3.0))
    assert [(entry.id, verdict) for entry, verdict in consumer.settled[1:]] == [
        (b"5-1", Acknowledge()),
        (b"5-2", CallOver()),
        (b"5-2", Back(3.0)),
    ]


def test_what_came_into_the_hand_another_way_is_not_begun_once_more() -> None:
    """A process that stood still for longer than its lease: the relay published the row, and it was read here."""
    consumer, deliver = _Consumer(), _Deliver()
    consumer.in_hand.add(streams.Entry(b"4-1", 8, 1))
    batch = Batch({Channel.SMS: (consumer, deliver)}, {Channel.SMS: 2})  # type: ignore[dict-item]
    event = Routed(1, "e", "T", "u", (Channel.SMS,), 8, NOON, "{}", 0.0)
    batch.begin([Claimed(8, Channel.SMS, event), Claimed(9, Channel.SMS, event)], 0.0)
    batch.published([b"5-1", b"5-2"])
    ((entry, settle),) = deliver.begun
    settle(entry, Acknowledge())
    assert [(e.id, e.row_id) for e, _ in consumer.settled] == [(b"5-2", 9)]
    assert [*consumer.in_hand.entries] == [b"4-1", b"5-2"]


def test_what_may_not_be_published_is_left_as_it_is() -> None:
    consumer, deliver = _Consumer(), _Deliver()
    batch = Batch({Channel.SMS: (consumer, deliver)}, {Channel.SMS: 1})  # type: ignore[dict-item]
    batch.begin([Claimed(8, Channel.SMS, Routed(1, "e", "T", "u", (Channel.SMS,), 8, NOON, "{}", 0.0))], 0.0)
    (entry, settle), *_ = deliver.begun
    settle(entry, Acknowledge())
    batch.close()
    settle(entry, Back(3.0))
    assert [verdict for _, verdict in consumer.settled] == [Leave(), Leave()]


async def test_an_event_that_ended_in_silence_before_is_sent_over_the_stream(resources: Resources) -> None:
    """By it, others that are sent at once could be taken along."""
    consumer = _Consumer()
    route = Route(resources, Database(), AtOnce("me", {Channel.EMAIL: (consumer, object())}))  # type: ignore[dict-item]
    (event_pk,) = await add_events(resources, event(channels=(Channel.EMAIL,)))
    settled = list[object]()
    await route([streams.Entry(b"1-1", event_pk, 2)], lambda _entry, verdict: settled.append(verdict))
    assert [r["status"] for r in await all_notifications(resources)] == ["PENDING"]
    assert settled == [Acknowledge()]


def test_a_channel_gets_all_that_it_is_to_send_or_nothing() -> None:
    sms, push = _Consumer(room=1), _Consumer(room=2)
    wanted = {Channel.SMS: 2, Channel.PUSH: 2, Channel.EMAIL: 1}
    batch = Batch({Channel.SMS: (sms, object()), Channel.PUSH: (push, object())}, wanted)  # type: ignore[dict-item]
    assert batch.channels() == [Channel.PUSH]
    assert (sms.in_hand.reserved, push.in_hand.reserved) == (0, 2)
    batch.close()
    assert (sms.in_hand.reserved, push.in_hand.reserved) == (0, 0)


class _Deliver:
    def __init__(self) -> None:
        self.begun: list[tuple[streams.Entry, Settle]] = []

    def begin(self, entry: streams.Entry, claim: object, claimed_s: float, settle: Settle) -> None:
        self.begun.append((entry, settle))


class _Consumer:
    def __init__(self, room: int = 5) -> None:
        self.in_hand, self._room, self.settled = InHand(10), room, list[tuple[streams.Entry, object]]()

    def settle(self, entry: streams.Entry, verdict: object) -> None:
        self.settled.append((entry, verdict))

    def room_at_once(self) -> int:
        return self._room
