"""An event that is sent at once: claimed as a whole; then it is routed, and its notifications are inserted, with their ends."""

import dataclasses
from datetime import datetime
from typing import Any, cast

import asyncpg
import orjson
import pytest

from app.domain import Channel, Outcome, Status
from app.resources import Resources
from app.store import hot, hot_route, hot_send
from app.store.hot_route import Plain
from app.store.notifications import Ending
from app.store.preferences import put_preference
from app.store.release import release
from app.streams import channel_stream
from consumers.at_once import claim_of
from consumers.database import Database
from consumers.relay import Relay
from tests.integration.claimed import claimed, sent, write_of
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
    route,
)

EMAIL, SMS, PUSH = Channel
CLAIM = ("claimed_by", "claimed_at", "lease_until", "first_id")
OWN = {"id", "event_pk", "notification_id", "due_in_s"}
UPDATED = "select pg_stat_get_xact_tuples_updated('event'::regclass), pg_stat_get_xact_tuples_hot_updated('event'::regclass)"
PUBLISHED = {"published_at"}  # it was on a stream, or was not


async def peek(resources: Resources, *event_pks: int) -> list[Plain]:
    return await hot_route.peek(resources.hot, event_pks)


def same(row: asyncpg.Record, but: set[str] = OWN) -> dict[str, Any]:
    """Without what differs from row to row; of times, whether there is one."""
    return {k: v is not None if isinstance(v, datetime) else v for k, v in row.items() if k not in but}


# ---- the claim


async def test_a_claimed_event_stays_new_and_says_who_sends_it_and_which_ids_its_notifications_will_have(
    resources: Resources,
) -> None:
    await put_preference(resources.pool, "ann", email_opt_in=True, sms_opt_in=False, push_opt_in=True)
    (event_pk,) = await add_events(resources, event("e-1", user_id="ann"))
    before = await event_row(resources, event_pk)
    (one,) = await claim_events(resources, [event_pk])
    row = await event_row(resources, event_pk)
    assert (row["status"], row["claimed_by"], row["first_id"]) == ("NEW", "me", one.first_id)
    assert (row["lease_until"] - row["claimed_at"]).total_seconds() == resources.settings.lease_s
    assert (row["updated_at"], row["published_at"]) == (row["claimed_at"], before["published_at"])
    assert orjson.loads(row["decisions"])["SMS"] == {"use": False, "reason": "opted_out"}
    assert (one.event_pk, one.event_id, one.type, one.user_id) == (event_pk, "e-1", "ORDER_PLACED", "ann")
    assert (one.channels, orjson.loads(one.payload_json)) == ((EMAIL, PUSH), {"orderAmount": 250})
    assert 0 <= one.age_s < 60
    assert await notifications_of(resources, event_pk) == []


async def test_the_age_of_what_was_to_be_sent_later_counts_from_then(resources: Resources) -> None:
    (event_pk,) = await add_events(resources, event())
    await change(resources, "event", event_pk, "created_at = now() - interval '1 h', send_at = now() - interval '100 s'")
    (one,) = await claim_events(resources, [event_pk])
    assert one.age_s == pytest.approx(100, abs=20)


@pytest.mark.parametrize(
    "how",
    [
        "expires_at = now()",
        "due_at = now() + interval '1 h'",
        "published_at = null",
        "status = 'FAILED', reason = 'dead_letter'",
        "status = 'ROUTED'",
        "claimed_by = 'another', claimed_at = now(), lease_until = now() + interval '1 h', first_id = 8",
        "claimed_by = 'another', claimed_at = now(), lease_until = now() - interval '1 h', first_id = 8",
        "claimed_by = 'me', claimed_at = now(), lease_until = now() + interval '1 h', first_id = 8",
    ],
)
async def test_what_needs_a_closer_look_by_now_is_not_claimed(resources: Resources, how: str) -> None:
    plain, other = await add_events(resources, event(), event())
    peeked = await peek(resources, plain, other)
    await change(resources, "event", other, how)
    before = await event_row(resources, other)
    for again in (False, True) if "me" not in how else (False,):
        assert [e.event_pk for e in await hot_send.claim_events(resources, peeked, "me", again)] == [plain][: 1 + again]
        after = await event_row(resources, other)
        assert {k: v for k, v in after.items() if k != "due_in_s"} == {k: v for k, v in before.items() if k != "due_in_s"}
        await change(resources, "event", plain, "claimed_by = null, first_id = null")


async def test_a_claim_whose_answer_was_lost_is_found_again_with_its_ids_and_a_new_lease(resources: Resources) -> None:
    """Also where its lease is over, or it has expired by now. But not what another has claimed, or routed."""
    mine, over, theirs, routed, expired, free = ids = await add_events(resources, *(event() for _ in range(6)))
    peeked = await peek(resources, *ids)
    first = {e.event_pk: e for e in await claim_events(resources, [mine, over, routed, expired])}
    await claim_events(resources, [theirs], "another")
    await change(resources, "event", over, "lease_until = now() - interval '1 s'")
    await change(resources, "event", routed, "status = 'ROUTED'")
    await change(resources, "event", expired, "expires_at = now()")
    before = {pk: await event_row(resources, pk) for pk in ids}
    again = {e.event_pk: e for e in await hot_send.claim_events(resources, peeked, "me", again=True)}
    assert again.keys() == {mine, over, expired, free}
    for pk in (mine, over, expired):
        assert again[pk]._replace(age_s=0) == first[pk]._replace(age_s=0)
        row = await event_row(resources, pk)
        assert row["claimed_at"] > before[pk]["claimed_at"]
        assert (row["lease_until"] - row["claimed_at"]).total_seconds() == resources.settings.lease_s
    assert await hot_send.claim_events(resources, peeked, "me", again=False) == [], "it was answered: it is in hand"


async def test_of_two_that_claim_the_same_event_one_gets_it(resources: Resources) -> None:
    ids = await add_events(resources, *(event() for _ in range(20)))
    peeked = await peek(resources, *ids)
    answers = await race(
        resources,
        "event",
        ids,
        [
            lambda: hot_send.claim_events(resources, peeked, "one", again=False),
            lambda: hot_send.claim_events(resources, peeked[::-1], "two", again=True),
        ],
    )
    assert sorted(e.event_pk for answer in answers for e in answer) == sorted(ids)
    owners = {e.event_pk: name for name, answer in zip(("one", "two"), answers, strict=True) for e in answer}
    assert {pk: (await event_row(resources, pk))["claimed_by"] for pk in ids} == owners


@pytest.mark.parametrize("act", ["claim", "write"])
async def test_events_are_locked_in_the_order_of_their_ids(resources: Resources, act: str) -> None:
    ids = sorted(await add_events(resources, *(event() for _ in range(40))))
    peeked = await peek(resources, *ids)
    if act == "write":
        writes = [write_of(e) for e in await claim_events(resources, ids)]

    async def call(connection: Any) -> None:
        on_it = dataclasses.replace(resources, hot=connection)
        if act == "claim":
            await hot_send.claim_events(on_it, peeked[::-1], "me", again=False)
        else:
            await hot_send.write(on_it, "me", writes[::-1])

    assert await locked_before(resources, "event", ids, call, resources.hot) == ids[:20]


@pytest.mark.parametrize("number", [1, 200])
async def test_no_index_hears_of_a_claim_where_the_page_of_the_event_has_room(resources: Resources, number: int) -> None:
    """And a page that was filled by accepting has: half of it was left free."""
    ids = await add_events(resources, *(event() for _ in range(number)))
    async with resources.pool.acquire() as connection, connection.transaction():
        on_it = dataclasses.replace(resources, hot=cast("Any", connection))
        assert len(await claim_events(on_it, ids, "host-name-12345-0123abcd")) == number
        updated, heap_only = await connection.fetchrow(UPDATED) or (0, 0)
    assert updated == number
    assert heap_only >= 0.9 * number


# ---- what is written


async def test_what_was_sent_is_written_as_it_would_be_had_it_been_routed_claimed_and_finished(resources: Resources) -> None:
    """Column by column, but for times, ids, and that it was never published."""
    once = await claimed(resources, user_id="ann")
    assert await hot_send.write(resources, "me", [write_of(once, 0, 1, 2)]) == {once.event_pk}
    (before,) = await add_events(resources, event(user_id="ann"))
    step = await route(resources, [before])
    await claim(resources, [a.id for a in step], "me", **RULES)
    endings = [Ending(a.id, 1, Outcome.SENT, "p", None, "r-1", Status.SENT, None) for a in step]
    assert all(f.recorded for f in await hot.finish(resources, endings))
    rows = zip(await notifications_of(resources, once.event_pk), await notifications_of(resources, before), strict=True)
    for one, other in rows:
        assert same(one, OWN | PUBLISHED) == same(other, OWN | PUBLISHED)
        assert (one["id"] - once.first_id, one["published_at"]) == (once.channels.index(Channel(one["channel"])), None)
        (attempt,), (attempt_too,) = await attempts(resources, one["id"]), await attempts(resources, other["id"])
        assert same(attempt) == same(attempt_too)
        assert attempt["started_at"] == one["claimed_at"] == one["created_at"]
        assert attempt["started_at"] < attempt["ended_at"]
    one, other = await event_row(resources, once.event_pk), await event_row(resources, before)
    own = {*OWN, *CLAIM, "event_id", "body_hash"}
    assert same(one, own) == same(other, own)


async def test_what_is_not_over_is_written_like_what_was_claimed_and_parked_for_its_lease(resources: Resources) -> None:
    once = await claimed(resources, user_id="ann")
    assert await hot_send.write(resources, "me", [write_of(once)]) == {once.event_pk}
    (before,) = await add_events(resources, event(user_id="ann"))
    await claim(resources, [a.id for a in await route(resources, [before])], "me", **RULES)
    event_claimed = await event_row(resources, once.event_pk)
    for one, other in zip(
        await notifications_of(resources, once.event_pk), await notifications_of(resources, before), strict=True
    ):
        assert same(one, OWN | PUBLISHED) == same(other, OWN | PUBLISHED)
        assert {one[of] for of in ("lease_until", "due_at")} == {event_claimed["lease_until"]}
        assert (one["published_at"], one["claimed_at"]) == (None, event_claimed["claimed_at"])
        assert await attempts(resources, one["id"]) == []


async def test_each_notification_of_an_event_is_written_as_it_ended(resources: Resources) -> None:
    """And those of many events in one call, whatever channels each takes."""
    await put_preference(resources.pool, "bob", email_opt_in=False, sms_opt_in=True, push_opt_in=True)
    one, two, three = [await claimed(resources, user_id=user, channels=c) for user, c in
        (("ann", None), ("bob", None), ("ann", (PUSH,)))]  # fmt: skip
    writes = [write_of(one, 1, receipt="a"), write_of(two, 0, receipt=None), write_of(three, 0, receipt="c")]
    assert await hot_send.write(resources, "me", writes[::-1]) == {one.event_pk, two.event_pk, three.event_pk}
    rows = await resources.pool.fetch(
        """select event_pk, channel, id, status, leads, attempt, tries, a.number, a.receipt, a.provider from notification n
        left join attempt a on a.notification_id = n.id order by id"""
    )
    written = [tuple(r) for r in rows]
    assert written == [
        (one.event_pk, "EMAIL", one.first_id, "PROCESSING", True, 1, 1, None, None, None),
        (one.event_pk, "SMS", one.first_id + 1, "SENT", False, 1, 1, 1, "a", "p"),
        (one.event_pk, "PUSH", one.first_id + 2, "PROCESSING", False, 1, 1, None, None, None),
        (two.event_pk, "SMS", two.first_id, "SENT", True, 1, 1, 1, None, "p"),
        (two.event_pk, "PUSH", two.first_id + 1, "PROCESSING", False, 1, 1, None, None, None),
        (three.event_pk, "PUSH", three.first_id, "SENT", True, 1, 1, 1, "c", "p"),
    ]


@pytest.mark.parametrize("places", [(0,), (0, 1, 2)], ids=["one channel", "three channels"])
@pytest.mark.parametrize(
    "receipt",
    [None, " ", ",", "null", "NULL", "{}", '"', "\\", "'", "a,b", "ä€😀", "x" * 3000, "€" * 3000],
    ids=lambda receipt: "none" if receipt is None else ascii(receipt[:5]),
)
async def test_a_receipt_is_kept_as_the_record_of_any_other_end_keeps_it(
    resources: Resources, receipt: str | None, places: tuple[int, ...]
) -> None:
    once = await claimed(resources, channels=tuple(Channel)[: len(places)])
    assert await hot_send.write(resources, "me", [write_of(once, *places, receipt=receipt)]) == {once.event_pk}
    (other,) = await route(resources, await add_events(resources, event(channels=(EMAIL,))))
    await claim(resources, [other.id], "me", **RULES)
    await hot.finish(resources, [Ending(other.id, 1, Outcome.SENT, "p", None, receipt, Status.SENT, None)])
    (kept,) = await attempts(resources, other.id)
    for row in await notifications_of(resources, once.event_pk):
        (attempt,) = await attempts(resources, row["id"])
        assert (row["status"], attempt["receipt"]) == ("SENT", kept["receipt"])


async def test_what_was_written_already_is_passed_over(resources: Resources) -> None:
    """By an earlier call whose answer was lost, or by another: its ends are then recorded as any other."""
    once = await claimed(resources)
    assert await hot_send.write(resources, "me", [write_of(once, 0)]) == {once.event_pk}
    rows = await notifications_of(resources, once.event_pk)
    assert await hot_send.write(resources, "me", [write_of(once, 0, 1)]) == set()
    assert await notifications_of(resources, once.event_pk) == rows
    told = {f.id: f for f in await hot.finish(resources, [sent(once, place) for place in (0, 1)])}
    assert [(told[once.first_id + n].recorded, told[once.first_id + n].status) for n in (0, 1)] == [
        (False, Status.SENT), (True, Status.SENT)
    ]  # fmt: skip
    for n in (0, 1):
        assert [a["outcome"] for a in await attempts(resources, once.first_id + n)] == ["sent"]


@pytest.mark.parametrize(
    "how", ["claimed_by = 'another'", "claimed_by = null", "status = 'FAILED', reason = 'dead_letter'", "status = 'ROUTED'"]
)
async def test_only_who_has_claimed_an_event_writes_it(resources: Resources, how: str) -> None:
    mine, other = await claimed(resources), await claimed(resources)
    await change(resources, "event", other.event_pk, how)
    assert await hot_send.write(resources, "me", [write_of(mine), write_of(other, 0)]) == {mine.event_pk}
    assert (await notifications_of(resources, other.event_pk), await attempts(resources, other.first_id)) == ([], [])


async def test_what_is_written_late_is_written_all_the_same(resources: Resources) -> None:
    """Its lease is over, and nobody has taken it over: what was not sent is the relay's at once."""
    once = await claimed(resources, channels=(EMAIL, SMS))
    await change(resources, "event", once.event_pk, "lease_until = now() - interval '1 s'")
    assert await hot_send.write(resources, "me", [write_of(once, 0)]) == {once.event_pk}
    assert await Relay(resources, Database()).sweep(channel_stream(SMS)) == 1


async def test_where_postgresql_refuses_what_a_provider_said_all_is_written_as_not_over(resources: Resources) -> None:
    """And no event spoils another: whoever records the ends finds out which it was."""
    fine, bad = await claimed(resources), await claimed(resources)
    await resources.pool.execute("alter table attempt add constraint short check (length(receipt) < 9)")
    writes = [write_of(fine, 0, 1, 2), write_of(bad, 0, receipt="much too long")]
    assert await hot_send.write(resources, "me", writes) == set()
    rows = [r for e in (fine, bad) for r in await notifications_of(resources, e.event_pk)]
    assert [(r["status"], r["attempt"]) for r in rows] == [("PROCESSING", 1)] * 6
    assert [(await event_row(resources, e.event_pk))["status"] for e in (fine, bad)] == ["ROUTED"] * 2
    told = await hot.finish(resources, [sent(fine, n) for n in range(3)])
    assert [(f.recorded, f.status) for f in told] == [(True, Status.SENT)] * 3


async def test_an_event_that_cannot_be_written_spoils_no_other(resources: Resources) -> None:
    """A row of it is there already, which nobody writes but by hand: that one stays."""
    fine, bad = await claimed(resources), await claimed(resources)
    await resources.pool.execute(
        "insert into notification (event_pk, channel, user_id) values ($1, 'SMS', 'user_123')", bad.event_pk
    )
    assert await hot_send.write(resources, "me", [write_of(bad, 0), write_of(fine, 0)]) == set()
    assert [r["status"] for r in await notifications_of(resources, fine.event_pk)] == ["PROCESSING"] * 3
    assert (await event_row(resources, bad.event_pk))["status"] == "ROUTED"
    rows = {r["channel"]: r["status"] for r in await notifications_of(resources, bad.event_pk)}
    assert rows == {"EMAIL": "PROCESSING", "SMS": "PENDING", "PUSH": "PROCESSING"}


# ---- what becomes of what was not sent


async def test_what_is_given_back_is_due_and_the_relay_s(resources: Resources) -> None:
    once = await claimed(resources, channels=(SMS,))
    await hot_send.write(resources, "me", [write_of(once)])
    assert await release(resources.pool, [(once.first_id, 1)]) == {once.first_id: True}
    row = await notification(resources, once.first_id)
    assert (row["status"], row["attempt"], row["tries"], row["published_at"]) == ("PENDING", 1, 0, None)
    assert await Relay(resources, Database()).sweep(channel_stream(SMS)) == 1


async def test_what_is_sent_by_its_event_s_claim_is_told_as_by_one_of_its_own(resources: Resources) -> None:
    one = claim_of(once := await claimed(resources, event_id="e-1", user_id="ann"), once.first_id)
    (before,) = await add_events(resources, event("e-2", user_id="ann"))
    (other, *_) = await claim(resources, [(await route(resources, [before]))[0].id], "me", **RULES)
    assert one._replace(id=0, event_id="", age_s=0) == other._replace(id=0, event_id="", age_s=0)
    assert (one.id, one.event_id) == (once.first_id, "e-1")
    assert 0 <= one.age_s < 60
