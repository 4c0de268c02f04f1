"""The short statements do what the long ones do, walk indexes whatever the tables hold, and leave all else to the long ones."""

from datetime import UTC, datetime
from itertools import product
from typing import Any

import asyncpg
import pytest

from app.accept import prepare
from app.domain import Channel, Outcome, Preference, Status
from app.resources import Resources
from app.store import hot, hot_route, hot_send
from app.store.events import INSERT, INSERT_ONE, SAME_IDS, insert_events
from app.store.hot import CLAIM_DUE, FINISH_SENT
from app.store.hot_route import PEEK, ROUTE_PLAIN
from app.store.hot_send import CLAIM_EVENTS, WRITE
from app.store.notifications import Ending, judge_claims, judge_endings
from app.store.preferences import put_preference
from app.store.routing import READ, route_events
from tests.support import (
    RULES,
    add_events,
    add_notification,
    added_by,
    attempts,
    change,
    claim,
    claim_events,
    event,
    event_row,
    notification,
    notifications_of,
    own,
    route,
    route_short,
    routings,
)

AGES = datetime(2100, 1, 1, tzinfo=UTC)
OWN = {"id", "event_pk", "event_id", "notification_id", "body_hash", "due_in_s", "leads"}  # the long way's all lead
SHORT = {
    "read": (READ, "bigint[]"),
    "peek": (PEEK, "bigint[]"),
    "route": (ROUTE_PLAIN, "bigint[], text[], int[], text[]"),
    "claim events": (CLAIM_EVENTS, "bigint[], text[], int[], text, float8, boolean"),
    "write": (WRITE, "bigint[], text[], text[], text[], text"),
    "claim": (CLAIM_DUE, "bigint[], text, float8"),
    "sent": (FINISH_SENT, "bigint[], int[], text[], text[]"),
    "insert": (INSERT, "text, text, text, text, text, timestamptz[], bytea, text[], timestamptz[], timestamptz[]"),
    "insert one": (INSERT_ONE, "text, text, text, text, text, timestamptz, bytea, text, timestamptz, timestamptz"),
    "same ids": (SAME_IDS, "text[], text[]"),
}
MANY = """
with n as (
  insert into notification (event_pk, channel, user_id) select id, unnest(array['EMAIL', 'SMS', 'PUSH']), user_id from event
)
insert into preference (user_id) select distinct user_id || id from event
"""


def same(row: asyncpg.Record) -> dict[str, Any]:
    """Without what differs from row to row; of times, whether there is one."""
    return {k: v is not None if isinstance(v, datetime) else v for k, v in row.items() if k not in OWN}


def sent(notification_id: int) -> Ending:
    return Ending(notification_id, 1, Outcome.SENT, "p", None, "r-1", Status.SENT, None)


@pytest.mark.parametrize("rows", [0, 1, 60, 1000, -1])
async def test_a_plan_made_for_any_tables_looks_rows_up_one_by_one(resources: Resources, rows: int) -> None:
    """Also for tables that are small, or were emptied, where a walk along a whole index is cheapest. -1: never analysed."""
    async with own(resources.hot) as connection:
        await connection.execute("truncate event, notification, attempt, preference")
        if rows > 0:
            await add_events(resources, *(event() for _ in range(rows)))
            await connection.execute(MANY)
        if rows >= 0:
            await connection.execute("vacuum (analyze) event")
            await connection.execute("vacuum (analyze) notification")
            await connection.execute("vacuum (analyze) preference")
        plans = {name: await plan(connection, statement, types) for name, (statement, types) in SHORT.items()}
    for name, lines in plans.items():
        scans = [n for n, line in enumerate(lines) if "Scan using" in line]
        assert scans, name
        for n in scans:
            assert "Index Cond" in lines[n + 1], "\n".join([name, *lines])
        assert not any(way in " ".join(lines) for way in ("Seq Scan", "Hash", "Merge", "Bitmap")), "\n".join([name, *lines])


async def plan(connection: Any, statement: str, types: str) -> list[str]:
    await connection.execute(f"prepare short ({types}) as {statement}")
    nothing = ", ".join(["null"] * (types.count(",") + 1))
    lines = [r[0] for r in await connection.fetch(f"explain execute short({nothing})")]
    await connection.execute("deallocate short")
    return lines


ASKED: list[tuple[Channel, ...] | None] = [None, (), (Channel.SMS,), (Channel.PUSH, Channel.EMAIL), tuple(Channel)]
WANTED = [None, *(Preference(*wants) for wants in product((False, True), repeat=3))]


async def test_both_ways_decide_and_route_alike(resources: Resources) -> None:
    """Whatever an event asks for, and whatever its user wants."""
    for n, wanted in enumerate(WANTED):
        if wanted is not None:
            wants = {"email_opt_in": wanted.email, "sms_opt_in": wanted.sms, "push_opt_in": wanted.push}
            await put_preference(resources.pool, f"user_{n}", **wants)
    events = [(f"user_{n}", asked) for n in range(len(WANTED)) for asked in ASKED]
    short, long = [
        await add_events(resources, *(event(user_id=user, channels=asked, expires_at=AGES) for user, asked in events))
        for _ in "12"
    ]
    routed = {r.event_pk: r for r in await route_short(resources, short)}
    added = await route_events(resources.pool, await routings(resources, long))
    for one, other in zip(short, long, strict=True):
        assert same(await event_row(resources, one)) == same(await event_row(resources, other))
        rows, rows_too = [sorted(map(same, await notifications_of(resources, pk)), key=str) for pk in (one, other)]
        assert rows == rows_too
        assert sorted(routed[one].channels) == sorted(a.channel for a in added if a.event_pk == other)


@pytest.mark.parametrize("at_a_time", [1, 99])
async def test_what_is_inserted_says_which_case_it_is(resources: Resources, at_a_time: int) -> None:
    """As the look at it does later."""
    for n, wanted in enumerate(WANTED):
        if wanted is not None:
            wants = {"email_opt_in": wanted.email, "sms_opt_in": wanted.sms, "push_opt_in": wanted.push}
            await put_preference(resources.pool, f"user_{n}", **wants)
    asked = [channels for channels in ASKED if channels != ()]  # which no request may ask for
    news = [prepare(event(user_id=f"user_{n}", channels=channels)) for n in range(len(WANTED)) for channels in asked]
    parts = [news[start : start + at_a_time] for start in range(0, len(news), at_a_time)]
    stored = [each for part in parts for each in await insert_events(resources.hot, part)]
    seen = {plain.event_pk: plain.case for plain in await hot_route.peek(resources.hot, [s.row_id or 0 for s in stored])}
    assert [s.case for s in stored] == [seen[s.row_id or 0].nth for s in stored]
    assert len({s.case for s in stored}) == len(news), "all differ"
    assert [*map(hot_route.CASES.index, hot_route.CASES)] == [case.nth for case in hot_route.CASES]


@pytest.mark.parametrize("at_a_time", [1, 2])
async def test_of_what_may_expire_and_what_was_there_already_nobody_says_which_case_it_is(
    resources: Resources, at_a_time: int
) -> None:
    news = [prepare(event(expires_at=AGES)), prepare(event())]
    await insert_events(resources.hot, news[1:])
    stored = [s for n in range(0, 2, at_a_time) for s in await insert_events(resources.hot, news[n : n + at_a_time])]
    assert [(s.row_id is None, s.case) for s in stored] == [(False, None), (True, None)]


@pytest.mark.parametrize("was", [True, False])
async def test_who_changed_their_mind_since_is_left_to_the_long_way(resources: Resources, was: bool) -> None:
    wants = {"email_opt_in": True, "push_opt_in": True}
    await put_preference(resources.pool, "ann", **wants, sms_opt_in=was)
    anns, bobs = await add_events(resources, event(user_id="ann"), event(user_id="bob"))
    before = await hot_route.peek(resources.hot, [anns, bobs])
    await put_preference(resources.pool, "ann", **wants, sms_opt_in=not was)
    assert [r.event_pk for r in await hot_send.claim_events(resources, before, "me", again=False)] == [bobs]
    await change(resources, "event", bobs, "claimed_by = null")
    assert [r.event_pk for r in await hot_route.route_plain(resources, before)] == [bobs]
    assert (await event_row(resources, anns))["status"] == "NEW"
    assert sorted(a.channel for a in await route(resources, [anns])) == ["EMAIL", "PUSH", *["SMS"] * (not was)]


async def test_who_pays_for_an_event_is_its_user(resources: Resources) -> None:
    """An entry by hand, or one from before PostgreSQL was put back, may name another."""
    theirs, own = await hot_route.peek(resources.hot, await add_events(resources, event(), event()))
    told = [theirs._replace(user_id="another"), own]
    assert [r.event_pk for r in await hot_send.claim_events(resources, told, "me", again=False)] == [own.event_pk]
    await change(resources, "event", own.event_pk, "claimed_by = null")
    assert [r.event_pk for r in await hot_route.route_plain(resources, told)] == [own.event_pk]


async def test_a_claim_whose_answer_was_lost_is_found_again_though_its_user_changed_their_mind(resources: Resources) -> None:
    """It was claimed for what was wanted then: nobody else takes it for as long as its lease lasts."""
    (event_pk,) = await add_events(resources, event(user_id="ann"))
    seen = await hot_route.peek(resources.hot, [event_pk])
    (first,) = await hot_send.claim_events(resources, seen, "me", again=False)
    await put_preference(resources.pool, "ann", email_opt_in=False, sms_opt_in=False, push_opt_in=False)
    (again,) = await hot_send.claim_events(resources, seen, "me", again=True)
    assert again._replace(age_s=0) == first._replace(age_s=0)


async def test_the_short_way_answers_what_it_inserted(resources: Resources) -> None:
    (event_pk,) = await add_events(resources, event("e-1", user_id="ann", channels=(Channel.PUSH, Channel.EMAIL)))
    (routed,) = await route_short(resources, [event_pk])
    rows = await notifications_of(resources, event_pk)
    assert [(a.id, a.event_pk, a.channel, a.published_at) for a in added_by([routed])] == [
        (r["id"], event_pk, r["channel"], r["published_at"]) for r in rows
    ]
    assert [(r["channel"], r["leads"], r["status"]) for r in rows] == [("EMAIL", True, "PENDING"), ("PUSH", False, "PENDING")]
    assert (routed.event_id, routed.type, routed.user_id) == ("e-1", "ORDER_PLACED", "ann")


@pytest.mark.parametrize(
    "how",
    [
        "expires_at = now()",
        "due_at = now() + interval '1 h'",
        "published_at = null",
        "status = 'FAILED', reason = 'dead_letter'",
        "claimed_by = 'another', claimed_at = now(), lease_until = now() + interval '1 h', first_id = 8",
        "claimed_by = 'another', claimed_at = now(), lease_until = now() - interval '1 h', first_id = 8",
    ],
)
async def test_the_short_way_passes_over_what_needs_a_closer_look(resources: Resources, how: str) -> None:
    plain, other = await add_events(resources, event(), event())
    peeked = await hot_route.peek(resources.hot, [plain, other])
    await change(resources, "event", other, how)
    updated_at = (await event_row(resources, other))["updated_at"]
    assert [event.event_pk for event in await hot_route.peek(resources.hot, [plain, other])] == [plain]
    assert [r.event_pk for r in await hot_route.route_plain(resources, peeked)] == [plain], "seen before that"
    assert (await event_row(resources, other))["updated_at"] == updated_at
    assert await notifications_of(resources, other) == []


@pytest.mark.parametrize("channels", ["{EMAIL,NULL}", "{FAX}"])
async def test_an_event_that_asks_for_what_nobody_knows_is_left_to_the_long_way(resources: Resources, channels: str) -> None:
    """Which says so, and leaves it NEW."""
    (event_pk,) = await add_events(resources, event())
    await change(resources, "event", event_pk, f"channels = '{channels}'")
    assert await hot_route.peek(resources.hot, [event_pk]) == []


async def test_a_sequence_of_another_name_is_not_missed(resources: Resources) -> None:
    """PostgreSQL chooses another one for a table that is made where the name is taken."""
    await resources.pool.execute("alter sequence notification_id_seq rename to notification_id_seq1")
    event_pks = await add_events(resources, event())
    assert await claim_events(resources, event_pks) == []
    assert await route_short(resources, event_pks) == []
    assert len(await route(resources, event_pks)) == 3


async def test_both_ways_claim_and_finish_alike(resources: Resources) -> None:
    short, long = await add_notification(resources), await add_notification(resources)
    (one,) = await claim(resources, [short], "me", **RULES)
    (other,) = await judge_claims(resources.pool, [long], "me", **RULES)
    assert one._replace(id=0, event_id="", user_id="", age_s=0) == other._replace(id=0, event_id="", user_id="", age_s=0)
    (told,) = await hot.finish(resources, [sent(short)])
    (told_too,) = await judge_endings(resources.pool, [sent(long)])
    assert (told.recorded, told.status, told.attempt) == (told_too.recorded, told_too.status, told_too.attempt)
    rows = [same(await notification(resources, i)) for i in (short, long)]
    assert rows[0] | {"user_id": ""} == rows[1] | {"user_id": ""}
    (attempt,), (attempt_too,) = await attempts(resources, short), await attempts(resources, long)
    assert same(attempt) == same(attempt_too)


async def test_what_is_there_already_is_passed_over_not_doubled(resources: Resources) -> None:
    """Nobody writes such rows, but somebody may by hand: PostgreSQL then refuses the short way, and the long one takes all."""
    mine = await add_notification(resources)
    pk = (await notification(resources, mine))["event_pk"]
    await change(resources, "event", pk, "status = 'NEW'")
    (fresh,) = await add_events(resources, event())
    assert await route_short(resources, [pk, fresh]) == []
    added = await route(resources, [pk, fresh])
    assert [a.event_pk for a in added if a.channel == (await notification(resources, mine))["channel"]] == [fresh]
    await claim(resources, [mine], "me", **RULES)
    note = """insert into attempt (notification_id, number, consumer, started_at, ended_at, outcome)
      values ($1, 1, 'me', now(), now(), 'unknown')"""
    await resources.pool.execute(note, mine)
    (told,) = await hot.finish(resources, [sent(mine)])
    assert (told.recorded, [a["outcome"] for a in await attempts(resources, mine)]) == (True, ["sent"])
