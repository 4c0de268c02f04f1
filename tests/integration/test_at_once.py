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
from app.resources import Resources, open_resources
from app.settings import Settings
from app.store import hot
from app.store.owed import clock
from app.store.routing import Added, read_events
from app.streams import EVENTS, GROUP, channel_stream
from consumers import work
from consumers.at_once import Batch, claim_of
from consumers.channel_limit import ChannelLimit
from consumers.circuit import Circuit
from consumers.consumer import Consumer
from consumers.database import Database
from consumers.in_hand import InHand
from consumers.settle import Acknowledge, Settle
from tests.integration.consuming import consuming
from tests.support import (
    Scripted,
    add_events,
    add_notifications,
    change,
    claim,
    event,
    notification,
    notifications_of,
    route,
    routings,
)

Wait = Callable[..., Awaitable[Any]]
RULES: dict[str, Any] = {"lease_s": 30, "at_most_once": False, "max_tries": 3, "calm_s": 0}


async def route_at_once(resources: Resources, event_pks: list[int]) -> list[Added]:
    return await hot.route(resources, [r._replace(at_once=r.channels) for r in await routings(resources, event_pks)], "me")


# ---- the statement


async def test_a_row_claimed_as_it_is_routed_is_like_one_that_was_claimed(resources: Resources) -> None:
    at_once, before = await add_events(resources, event(user_id="ann"), event(user_id="ann"))
    rows = {a.channel: a for a in await route_at_once(resources, [at_once])}
    others = {a.channel: a for a in await route(resources, [before])}
    await claim(resources, [a.id for a in others.values()], "me", **RULES)
    assert all(a.claimed for a in rows.values())
    assert not any(a.claimed for a in others.values())
    for channel in Channel:
        one, other = await notification(resources, rows[channel].id), await notification(resources, others[channel].id)
        own = {"id", "event_pk", "due_in_s"}
        times = {"claimed_at", "lease_until", "due_at", "published_at", "created_at", "updated_at"}
        assert {k: v for k, v in one.items() if k not in own | times} == {k: v for k, v in other.items() if k not in own | times}
        lease_s = [(r["lease_until"] - r["claimed_at"]).total_seconds() for r in (one, other)]
        assert lease_s == [resources.settings.lease_s, 30]


async def test_the_claim_says_what_the_statement_would_have_said(resources: Resources) -> None:
    at_once, before = await add_events(resources, event("e-1", user_id="ann"), event("e-2", user_id="ann"))
    (read,) = await read_events(resources.hot, [at_once], payloads=True)
    one = claim_of((await route_at_once(resources, [at_once]))[0], read)
    (other, *_) = await claim(resources, [(await route(resources, [before]))[0].id], "me", **RULES)
    assert one._replace(id=0, event_id="", age_s=0) == other._replace(id=0, event_id="", age_s=0)
    assert one.event_id == "e-1"
    assert 0 <= one.age_s < 60


async def test_what_expires_before_it_is_routed_is_not_claimed(resources: Resources) -> None:
    (event_pk,) = await add_events(resources, event())
    decided = await routings(resources, [event_pk])
    await change(resources, "event", event_pk, "expires_at = now()")
    added = await hot.route(resources, [decided[0]._replace(at_once=decided[0].channels)], "me")
    assert [(a.claimed, (await notification(resources, a.id))["status"]) for a in added] == [(False, "PENDING")] * 3


async def test_what_was_claimed_where_the_answer_was_lost_is_found_again(resources: Resources) -> None:
    """And nothing that was claimed by another, or later, or is over."""
    mine, theirs, later, over = await add_events(resources, *(event() for _ in range(4)))
    added = await route_at_once(resources, [mine, over])
    await hot.route(resources, [r._replace(at_once=r.channels) for r in await routings(resources, [theirs])], "another")
    await claim(resources, [a.id for a in await route(resources, [later])], "me", **RULES)
    await change(resources, "notification", [a.id for a in added if a.event_pk == over], "lease_until = now() - interval '1 s'")
    found = await hot.claimed_as_routed(resources.hot, [mine, theirs, later, over], "me")
    assert sorted(found) == sorted(a for a in added if a.event_pk == mine)


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
        await wait_until(lambda: provider.calls)
        (row,), redis = await all_notifications(resources), cast("Any", resources.redis)
        (entry,) = await redis.xpending_range(channel_stream(Channel.EMAIL), GROUP, "-", "+", 10)
        assert (row["status"], entry["consumer"].decode(), entry["times_delivered"]) == ("PROCESSING", row["claimed_by"], 1)


@pytest.mark.parametrize("how", ["before", "after"], ids=["not added", "answer lost"])
async def test_where_it_is_not_known_what_was_published_the_claims_are_given_back(
    make_settings: Callable[..., Settings], wait_until: Wait, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """And published once more: the entries that were added are with this process, and would come back after the window."""
    provider, real, fails = Scripted(), streams.publish_all, [True]

    async def failing(redis: Any, rows: Any, claimed: Any = streams.NONE, consumer: str = "") -> list[bytes]:
        if how == "after" or not (claimed and fails):
            entry_ids = await real(redis, rows, claimed, consumer)
        if claimed and fails:
            fails.clear()
            raise TimeoutError
        return entry_ids

    monkeypatch.setattr(streams, "publish_all", failing)
    async with open_resources(make_settings(reclaim_after_s=60), "test") as resources:
        async with consuming(resources, provider):
            await wait_until(lambda: reading(resources))
            await post(resources, *await add_events(resources, event()))
            await wait_until(lambda: all_done(resources))
        rows = await all_notifications(resources)
    assert not fails
    assert [(r["status"], r["attempt"], r["tries"], r["possible_duplicate"]) for r in rows] == [("SENT", 2, 1, False)] * 3
    assert [len(calls) for calls in provider.calls.values()] == [1] * 3


async def test_where_postgresql_s_answer_is_lost_what_was_claimed_is_sent(
    resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, real, lost = Scripted(), hot.route, list[int]()

    async def losing(*args: Any) -> list[Added]:
        added = await real(*args)
        if not lost:
            lost.append(len(added))
            raise ConnectionError
        return added

    monkeypatch.setattr(hot, "route", losing)
    async with consuming(resources, provider):
        await wait_until(lambda: reading(resources))
        await post(resources, *await add_events(resources, event()))
        await wait_until(lambda: settled(resources))
    assert lost == [3]
    rows = await all_notifications(resources)  # given back unsent where the lease was no longer fresh
    assert [(r["status"], r["tries"], r["possible_duplicate"]) for r in rows] == [("SENT", 1, False)] * 3
    assert all(r["claimed_at"] == r["created_at"] for r in rows if r["attempt"] == 1)
    assert [len(calls) for calls in provider.calls.values()] == [1] * 3


async def test_what_this_process_reads_of_what_it_has_in_hand_is_sent_once(
    resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that was not delivered as it was added, since older ones were unread, is read before its call has begun."""
    provider, real, stream = Scripted(), streams.publish_all, channel_stream(Channel.EMAIL)

    async def publish(redis: Any, rows: Any, claimed: Any = streams.NONE, consumer: str = "") -> list[bytes]:
        if not claimed:
            return await real(redis, rows, claimed, consumer)
        await real(redis, rows)
        await wait_until(lambda: delivered(resources, stream))
        return [entry_id for entry_id, _ in await redis.xrange(stream)]

    monkeypatch.setattr(streams, "publish_all", publish)
    async with consuming(resources, provider):
        await wait_until(lambda: reading(resources))
        await post(resources, *await add_events(resources, event(channels=(Channel.EMAIL,))))
        await wait_until(lambda: settled(resources))
    assert [(r["status"], r["attempt"]) for r in await all_notifications(resources)] == [("SENT", 1)]
    assert [len(calls) for calls in provider.calls.values()] == [1]


async def delivered(resources: Resources, stream: str) -> bool:
    return bool((await resources.redis.xpending(stream, GROUP))["pending"])


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
    hand, begun, read = InHand(3), streams.Entry(b"1-1", 7, 1), streams.Entry(b"1-1", 7, 1, (b"notification", b"7"))
    hand.rows.add(7)
    assert not hand.add(read), "it is expected"
    hand.rows.discard(7)
    assert hand.add(begun)
    hand.drop(read)
    assert hand.entries == {b"1-1": begun}
    assert not hand.add(read)


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


async def test_an_event_that_ended_in_silence_before_is_sent_over_the_stream(resources: Resources) -> None:
    consumer, deliver = _Consumer(), object()
    batch = Batch({Channel.EMAIL: (consumer, deliver)})  # type: ignore[dict-item]
    first, again = await routings(resources, await add_events(resources, event(), event()))
    one, other = batch.reserve([first, again], {first.event.id})
    assert (one.at_once, other.at_once) == ((Channel.EMAIL,), ())
    batch.close()
    assert consumer.in_hand.reserved == 0


async def test_a_channel_gets_all_that_it_is_to_send_or_nothing(resources: Resources) -> None:
    sms, push = _Consumer(room=1), _Consumer(room=2)
    batch = Batch({Channel.SMS: (sms, object()), Channel.PUSH: (push, object())})  # type: ignore[dict-item]
    decided = await routings(resources, await add_events(resources, event(), event()))
    reserved = batch.reserve(decided, {r.event.id for r in decided})
    assert [r.at_once for r in reserved] == [(Channel.PUSH,)] * 2
    assert (sms.in_hand.reserved, push.in_hand.reserved) == (0, 2)


class _Consumer:
    def __init__(self, room: int = 5) -> None:
        self.in_hand, self._room = InHand(10), room

    def room_at_once(self) -> int:
        return self._room
