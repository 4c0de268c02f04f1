"""Route: what may be done with an event now, and its notifications, decisions and ROUTED in one transaction."""

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import orjson
import pytest

from app.domain import Channel, Preference
from app.resources import Resources
from app.store.preferences import put_preference
from app.store.routing import Added, EventVerdict, defer_events, read_events, route_events
from consumers.route import refused
from tests.support import (
    add_events,
    added_by,
    change,
    event,
    event_row,
    locked_before,
    notifications_of,
    race,
    route,
    route_short,
    routings,
)

AGES = datetime(2100, 1, 1, tzinfo=UTC)
WAYS = ["short", "long"]


async def router(resources: Resources, way: str, event_pks: list[int]) -> Callable[[], Awaitable[list[Added]]]:
    """Routes when it is called, by the one way alone; the long way has read the events before that."""
    decided = await routings(resources, event_pks)

    async def short() -> list[Added]:
        return added_by(await route_short(resources, event_pks))

    return short if way == "short" else partial(route_events, resources.pool, decided)


# ---- read


async def test_each_event_says_what_may_be_done_with_it_now(resources: Resources) -> None:
    go, expired, later, parked, routed, cancelled = ids = await add_events(resources, *(event() for _ in range(6)))
    await change(resources, "event", expired, "expires_at = now()")
    await change(resources, "event", [later, parked], "due_at = now() + interval '9 s'")
    await change(resources, "event", parked, "published_at = null")
    await change(resources, "event", cancelled, "status = 'CANCELLED', reason = 'cancelled'")
    await route(resources, [routed])
    rows = {row.id: row for row in await read_events(resources.pool, [*ids, 10**15])}
    assert {event_pk: row.verdict for event_pk, row in rows.items()} == {
        go: EventVerdict.GO,
        expired: EventVerdict.EXPIRED,
        later: EventVerdict.LATER,
        parked: EventVerdict.PARKED,
        routed: EventVerdict.FINAL,
        cancelled: EventVerdict.FINAL,
    }
    assert rows[later].due_in_s == pytest.approx(9, abs=5)


async def test_an_event_for_later_is_parked_from_the_start(resources: Resources) -> None:
    (event_pk,) = await add_events(resources, event(send_at=AGES))
    (row,) = await read_events(resources.pool, [event_pk])
    assert row.verdict is EventVerdict.PARKED
    stored = await event_row(resources, event_pk)
    assert (stored["due_at"], stored["published_at"]) == (AGES, None)


async def test_events_are_read_with_their_users_preference_and_the_channels_asked_for(resources: Resources) -> None:
    await put_preference(resources.pool, "ann", email_opt_in=True, sms_opt_in=False, push_opt_in=True)
    anns, bobs = await add_events(resources, event(user_id="ann", channels=(Channel.SMS, Channel.PUSH)), event(user_id="bob"))
    rows = {row.id: row for row in await read_events(resources.pool, [anns, bobs])}
    assert (rows[anns].preference, rows[anns].channels) == (Preference(sms=False), (Channel.SMS, Channel.PUSH))
    assert (rows[bobs].preference, rows[bobs].channels) == (None, None)


# ---- route


async def test_an_event_becomes_one_pending_notification_per_channel(resources: Resources) -> None:
    expires_at = datetime.now(UTC) + timedelta(days=1)
    (event_pk,) = await add_events(resources, event(user_id="ann", expires_at=expires_at))
    added = await route(resources, [event_pk])
    rows = await notifications_of(resources, event_pk)
    assert {(r["channel"], r["status"], r["user_id"], r["expires_at"]) for r in rows} == {
        (channel, "PENDING", "ann", expires_at) for channel in Channel
    }
    assert {(a.id, a.event_pk, a.channel, a.published_at) for a in added} == {
        (r["id"], event_pk, r["channel"], r["published_at"]) for r in rows
    }, "the caller publishes exactly these"
    stored = await event_row(resources, event_pk)
    assert (stored["status"], stored["reason"]) == ("ROUTED", None)
    assert orjson.loads(stored["decisions"]) == {channel: {"use": True, "reason": "default"} for channel in Channel}


async def test_a_user_who_wants_nothing_gets_nothing_and_the_event_says_why(resources: Resources) -> None:
    await put_preference(resources.pool, "ann", email_opt_in=False, sms_opt_in=False, push_opt_in=False)
    (event_pk,) = await add_events(resources, event(user_id="ann", channels=(Channel.EMAIL, Channel.SMS)))
    assert await route(resources, [event_pk]) == []
    assert await notifications_of(resources, event_pk) == []
    stored = await event_row(resources, event_pk)
    assert stored["status"] == "ROUTED"
    assert orjson.loads(stored["decisions"]) == {
        "EMAIL": {"use": False, "reason": "opted_out"},
        "SMS": {"use": False, "reason": "opted_out"},
        "PUSH": {"use": False, "reason": "not_requested"},
    }


async def test_over_the_limit_each_channel_that_would_have_been_used_gets_a_failed_row(resources: Resources) -> None:
    (event_pk,) = await add_events(resources, event(channels=(Channel.EMAIL, Channel.PUSH)))
    (decided,) = await routings(resources, [event_pk])
    assert await route_events(resources.pool, [refused(decided, 5)]) == [], "nothing is to be published"
    rows = await notifications_of(resources, event_pk)
    assert [(r["channel"], r["status"], r["reason"], r["done"]) for r in rows] == [
        ("EMAIL", "FAILED", "rate_limited", True),
        ("PUSH", "FAILED", "rate_limited", True),
    ]
    assert rows[0]["error"] == "rate limit: more than 5 events for this user in the time allowed"
    stored = await event_row(resources, event_pk)
    assert (stored["status"], stored["reason"]) == ("ROUTED", "rate_limited")
    reasons = {channel: decision["reason"] for channel, decision in orjson.loads(stored["decisions"]).items()}
    assert reasons == {"EMAIL": "rate_limited", "SMS": "not_requested", "PUSH": "rate_limited"}


async def test_an_expired_event_fails_without_notifications(resources: Resources) -> None:
    (event_pk,) = await add_events(resources, event())
    await change(resources, "event", event_pk, "expires_at = now()")
    assert await route(resources, [event_pk]) == []
    assert await notifications_of(resources, event_pk) == []
    stored = await event_row(resources, event_pk)
    assert (stored["status"], stored["reason"], stored["error"]) == ("FAILED", "expired", "not routed before it expired")


# ---- route again, and at the same time


@pytest.mark.parametrize("way", WAYS)
async def test_a_routed_event_is_passed_over(resources: Resources, way: str) -> None:
    (event_pk,) = await add_events(resources, event())
    again = await router(resources, way, [event_pk])
    await route(resources, [event_pk])
    before = await event_row(resources, event_pk)
    assert await again() == []
    assert (await event_row(resources, event_pk))["updated_at"] == before["updated_at"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", ["FAILED", "CANCELLED"])
async def test_an_event_that_ended_meanwhile_is_not_routed(resources: Resources, status: str, way: str) -> None:
    (event_pk,) = await add_events(resources, event())
    late = await router(resources, way, [event_pk])
    await change(resources, "event", event_pk, f"status = '{status}', reason = 'cancelled'")
    assert await late() == []
    assert await notifications_of(resources, event_pk) == []


async def test_of_routers_that_race_for_the_same_events_one_adds_each_notification(resources: Resources) -> None:
    ids = await add_events(resources, *(event() for _ in range(100)))
    routers = [await router(resources, way, ids[:: (-1) ** n]) for n, way in enumerate([*WAYS, *WAYS])]
    answers = await race(resources, "event", ids, routers)
    added = Counter((a.event_pk, a.channel) for answer in answers for a in answer)
    assert added == Counter((event_pk, channel) for event_pk in ids for channel in Channel)


@pytest.mark.parametrize("act", ["route", "route at length", "defer"])
async def test_events_are_locked_in_the_order_of_their_ids(resources: Resources, act: str) -> None:
    """Two routers that lock in opposite orders would deadlock."""
    ids = sorted(await add_events(resources, *(event() for _ in range(40))))
    decided = await routings(resources, ids[::-1])

    async def call(connection: Any) -> None:
        if act == "route":
            await route_short(resources, ids[::-1], hot=connection)
        elif act == "route at length":
            await route_events(connection, decided)
        else:
            await defer_events(connection, [(event_pk, 12) for event_pk in ids[::-1]])

    assert await locked_before(resources, "event", ids, call, resources.hot if act == "route" else None) == ids[:20]


# ---- defer


async def test_a_deferred_event_is_parked_until_its_reserved_time(resources: Resources) -> None:
    soon, late = await add_events(resources, event(), event())
    await defer_events(resources.pool, [(late, 36.5), (soon, 12)])
    rows = [await event_row(resources, event_pk) for event_pk in (soon, late)]
    assert [(r["status"], r["published_at"]) for r in rows] == [("NEW", None)] * 2
    assert [r["due_at"] - r["updated_at"] for r in rows] == [timedelta(seconds=12), timedelta(seconds=36.5)]


async def test_an_event_that_is_routed_cannot_be_deferred(resources: Resources) -> None:
    (event_pk,) = await add_events(resources, event())
    await route(resources, [event_pk])
    before = await event_row(resources, event_pk)
    await defer_events(resources.pool, [(event_pk, 12)])
    assert (await event_row(resources, event_pk))["due_at"] == before["due_at"]
