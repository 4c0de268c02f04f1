"""What is sent at once, by a whole process: on no stream, and nothing lost or doubled where something fails."""

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import pytest

from app import streams
from app.domain import Channel, Outgoing
from app.resources import Resources
from app.store import hot_send
from app.store.hot_send import Claimed
from app.store.owed import clock
from app.streams import GROUP, channel_stream
from consumers import work
from consumers.at_once import AtOnce, Batch
from consumers.circuit import Circuit
from consumers.clock import clock_s
from consumers.database import Database
from consumers.in_hand import InHand
from consumers.providers import Unavailable
from consumers.publish import Publisher
from consumers.route import Route
from consumers.sending import Underway
from consumers.settle import Acknowledge, Publish, settle_on_stream
from tests.integration.consuming import consuming, entries_added, post, reading, settled
from tests.support import (
    NOON,
    RULES,
    Scripted,
    add_events,
    add_notifications,
    claim,
    event,
    notification,
    notifications_of,
)

Wait = Callable[..., Awaitable[Any]]


async def rows_on(resources: Resources, stream: str) -> list[int]:
    redis = cast("Any", resources.redis)
    return [int(fields[b"notification"]) for _, fields in await redis.xrange(stream)]


async def all_notifications(resources: Resources) -> list[asyncpg.Record]:
    return await resources.pool.fetch("select * from notification order by id")


async def test_a_process_at_rest_sends_at_once_and_no_channel_s_stream_hears_of_it(
    resources: Resources, wait_until: Wait
) -> None:
    provider = Scripted()
    async with consuming(resources, provider):
        await wait_until(lambda: reading(resources))
        (event_pk,) = await add_events(resources, event())
        await post(resources, event_pk)
        await wait_until(lambda: settled(resources))
        pending = [(await resources.redis.xpending(stream, GROUP))["pending"] for stream in streams.WORK_STREAMS]
        added = await entries_added(resources)
    rows = await notifications_of(resources, event_pk)
    assert [(r["status"], r["attempt"], r["claimed_at"] == r["created_at"]) for r in rows] == [("SENT", 1, True)] * 3
    assert [len(calls) for calls in provider.calls.values()] == [1] * 3
    assert (pending, added) == ([0] * 4, [1, 0, 0, 0])


@pytest.mark.parametrize("how", ["added", "not added", "answer lost"])
async def test_what_is_to_be_tried_again_goes_on_its_stream(
    resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What was not added is the relay's, and what was added twice is sent once."""
    provider, real, asked = Scripted(Unavailable("busy")), streams.publish, list[str]()

    async def publish(redis: Any, stream: str, rows: Any) -> None:
        asked.append(stream)
        if how != "not added" or asked.count(stream) > 1:
            await real(redis, stream, rows)
        if how != "added" and asked.count(stream) == 1:
            raise TimeoutError

    async with consuming(resources, provider):
        await wait_until(lambda: reading(resources))
        await post(resources, *await add_events(resources, event()))
        monkeypatch.setattr(streams, "publish", publish)
        await wait_until(lambda: settled(resources))
    assert {*asked} == {channel_stream(channel) for channel in Channel}
    rows = await all_notifications(resources)
    assert [(r["status"], r["attempt"], r["possible_duplicate"]) for r in rows] == [("SENT", 2, False)] * 3
    assert [len(calls) for calls in provider.calls.values()] == [2] * 3


async def test_a_short_wait_is_short_in_a_long_window(make_settings: Any, resources: Resources, wait_until: Wait) -> None:
    """Its entry is read as soon as it is added: its row may no longer be in the hand."""
    settings = make_settings(reclaim_after_s=60, sms_waits_s=(0, 0.2, 60), breaker_after=0)
    provider = Scripted(Unavailable("busy"))
    async with consuming(dataclasses.replace(resources, settings=settings), provider):
        await wait_until(lambda: reading(resources))
        for event_pk in await add_events(resources, *(event(channels=(Channel.SMS,), user_id=f"u{n}") for n in range(10))):
            await post(resources, event_pk)
        await wait_until(lambda: settled(resources))
    assert [len(calls) for calls in provider.calls.values()] == [2] * 10


async def test_a_full_stream_goes_past_the_channels_streams_where_calls_are_quick(
    make_settings: Any, resources: Resources, wait_until: Wait
) -> None:
    provider, event_pks = Scripted(), await add_events(resources, *(event(user_id=f"u{n}") for n in range(3000)))
    await post(resources, *event_pks)
    async with consuming(dataclasses.replace(resources, settings=make_settings(reclaim_after_s=60)), provider):
        await wait_until(lambda: settled(resources), within_s=60)
    at_once = await resources.pool.fetchval("select avg((claimed_at = created_at)::int) from notification where attempt = 1")
    assert len(provider.calls) == 9000
    assert at_once > 0.3, "where routing does not wait for room: a seventh"


async def test_what_waits_for_its_call_is_given_back_where_its_channel_is_paused(
    resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And sent when it is resumed, over its stream, without a try less."""
    provider, real = Scripted(), hot_send.claim_events

    async def claim_events(*args: Any, **named: Any) -> list[Claimed]:
        claimed = await real(*args, **named)
        monkeypatch.setattr(Circuit, "closed", lambda circuit: False)
        return claimed

    async with consuming(resources, provider):
        await wait_until(lambda: reading(resources))
        monkeypatch.setattr(hot_send, "claim_events", claim_events)
        await post(resources, *await add_events(resources, event()))
        await wait_until(lambda: settled(resources))
    rows = await all_notifications(resources)
    assert [(r["status"], r["attempt"], r["tries"], r["possible_duplicate"]) for r in rows] == [("SENT", 2, 1, False)] * 3
    assert [len(calls) for calls in provider.calls.values()] == [1] * 3


async def test_what_would_come_late_on_its_stream_is_left_to_the_relay(resources: Resources) -> None:
    stream, at_s, within_s = channel_stream(Channel.SMS), clock_s(), resources.settings.publish_within_s
    late, in_time = (Publish(Outgoing(n, "e", "u", "T", NOON), at_s - n * within_s) for n in (2, 0))
    batch = [(streams.Entry(b"row 1", 1, 1), late), (streams.Entry(b"row 2", 2, 1), in_time)]
    assert await settle_on_stream(resources.redis, stream, "me", 60, [*batch], within_s) is None
    assert await rows_on(resources, stream) == [0]


@pytest.mark.parametrize("how", ["not committed", "answer lost"])
async def test_where_postgresql_s_answer_is_lost_what_was_claimed_is_sent(
    resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The lease counts from the second time: it was renewed."""
    provider, real, real_begin, asked_s, began_s = Scripted(), hot_send.claim_events, Batch.begin, list[float](), list[float]()

    async def losing(*args: Any, **named: Any) -> list[Claimed]:
        asked_s.append(clock_s())
        if how == "answer lost" or len(asked_s) > 1:
            claimed = await real(*args, **named)
        if len(asked_s) == 1:
            raise ConnectionError
        return claimed

    def begin(batch: Batch, events: Sequence[Underway], claimed_s: float) -> None:
        began_s.append(claimed_s)
        real_begin(batch, events, claimed_s)

    monkeypatch.setattr(hot_send, "claim_events", losing)
    monkeypatch.setattr(Batch, "begin", begin)
    async with consuming(resources, provider):
        await wait_until(lambda: reading(resources))
        (event_pk,) = await add_events(resources, event())
        await post(resources, event_pk)
        await wait_until(lambda: settled(resources))
    assert (len(asked_s), len(began_s)) == (2, 1)
    assert asked_s[0] < began_s[0] <= asked_s[1]
    rows = await notifications_of(resources, event_pk)
    assert [(r["status"], r["attempt"], r["tries"], r["possible_duplicate"]) for r in rows] == [("SENT", 1, 1, False)] * 3
    assert sorted(provider.calls) == sorted(f"{r['id']}-0" for r in rows)
    assert [len(calls) for calls in provider.calls.values()] == [1] * 3


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
    hand.drop(read)
    assert hand.entries == {b"row 7": begun}
    assert not hand.add(read)
    hand.drop(begun)
    assert hand.add(read)


async def test_what_is_published_late_is_left_to_the_relay(resources: Resources) -> None:
    publish, stream, rows = Publisher(resources), channel_stream(Channel.SMS), [Outgoing(7, "e", "u", "T", NOON)]
    await publish(clock_s() - resources.settings.publish_within_s - 1, {stream: rows})
    assert await resources.redis.xlen(stream) == 0
    await publish(clock_s(), {stream: rows})
    assert await resources.redis.xlen(stream) == 1


async def test_an_event_that_ended_in_silence_before_is_sent_over_the_stream(resources: Resources) -> None:
    """By it, others that are sent at once could be taken along."""
    has_room = cast("Any", SimpleNamespace(in_hand=InHand(10), room=SimpleNamespace(at_once=lambda n: n <= 10)))
    at_once = AtOnce(cast("Any", SimpleNamespace(me="me")), {Channel.EMAIL: (has_room, has_room)})
    assert at_once._outlets[Channel.EMAIL].has_room(1)
    (event_pk,) = await add_events(resources, event(channels=(Channel.EMAIL,)))
    settled = list[object]()
    await Route(resources, Database(), at_once)(
        [streams.Entry(b"1-1", event_pk, 2)], lambda _entry, verdict: settled.append(verdict)
    )
    assert [r["status"] for r in await all_notifications(resources)] == ["PENDING"]
    assert settled == [Acknowledge()]
