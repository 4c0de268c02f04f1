"""The short statements do what the long ones do, walk indexes whatever the tables hold, and leave all else to the long ones."""

from datetime import datetime
from typing import Any

import asyncpg
import pytest

from app.domain import Outcome, Status
from app.resources import Resources
from app.store import hot
from app.store.events import SAME_IDS
from app.store.hot import CLAIM_DUE, CLAIMED_AS_ROUTED, FINISH_SENT, ROUTE_PLAIN
from app.store.notifications import Ending, judge_claims, judge_endings
from app.store.routing import READ, route_events
from consumers.route import refused
from tests.support import (
    add_events,
    add_notification,
    attempts,
    change,
    claim,
    event,
    event_row,
    notification,
    notifications_of,
    routings,
)

RULES: dict[str, Any] = {"lease_s": 30, "at_most_once": False, "max_tries": 3, "calm_s": 0}
OWN = {"id", "event_pk", "event_id", "notification_id", "body_hash", "due_in_s", "leads"}  # the long way's all lead
SHORT = {
    "read": (READ, "bigint[], boolean"),
    "route": (ROUTE_PLAIN, "bigint[], text[], text[], int[], text, float8"),
    "claimed": (CLAIMED_AS_ROUTED, "bigint[], text"),
    "claim": (CLAIM_DUE, "bigint[], text, float8"),
    "sent": (FINISH_SENT, "bigint[], int[], text[], text[]"),
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
    async with resources.hot.acquire() as connection:
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


async def test_both_ways_route_alike(resources: Resources) -> None:
    short, long = await add_events(resources, event(user_id="ann"), event(user_id="ann"))
    added = await hot.route(resources, await routings(resources, [short]))
    added_too = await route_events(resources.pool, await routings(resources, [long]))
    assert sorted(a.channel for a in added) == sorted(a.channel for a in added_too) == ["EMAIL", "PUSH", "SMS"]
    assert same(await event_row(resources, short)) == same(await event_row(resources, long))
    rows, rows_too = [sorted(map(same, await notifications_of(resources, pk)), key=str) for pk in (short, long)]
    assert rows == rows_too


async def test_what_is_routed_again_since_postgresql_went_away_is_published(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Limited events take the long way: where that fails, a repetition must still answer what the plain ones are to publish."""
    plain, limited = await routings(resources, await add_events(resources, event(), event()))

    async def away(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(hot, "route_events", away)
        with pytest.raises(ConnectionError):
            await hot.route(resources, [plain, refused(limited, 5)])
    added = await hot.route(resources, [plain, refused(limited, 5)])
    assert [a.event_pk for a in added] == [plain.event.id] * 3


async def test_tables_from_before_are_routed_the_long_way(resources: Resources) -> None:
    await resources.pool.execute("alter table notification drop column leads")
    added = await hot.route(resources, await routings(resources, await add_events(resources, event(), event())))
    assert sorted(a.channel for a in added) == ["EMAIL", "EMAIL", "PUSH", "PUSH", "SMS", "SMS"]


async def test_a_sequence_of_another_name_is_not_missed(resources: Resources) -> None:
    """PostgreSQL chooses another one for a table that is made where the name is taken."""
    await resources.pool.execute("alter sequence notification_id_seq rename to notification_id_seq1")
    assert len(await hot.route(resources, await routings(resources, await add_events(resources, event())))) == 3


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
    added = await hot.route(resources, await routings(resources, [pk, fresh]))
    assert [a.event_pk for a in added if a.channel == (await notification(resources, mine))["channel"]] == [fresh]
    await claim(resources, [mine], "me", **RULES)
    note = """insert into attempt (notification_id, number, consumer, started_at, ended_at, outcome)
      values ($1, 1, 'me', now(), now(), 'unknown')"""
    await resources.pool.execute(note, mine)
    (told,) = await hot.finish(resources, [sent(mine)])
    assert (told.recorded, [a["outcome"] for a in await attempts(resources, mine)]) == (True, ["sent"])
