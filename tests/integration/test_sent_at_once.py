"""What is sent at once, from its claim to its end, by a whole process: when it is written, and where it goes another way."""

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from app import schema, streams
from app.accept import prepare
from app.domain import Channel, Event, Outgoing
from app.resources import Resources
from app.settings import Settings
from app.store import hot_route, hot_send
from app.store.events import insert_events
from app.store.hold import hold
from app.store.hot_send import write
from app.store.preferences import put_preference
from app.store.take_over import take_over
from app.streams import Entry
from consumers import route_plain, sending
from consumers.at_once import AtOnce
from consumers.database import Database
from consumers.in_hand import InHand
from consumers.providers import Message, Receipt, Rejected, Unavailable
from consumers.room import Room
from consumers.route import Route
from consumers.sending import Underway
from consumers.settle import Acknowledge
from tests.integration.consuming import consuming, entries_added, post, reading, settled
from tests.support import HANG, NOON, Scripted, add_events, attempts, change, claim_events, event, event_row, notifications_of

Wait = Callable[..., Awaitable[Any]]
Make = Callable[..., Settings]
EMAIL, SMS, PUSH = Channel
WITHOUT_CLAIMS = "drop column claimed_by, drop column claimed_at, drop column lease_until, drop column first_id"


class Gates:
    """A provider that answers for a channel once it is opened: all are, but `closed`."""

    name = "gates"

    def __init__(self, *closed: Channel) -> None:
        self.open, self.calls = {channel: asyncio.Event() for channel in Channel}, list[Message]()
        for channel in {*Channel} - {*closed}:
            self.open[channel].set()

    async def send(self, message: Message) -> Receipt:
        self.calls.append(message)
        await self.open[message.channel].wait()
        return Receipt(f"{message.channel}-receipt")


async def one_event(resources: Resources, **other: Any) -> int:
    """An event that is accepted and on its stream."""
    (event_pk,) = await add_events(resources, event(**other))
    await post(resources, event_pk)
    return event_pk


async def statuses(resources: Resources, event_pk: int) -> dict[str, str]:
    return {r["channel"]: r["status"] for r in await notifications_of(resources, event_pk)}


async def is_so(resources: Resources, event_pk: int, **expected: str) -> bool:
    return await statuses(resources, event_pk) == expected


async def nothing_is_carried(resources: Resources) -> bool:
    return not any([await resources.redis.xlen(stream) for stream in streams.WORK_STREAMS])


async def test_a_provider_that_hangs_holds_up_neither_the_others_of_its_event_nor_what_is_seen_of_it(
    resources: Resources, wait_until: Wait
) -> None:
    """A moment after the claim it is written, with what is over; and its entry is acknowledged."""
    provider = Gates(SMS)
    async with consuming(resources, provider):
        await wait_until(lambda: reading(resources))
        event_pk = await one_event(resources)
        await wait_until(lambda: is_so(resources, event_pk, EMAIL="SENT", SMS="PROCESSING", PUSH="SENT"))
        assert not provider.open[SMS].is_set(), "long before it answers"
        assert (await event_row(resources, event_pk))["status"] == "ROUTED"
        await wait_until(lambda: nothing_is_carried(resources))
        provider.open[SMS].set()
        await wait_until(lambda: settled(resources))
    assert await is_so(resources, event_pk, EMAIL="SENT", SMS="SENT", PUSH="SENT")
    for r in await notifications_of(resources, event_pk):
        assert [(a["number"], a["outcome"], a["receipt"]) for a in await attempts(resources, r["id"])] == [
            (1, "sent", f"{r['channel']}-receipt")
        ]
    assert len(provider.calls) == 3
    assert await entries_added(resources) == [1, 0, 0, 0]


async def test_a_process_that_is_stopped_in_mid_send_writes_and_records_all_before_it_ends(
    resources: Resources, wait_until: Wait
) -> None:
    provider, opening = Gates(*Channel), list[asyncio.Task[None]]()

    async def open_when_written(event_pk: int) -> None:
        await wait_until(lambda: is_so(resources, event_pk, **dict.fromkeys(Channel, "PROCESSING")))
        for gate in provider.open.values():
            gate.set()

    async with consuming(resources, provider):
        await wait_until(lambda: reading(resources))
        event_pk = await one_event(resources)
        await wait_until(lambda: len(provider.calls) == 3)
        opening.append(asyncio.create_task(open_when_written(event_pk)))
    await opening[0]
    assert await settled(resources)
    rows = await notifications_of(resources, event_pk)
    assert [(r["status"], r["attempt"], r["possible_duplicate"]) for r in rows] == [("SENT", 1, False)] * 3


@pytest.mark.parametrize("how", ["not committed", "answer lost"])
async def test_where_postgresql_s_answer_to_what_is_written_is_lost_each_is_sent_once_and_recorded(
    resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """And the entry of the event is acknowledged."""
    asked = list[set[int]]()

    async def losing(*given: Any) -> set[int]:
        if asked or how == "answer lost":
            asked.append(await write(*given))
        else:
            asked.append(set())
        if len(asked) == 1:
            raise ConnectionError
        return asked[-1]

    monkeypatch.setattr(sending, "write", losing)
    provider = Scripted()
    async with consuming(resources, provider):
        await wait_until(lambda: reading(resources))
        event_pk = await one_event(resources)
        await wait_until(lambda: settled(resources))
    assert asked == ([{event_pk}, set()] if how == "answer lost" else [set(), {event_pk}])
    rows = await notifications_of(resources, event_pk)
    assert [(r["status"], r["attempt"], r["tries"], r["possible_duplicate"]) for r in rows] == [("SENT", 1, 1, False)] * 3
    assert [len(await attempts(resources, r["id"])) for r in rows] == [1] * 3
    assert [len(calls) for calls in provider.calls.values()] == [1] * 3


async def test_what_another_took_over_in_mid_send_is_recorded_by_who_sent_it(
    resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its entry came to another while the lease was live: what ended is told, and nothing is sent twice."""
    monkeypatch.setattr(sending, "LINGER_S", 5.0)
    provider = Gates(*Channel)
    async with consuming(resources, provider):
        await wait_until(lambda: reading(resources))
        event_pk = await one_event(resources)
        await wait_until(lambda: len(provider.calls) == 3)
        await take_over(resources.pool, [event_pk])
        for gate in provider.open.values():
            gate.set()
        await wait_until(lambda: settled(resources))
    rows = await notifications_of(resources, event_pk)
    assert [(r["status"], r["attempt"], r["possible_duplicate"]) for r in rows] == [("SENT", 1, False)] * 3
    assert len(provider.calls) == 3


@pytest.mark.parametrize("answer", [Rejected("no"), Unavailable("busy"), HANG], ids=["rejected", "unavailable", "no answer"])
async def test_what_does_not_end_well_ends_as_it_does_over_the_stream(
    resources: Resources, make_settings: Make, wait_until: Wait, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    """The same rows, and the same attempts."""
    waits = {f"{channel.lower()}_waits_s": (0, 0.1) for channel in Channel}
    settings = make_settings(provider_timeout_s=0.1, breaker_after=0, **waits)
    found = []
    async with consuming(dataclasses.replace(resources, settings=settings), Scripted(answer)):
        await wait_until(lambda: reading(resources))
        for at_once in (True, False):
            if not at_once:
                monkeypatch.setattr(Room, "at_once", lambda room: 0)
            event_pk = await one_event(resources)
            await wait_until(lambda: settled(resources))
            assert ((await event_row(resources, event_pk))["claimed_by"] is not None) == at_once
            found.append([await history(resources, row) for row in await notifications_of(resources, event_pk)])
    assert found[0] == found[1]


async def history(resources: Resources, row: Any) -> list[Any]:
    """What is told of a notification, but for ids and times."""
    told = [row[of] for of in ("channel", "status", "reason", "error", "attempt", "tries", "replays", "possible_duplicate")]
    of_attempts = ("number", "outcome", "error", "receipt", "provider", "possible_duplicate")
    return told + [[a[of] for of in of_attempts if a["outcome"] != "sent"] for a in await attempts(resources, row["id"])]


# ---- another way


class Desk:
    """One channel that has room, and who writes what is sent on it: both keep what they are given."""

    me = "me"

    def __init__(self) -> None:
        self.in_hand, self.room = InHand(10), SimpleNamespace(at_once=lambda n: n <= 10)
        self.begun, self.followed, self.settled = list[int](), list[int](), dict[int, object]()

    def begin(self, entry: Entry, *_given: object) -> None:
        self.begun.append(entry.row_id or 0)

    def follow(self, events: Sequence[Underway]) -> None:
        self.followed += [underway.event.event_pk for underway in events]

    def ended(self, *_given: object) -> None:
        raise AssertionError("nothing ends here")

    def settle(self, entry: Entry, verdict: object) -> None:
        assert self.settled.setdefault(entry.row_id or 0, verdict) is verdict, "once"


async def test_each_event_of_a_batch_goes_its_own_way(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once; over the streams; and the long way, where it is not what it was when it was looked at. All are settled, but for
    those that are sent at once: they are not written yet.
    """
    desk, real = cast("Any", Desk()), hot_send.claim_events
    asked = [(SMS,), (), (EMAIL,), (EMAIL, SMS), (SMS,), (SMS,)]
    mine, nothing, mail, both, stolen, late = ids = await add_events(resources, *(event(channels=of) for of in asked))

    async def claim_late(*given: Any, **named: Any) -> Any:
        await real(resources, await hot_route.peek(resources.hot, [stolen]), "another", again=False)
        await change(resources, "event", late, "expires_at = now()")
        return await real(*given, **named)

    monkeypatch.setattr(hot_send, "claim_events", claim_late)
    route = Route(resources, Database(), AtOnce(desk, {SMS: (desk, desk)}))
    await route([Entry(b"%d-1" % pk, pk, 1) for pk in ids], desk.settle)
    rows = {pk: await event_row(resources, pk) for pk in ids}
    assert (desk.begun, desk.followed, desk.in_hand.reserved) == ([rows[mine]["first_id"]], [mine], 0)
    assert desk.settled == dict.fromkeys((nothing, mail, both, stolen, late), Acknowledge())
    assert {pk: (r["status"], r["claimed_by"]) for pk, r in rows.items()} == {
        mine: ("NEW", "me"), nothing: ("ROUTED", None), mail: ("ROUTED", None), both: ("ROUTED", None),
        stolen: ("ROUTED", "another"), late: ("FAILED", None),
    }  # fmt: skip
    assert [await statuses(resources, pk) for pk in ids] == [
        {}, {}, {"EMAIL": "PENDING"}, {"EMAIL": "PENDING", "SMS": "PENDING"}, {"SMS": "PROCESSING"}, {}
    ]  # fmt: skip
    assert [await resources.redis.xlen(streams.channel_stream(channel)) for channel in Channel] == [2, 1, 0]


async def test_an_event_that_takes_no_channel_is_routed_and_not_claimed(resources: Resources, wait_until: Wait) -> None:
    await put_preference(resources.pool, "ann", email_opt_in=False, sms_opt_in=False, push_opt_in=False)
    async with consuming(resources, provider := Scripted()):
        await wait_until(lambda: reading(resources))
        nothing, something = await add_events(resources, event(user_id="ann"), event(user_id="bob"))
        await post(resources, nothing, something)
        await wait_until(lambda: settled(resources))
    rows = [await event_row(resources, pk) for pk in (nothing, something)]
    assert [(r["status"], r["claimed_by"] is None) for r in rows] == [("ROUTED", True), ("ROUTED", False)]
    assert (await notifications_of(resources, nothing), len(provider.calls)) == ([], 3)


async def accepted(resources: Resources, *events: Event) -> list[Outgoing]:
    """Events as accept stores them, and their entries, which say what case each is."""
    stored = await insert_events(resources.hot, [*map(prepare, events)])
    return [
        Outgoing(its.row_id or 0, e.event_id, e.user_id, e.type, its.published_at or NOON, its.case)
        for e, its in zip(events, stored, strict=True)
    ]


def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The events that routing looks at. What accept saw counts for a minute, however slow this machine is."""
    looks, peek = list[int](), hot_route.peek

    async def looking(hot: Any, event_pks: Sequence[int]) -> Any:
        looks.extend(event_pks)
        return await peek(hot, event_pks)

    monkeypatch.setattr(hot_route, "peek", looking)
    monkeypatch.setattr(route_plain, "FRESH_S", 60.0)
    return looks


async def add_late(resources: Resources, row: Outgoing, by_s: float) -> None:
    """Its entry, as if it waited for so long."""
    entry_id, fields = f"{round(1000 * (time.time() - by_s))}-0", streams._fields("event", row)
    await resources.redis.xadd(streams.EVENTS, dict(zip(fields[::2], fields[1::2], strict=True)), id=entry_id)


async def test_what_accept_looked_at_a_moment_ago_is_not_looked_at_again(
    resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = looked_at(monkeypatch)
    await put_preference(resources.pool, "ann", email_opt_in=False, sms_opt_in=False, push_opt_in=False)
    rows = await accepted(resources, event(user_id="ann"), event(user_id="bob"), event(user_id="cid"))
    anns, bobs, late = rows
    await add_late(resources, late, by_s=61)
    async with consuming(resources, provider := Scripted()):
        await streams.publish(resources.redis, streams.EVENTS, [anns, bobs])
        await wait_until(lambda: settled(resources))
    assert (looks, len(provider.calls)) == ([late.row_id], 6)
    sent = [(await event_row(resources, row.row_id))["status"] == "ROUTED" for row in rows]
    assert (sent, await statuses(resources, anns.row_id)) == ([True] * 3, {})


@pytest.mark.parametrize("by_s", [2, -3600], ids=["late", "of a clock that is ahead"])
@pytest.mark.parametrize("how", ["expires_at = now()", "status = 'CANCELLED', reason = 'cancelled'"])
async def test_what_is_over_when_its_turn_comes_cost_its_user_no_token(
    resources: Resources, wait_until: Wait, how: str, by_s: float
) -> None:
    (row,) = await accepted(resources, event(user_id="ann"))
    await add_late(resources, row, by_s)
    await change(resources, "event", row.row_id, how)
    async with consuming(resources, provider := Scripted()):
        await wait_until(lambda: settled(resources))
    assert (await resources.redis.exists(streams.bucket_key("ann")), len(provider.calls)) == (0, 0)


@pytest.mark.parametrize("case", [len(hot_route.CASES), 999_999])
async def test_a_case_of_another_version_is_looked_at(
    resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch, case: int
) -> None:
    looks = looked_at(monkeypatch)
    rows = await accepted(resources, event(), event())
    await streams.publish(resources.redis, streams.EVENTS, [rows[0]._replace(case=case), rows[1]])
    async with consuming(resources, provider := Scripted()):
        await wait_until(lambda: settled(resources))
    assert (looks, len(provider.calls)) == ([rows[0].row_id], 6)


async def test_who_changes_their_mind_while_an_event_waits_gets_what_they_want_now_and_is_charged_once(
    resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route_plain, "FRESH_S", 60.0)
    anns, bobs = rows = await accepted(resources, event(user_id="ann"), event(user_id="bob"))
    await put_preference(resources.pool, "ann", email_opt_in=True, sms_opt_in=False, push_opt_in=True)
    await put_preference(resources.pool, "bob", email_opt_in=False, sms_opt_in=False, push_opt_in=False)
    async with consuming(resources, Scripted()):
        await wait_until(lambda: reading(resources))
        await streams.publish(resources.redis, streams.EVENTS, rows)
        await wait_until(lambda: settled(resources))
    assert await statuses(resources, anns.row_id) == {"EMAIL": "SENT", "PUSH": "SENT"}
    assert (await statuses(resources, bobs.row_id), (await event_row(resources, bobs.row_id))["status"]) == ({}, "ROUTED")
    full_at, charged_at = [await resources.redis.zscore(streams.bucket_key("ann"), k) or 0 for k in ("full_at", str(anns.row_id))]
    assert full_at - charged_at == resources.settings.rate_limit_every_us, "one token"


async def test_an_event_with_a_channel_of_another_process_goes_over_the_streams_as_a_whole(
    resources: Resources, wait_until: Wait
) -> None:
    async with consuming(resources, Scripted(), [EMAIL, SMS]):
        await wait_until(lambda: reading(resources, 3))
        all_three, own = await add_events(resources, event(), event(channels=(EMAIL, SMS)))
        await post(resources, all_three, own)
        await wait_until(lambda: is_so(resources, all_three, EMAIL="SENT", SMS="SENT", PUSH="PENDING"))
        await wait_until(lambda: is_so(resources, own, EMAIL="SENT", SMS="SENT"))
    assert [(await event_row(resources, pk))["claimed_by"] is None for pk in (all_three, own)] == [True, False]
    assert await resources.redis.xlen(streams.channel_stream(PUSH)) == 1
    async with consuming(resources, Scripted(), [PUSH]):
        await wait_until(lambda: settled(resources))
    assert await entries_added(resources) == [2, 1, 1, 1]


async def test_an_event_with_a_channel_that_is_paused_goes_over_the_streams_as_a_whole(
    resources: Resources, wait_until: Wait
) -> None:
    assert await hold(resources.pool, EMAIL, "ann", "maintenance")
    async with consuming(resources, Scripted()):
        await wait_until(lambda: reading(resources, 3))
        paused, other = await add_events(resources, event(), event(channels=(SMS, PUSH)))
        await post(resources, paused, other)
        await wait_until(lambda: is_so(resources, paused, EMAIL="PENDING", SMS="SENT", PUSH="SENT"))
        await wait_until(lambda: is_so(resources, other, SMS="SENT", PUSH="SENT"))
    assert [(await event_row(resources, pk))["claimed_by"] is None for pk in (paused, other)] == [True, False]
    assert await entries_added(resources) == [2, 1, 1, 1]


async def test_tables_from_before_are_waited_for(resources: Resources, wait_until: Wait) -> None:
    """A process that is newer than the schema holds what it has until the schema is applied."""
    await resources.pool.execute(f"alter table event {WITHOUT_CLAIMS}")
    with capture_logs() as logs:
        async with consuming(resources, provider := Scripted()):
            event_pk = await one_event(resources)
            await wait_until(lambda: any("holding" in line["event"] for line in logs))
            await schema.apply(resources.settings.database_url)
            await wait_until(lambda: settled(resources))
    assert await is_so(resources, event_pk, **dict.fromkeys(Channel, "SENT"))
    assert [len(calls) for calls in provider.calls.values()] == [1] * 3


# ---- whoever claimed it is gone


@pytest.mark.parametrize("lease", ["over", "live"])
async def test_what_was_claimed_by_who_is_gone_ends_by_the_crash_rule_of_its_channel(
    resources: Resources, wait_until: Wait, lease: str
) -> None:
    """At least once: sent again, and marked, under the key that the provider knows. At most once: nobody knows."""
    (one,) = await claim_events(resources, await add_events(resources, event(channels=(EMAIL, PUSH))), "gone")
    if lease == "over":
        await change(resources, "event", one.event_pk, "lease_until = now()")
    await post(resources, one.event_pk)
    provider = Scripted()
    async with consuming(resources, provider):
        await wait_until(lambda: settled(resources))
    mail, push = await notifications_of(resources, one.event_pk)
    assert (mail["status"], mail["attempt"], mail["possible_duplicate"]) == ("SENT", 2, True)
    assert (push["status"], push["attempt"], push["reason"]) == ("UNKNOWN", 1, "crashed")
    assert [[a["outcome"] for a in await attempts(resources, r["id"])] for r in (mail, push)] == [
        ["unknown", "sent"],
        ["unknown"],
    ]
    assert {key: len(calls) for key, calls in provider.calls.items()} == {f"{one.first_id}-0": 1}
