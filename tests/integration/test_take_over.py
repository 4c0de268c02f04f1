"""An event that was claimed: others leave it alone, and whoever gets its entry routes it as its claim said."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from itertools import combinations
from typing import Any

import pytest

from app.domain import Channel, Status
from app.resources import Resources
from app.store import hot, hot_send
from app.store.notifications import ClaimVerdict
from app.store.operate import replay_events
from app.store.owed import DeadVerdict, clock, end_dead_events, take_owed_events
from app.store.routing import Added, EventVerdict, defer_events, read_events, route_events
from app.store.take_over import take_over
from app.streams import Entry, channel_stream
from consumers import route as routing
from consumers.database import Database
from consumers.relay import Relay
from consumers.route import Route
from consumers.settle import Acknowledge, CallOver, Verdict
from tests.integration.claimed import OVER, claimed, sent, write_of
from tests.support import (
    RULES,
    add_events,
    attempts,
    change,
    claim,
    claim_events,
    event,
    event_row,
    locked_before,
    notification,
    notifications_of,
    race,
    routings,
)

OVER_OR_NOT = pytest.mark.parametrize("over", [False, True], ids=["live", "over"])
SUBSETS = [subset for n in (1, 2, 3) for subset in combinations(Channel, n)]
left = partial(claimed, me="gone", over=True)


async def unchanged(resources: Resources, event_pk: int, act: Callable[[], Awaitable[Any]]) -> Any:
    """The answer of `act`, which leaves the event as it is."""
    before = await event_row(resources, event_pk)
    answer = await act()
    after = await event_row(resources, event_pk)
    assert {k: v for k, v in after.items() if k != "due_in_s"} == {k: v for k, v in before.items() if k != "due_in_s"}
    assert await notifications_of(resources, event_pk) == []
    return answer


# ---- others leave it alone


@OVER_OR_NOT
async def test_who_reads_a_claimed_event_sees_that_it_is(resources: Resources, over: bool) -> None:
    """Whatever else it is by now: the claim was first."""
    changes = ["updated_at = now()", "expires_at = now()", "published_at = null", "due_at = now() + interval '1 h'"]
    ids = [(await left(resources, over=over)).event_pk for _ in changes]
    for event_pk, how in zip(ids, changes, strict=True):
        await change(resources, "event", event_pk, how)
    assert [row.verdict for row in await read_events(resources.pool, ids)] == [EventVerdict.CLAIMED] * 4
    await change(resources, "event", ids, "status = 'ROUTED'")
    assert {row.verdict for row in await read_events(resources.pool, ids)} == {EventVerdict.FINAL}


@OVER_OR_NOT
async def test_routing_putting_off_and_giving_up_leave_a_claimed_event_alone(resources: Resources, over: bool) -> None:
    """Also where it was read before it was claimed, and another in the same batch is not."""
    mine, other = await add_events(resources, event(), event())
    decided = await routings(resources, [mine, other])
    await claim_events(resources, [mine])
    if over:
        await change(resources, "event", mine, OVER)
    added = await unchanged(resources, mine, lambda: route_events(resources.pool, decided))
    assert [a.event_pk for a in added] == [other] * 3
    await unchanged(resources, mine, lambda: defer_events(resources.pool, [(mine, 12.0)]))
    verdicts = await unchanged(resources, mine, lambda: end_dead_events(resources.pool, [mine, other], "poison"))
    assert verdicts == {mine: DeadVerdict.BUSY, other: DeadVerdict.FINAL}


async def test_the_relay_takes_a_claimed_event_once_its_lease_is_over(resources: Resources) -> None:
    """Its entry was lost, or is with a process that is gone."""
    live, over, free = [(await left(resources, over=False)).event_pk, (await left(resources)).event_pk,
        *await add_events(resources, event())]  # fmt: skip
    await change(resources, "event", [live, over, free], "published_at = now() - interval '1 h'")
    taken = await take_owed_events(resources.pool, await clock(resources.pool), 30, 10)
    assert sorted(row.row_id for row in taken) == [over, free]
    assert (await event_row(resources, over))["claimed_by"] == "gone", "it is still to be routed as its claim said"


async def test_a_replay_forgets_who_had_claimed_the_event(resources: Resources) -> None:
    one = await left(resources)
    await change(resources, "event", one.event_pk, "status = 'FAILED', reason = 'dead_letter'")
    assert [o.moved for o in await replay_events(resources.pool, [one.event_pk])] == [True]
    row = await event_row(resources, one.event_pk)
    assert [row[of] for of in ("status", "claimed_by", "claimed_at", "lease_until", "first_id")] == ["NEW", *[None] * 4]
    assert row["decisions"] is None
    await change(resources, "event", one.event_pk, "published_at = now()")
    (again,) = await claim_events(resources, [one.event_pk])
    assert again.first_id >= one.first_id + len(Channel), "ids of its own"


# ---- routed as its claim said


@OVER_OR_NOT
@pytest.mark.parametrize("channels", SUBSETS, ids=lambda subset: "-".join(subset).lower())
async def test_a_claimed_event_gets_the_notifications_that_its_provider_may_know(
    resources: Resources, channels: tuple[Channel, ...], over: bool
) -> None:
    """Under the ids of its claim, in the order of its channels, in the hand of who claimed it: parked while its lease is live."""
    one = await left(resources, over=over, channels=channels[::-1], user_id="ann")
    before = await event_row(resources, one.event_pk)
    added = await take_over(resources.pool, [one.event_pk])
    row = await event_row(resources, one.event_pk)
    assert (row["status"], row["decisions"]) == ("ROUTED", before["decisions"])
    rows = sorted(await notifications_of(resources, one.event_pk), key=lambda r: int(r["id"]))
    assert [(r["id"], r["channel"], r["leads"]) for r in rows] == [
        (one.first_id + place, channel, place == 0) for place, channel in enumerate(one.channels)
    ]
    assert one.channels == channels, "as the calls were told"
    for r in rows:
        assert (r["status"], r["attempt"], r["tries"], r["possible_duplicate"]) == ("PROCESSING", 1, 1, False)
        copied = ["claimed_by", "claimed_at", "lease_until", "user_id", "expires_at"]
        assert [r[of] for of in copied] == [before[of] for of in copied]
        now, lease_until = row["updated_at"], before["lease_until"]
        assert (r["published_at"], r["due_at"]) == ((now, now) if over else (None, lease_until))
    published = [(r["id"], one.event_pk, r["channel"], r["published_at"]) for r in rows]
    assert sorted((a.id, a.event_pk, a.channel, a.published_at) for a in added) == (published if over else [])


@pytest.mark.parametrize("by", ["who took it over", "who claimed it"])
async def test_what_is_parked_for_a_live_lease_is_the_relay_s_when_it_is_over(resources: Resources, by: str) -> None:
    one = await left(resources, over=False, channels=(Channel.SMS,))
    if by == "who claimed it":
        assert await hot_send.write(resources, "gone", [write_of(one)]) == {one.event_pk}
    await take_over(resources.pool, [one.event_pk])
    relay, stream = Relay(resources, Database()), channel_stream(Channel.SMS)
    assert await relay.sweep(stream) == 0
    await change(resources, "notification", one.first_id, "lease_until = now() - interval '1 s', due_at = now()")
    assert await relay.sweep(stream) == 1
    assert await on_streams(resources) == [one.first_id]


async def test_ids_are_those_of_the_channels_that_were_used_where_the_user_does_not_want_all(resources: Resources) -> None:
    await resources.pool.execute("insert into preference (user_id, sms_opt_in) values ('ann', false)")
    one = await left(resources, user_id="ann")
    await resources.pool.execute("update preference set email_opt_in = false, sms_opt_in = true")  # decided is decided
    added = await take_over(resources.pool, [one.event_pk])
    assert sorted((a.id, a.channel) for a in added) == [(one.first_id, "EMAIL"), (one.first_id + 1, "PUSH")]


async def test_only_what_is_claimed_is_taken_over_and_twice_is_once(resources: Resources) -> None:
    over, done = [await left(resources) for _ in range(2)]
    (free,) = await add_events(resources, event())
    await change(resources, "event", done.event_pk, "status = 'ROUTED'")
    ids = [over.event_pk, done.event_pk, free, 10**15]
    added = await take_over(resources.pool, ids)
    assert ({a.event_pk for a in added}, len(added)) == ({over.event_pk}, 3)
    assert [(await event_row(resources, pk))["status"] for pk in ids[:3]] == ["ROUTED", "ROUTED", "NEW"]
    assert await take_over(resources.pool, ids) == [], "twice is once"
    assert len(await notifications_of(resources, over.event_pk)) == 3


async def test_claimed_events_are_locked_in_the_order_of_their_ids(resources: Resources) -> None:
    ids = sorted(await add_events(resources, *(event() for _ in range(40))))
    await claim_events(resources, ids)
    await change(resources, "event", ids, OVER)
    assert await locked_before(resources, "event", ids, lambda connection: take_over(connection, ids[::-1])) == ids[:20]


async def test_of_all_that_take_over_and_write_at_the_same_time_one_routes_each_event(resources: Resources) -> None:
    ones = [await left(resources) for _ in range(20)]
    ids = [one.event_pk for one in ones]
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: take_over(resources.pool, ids),
        lambda: hot_send.write(resources, "gone", [write_of(one, 0) for one in ones]),
        lambda: take_over(resources.pool, ids[::-1]),
    ]
    first, written, second = await race(resources, "event", ids, calls)
    taken = [*{a.event_pk for a in first}, *{a.event_pk for a in second}]
    assert sorted([*taken, *written]) == sorted(ids)
    assert len(first) + len(second) == 3 * len(taken)
    assert await resources.pool.fetchval("select count(*) from notification") == 3 * len(ids)


@OVER_OR_NOT
@pytest.mark.parametrize("order", ["written first", "taken over first"])
async def test_who_writes_and_who_takes_over_meet(resources: Resources, order: str, over: bool) -> None:
    """The second passes over what the first did; and what the one who claimed it knows is recorded either way."""
    one = await left(resources, over=over)
    if order == "written first":
        assert await hot_send.write(resources, "gone", [write_of(one, 0, 1)]) == {one.event_pk}
        assert await take_over(resources.pool, [one.event_pk]) == []
        expected = {"EMAIL": "SENT", "SMS": "SENT", "PUSH": "PROCESSING"}
    else:
        assert len(await take_over(resources.pool, [one.event_pk])) == (3 if over else 0)
        assert await hot_send.write(resources, "gone", [write_of(one, 0, 1)]) == set()
        expected = dict.fromkeys(Channel, "PROCESSING")
    assert {r["channel"]: r["status"] for r in await notifications_of(resources, one.event_pk)} == expected
    told = await hot.finish(resources, [sent(one, 0), sent(one, 1)])
    assert [(f.recorded, f.status) for f in told] == [(order != "written first", Status.SENT)] * 2
    for place in (0, 1):
        (attempt,) = await attempts(resources, one.first_id + place)
        assert (attempt["number"], attempt["consumer"], attempt["outcome"], attempt["receipt"]) == (1, "gone", "sent", "r-1")


# ---- the crash rule


@pytest.mark.parametrize(
    ("rules", "verdict", "status"),
    [
        ({}, ClaimVerdict.AGAIN, "PROCESSING"),
        ({"max_tries": 1}, ClaimVerdict.CRASHED, "FAILED"),
        ({"at_most_once": True}, ClaimVerdict.UNKNOWN, "UNKNOWN"),
        ({"calm_s": 1e9}, ClaimVerdict.BUSY, "PROCESSING"),
    ],
    ids=["again", "no tries left", "at most once", "calm"],
)
async def test_the_crash_rule_judges_what_it_leads_to_once_its_lease_is_over(
    resources: Resources, rules: dict[str, Any], verdict: ClaimVerdict, status: str
) -> None:
    one = await left(resources, channels=(Channel.SMS,))
    await take_over(resources.pool, [one.event_pk])
    (told,) = await claim(resources, [one.first_id], "another", **RULES | rules)
    row = await notification(resources, one.first_id)
    assert (told.verdict, row["status"]) == (verdict, status)
    assert row["possible_duplicate"] == (verdict in (ClaimVerdict.AGAIN, ClaimVerdict.CRASHED))
    closed = [(a["number"], a["consumer"], a["outcome"]) for a in await attempts(resources, one.first_id)]
    assert closed == ([] if verdict is ClaimVerdict.BUSY else [(1, "gone", "unknown")])


async def test_who_is_late_is_fenced_off_once_another_tries_again(resources: Resources) -> None:
    one = await left(resources, channels=(Channel.SMS,))
    await take_over(resources.pool, [one.event_pk])
    await claim(resources, [one.first_id], "another", **RULES)
    assert await hot_send.write(resources, "gone", [write_of(one, 0)]) == set()
    (told,) = await hot.finish(resources, [sent(one, 0)])
    assert (told.recorded, told.attempt) == (False, 2)
    row = await notification(resources, one.first_id)
    assert (row["status"], row["attempt"], row["claimed_by"]) == ("PROCESSING", 2, "another")


# ---- who gets its entry


async def handled(resources: Resources, *event_pks: int, dead: bool = False) -> dict[int, list[Verdict | CallOver]]:
    """What becomes of the entries of these events."""
    route, settled = Route(resources, Database()), dict[int, list[Verdict | CallOver]]()
    entries = [Entry(b"%d-1" % n, event_pk, 9 if dead else 2) for n, event_pk in enumerate(event_pks)]
    act: Callable[[Sequence[Entry], Any], Awaitable[None]] = route.dead if dead else route
    await act(entries, lambda entry, verdict: settled.setdefault(entry.row_id or 0, []).append(verdict))
    return settled


async def on_streams(resources: Resources) -> list[int]:
    """The notifications that are on their channels' streams."""
    redis: Any = resources.redis
    found = [await redis.xrange(channel_stream(channel)) for channel in Channel]
    return sorted(int(fields[b"notification"]) for entries in found for _, fields in entries)


async def test_who_gets_the_entry_of_a_claimed_event_routes_it_and_is_done_with_it(resources: Resources) -> None:
    """What is under a live lease is parked, all else goes on its stream."""
    over, live = await left(resources), await left(resources, over=False)
    (free,) = await add_events(resources, event())
    settled = await handled(resources, over.event_pk, live.event_pk, free)
    assert settled == {pk: [Acknowledge()] for pk in (over.event_pk, live.event_pk, free)}
    freed = [r["id"] for r in await notifications_of(resources, free)]
    assert await on_streams(resources) == sorted([*(over.first_id + place for place in range(3)), *freed])
    rows = await notifications_of(resources, live.event_pk)
    assert [(r["status"], r["published_at"]) for r in rows] == [("PROCESSING", None)] * 3


@pytest.mark.parametrize("answer", ["of the first call lost", "another was first"])
async def test_what_is_not_published_by_who_took_it_over_is_the_relay_s(
    resources: Resources, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    one, asked = await left(resources), list[int]()

    async def late(pool: Any, ids: Sequence[int]) -> list[Added]:
        asked.append(await take_over(pool, ids) != [])
        if answer == "of the first call lost" and len(asked) == 1:
            raise ConnectionError
        return await take_over(pool, ids)

    monkeypatch.setattr(routing, "take_over", late)
    assert await handled(resources, one.event_pk) == {one.event_pk: [Acknowledge()]}
    assert await on_streams(resources) == []
    await change(resources, "notification", [one.first_id + n for n in range(3)], "published_at = now() - interval '1 h'")
    relay = Relay(resources, Database())
    assert [await relay.sweep(channel_stream(channel)) for channel in Channel] == [1, 1, 1]


async def test_a_dead_letter_of_a_claimed_event_is_routed_first(resources: Resources) -> None:
    """What may have been sent is never FAILED without a trace."""
    over, live = await left(resources), await left(resources, over=False)
    (free,) = await add_events(resources, event())
    ids = [over.event_pk, live.event_pk, free]
    assert await handled(resources, *ids, dead=True) == {pk: [Acknowledge()] for pk in ids}
    found = [await event_row(resources, pk) for pk in ids]
    assert [(r["status"], r["reason"]) for r in found] == [("ROUTED", None), ("ROUTED", None), ("FAILED", "dead_letter")]
    assert await on_streams(resources) == [over.first_id + place for place in range(3)]


async def test_a_claim_and_what_is_written_leave_the_time_of_publication_alone(resources: Resources) -> None:
    """By it the relay knows whether an entry of the event may be lost."""
    (event_pk,) = await add_events(resources, event())
    published = (await event_row(resources, event_pk))["published_at"]
    (one,) = await claim_events(resources, [event_pk])
    await hot_send.write(resources, "me", [write_of(one)])
    row = await event_row(resources, event_pk)
    assert row["published_at"] == published
    assert row["updated_at"] - row["claimed_at"] == timedelta(0)
