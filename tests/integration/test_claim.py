"""Claim: one guarded statement gives a notification to one consumer at a time, and tells everybody else why not."""

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import asyncpg
import pytest

from app.domain import Channel, Status
from app.resources import Resources
from app.store.notifications import GO, WAIT, Claim, ClaimVerdict, judge_claims
from app.store.owed import DeadVerdict, end_dead_notifications
from tests.support import (
    add_notification,
    add_notifications,
    attempts,
    change,
    claim,
    locked_before,
    notification,
    race,
    start_attempt,
)

CRASHED = "lease_until = now() - interval '1 s'"  # of a PROCESSING row: its consumer is gone


async def ask(resources: Resources, ids: int | list[int], me: str = "me", **other: Any) -> list[Claim]:
    """The verdicts, in the order of ids."""
    rules: dict[str, Any] = {"lease_s": 30, "at_most_once": False, "max_tries": 3, "calm_s": 0, **other}
    claims = await claim(resources, [ids] if isinstance(ids, int) else ids, me, **rules)
    return sorted(claims, key=lambda c: c.id)


async def ask_one(resources: Resources, notification_id: int, me: str = "me", **other: Any) -> Claim:
    (only,) = await ask(resources, notification_id, me, **other)
    return only


def in_s(row: asyncpg.Record, column: str) -> float:
    """Seconds from the row's last change until the time in `column`."""
    wait: timedelta = row[column] - row["updated_at"]
    return wait.total_seconds()


# ---- it is mine


async def test_what_is_due_is_claimed_and_the_row_is_the_open_attempt(resources: Resources) -> None:
    mine = await add_notification(resources)
    answer = await ask_one(resources, mine)
    assert (answer.verdict, answer.attempt, answer.tries, answer.possible_duplicate) == (ClaimVerdict.CLAIMED, 1, 1, False)
    row = await notification(resources, mine)
    assert (row["status"], row["attempt"], row["tries"], row["claimed_by"]) == ("PROCESSING", 1, 1, "me")
    assert row["claimed_at"] == row["updated_at"]
    assert in_s(row, "lease_until") == 30
    assert await attempts(resources, mine) == [], "an attempt row is written when the attempt ends"


async def test_a_claim_brings_all_that_the_provider_needs(resources: Resources) -> None:
    mine = await add_notification(resources, event_id="e-1", type="ORDER_PLACED", user_id="ann", payload={"items": ["Laptop"]})
    await change(resources, "notification", mine, "address = 'ann@example.org', replays = 2")
    answer = await ask_one(resources, mine)
    assert (answer.event_id, answer.event_type, answer.user_id) == ("e-1", "ORDER_PLACED", "ann")
    assert (answer.payload_json, answer.address, answer.replays) == ('{"items":["Laptop"]}', "ann@example.org", 2)


async def test_a_parked_notification_that_is_due_may_be_claimed_by_an_old_entry(resources: Resources) -> None:
    mine = await add_notification(resources)
    await change(resources, "notification", mine, "published_at = null")
    assert (await ask_one(resources, mine)).verdict is ClaimVerdict.CLAIMED


async def test_a_claim_whose_answer_was_lost_is_resumed_without_a_second_attempt(resources: Resources) -> None:
    mine = await add_notification(resources)
    await ask_one(resources, mine)
    before = await notification(resources, mine)
    again = await ask_one(resources, mine)
    assert (again.verdict, again.attempt, again.tries, again.payload_json) == (ClaimVerdict.RESUMED, 1, 1, '{"orderAmount":250}')
    assert (await notification(resources, mine))["lease_until"] == before["lease_until"], "the lease counts from the first claim"


# ---- its consumer is gone: the crash rule


async def test_after_a_crash_a_new_attempt_is_marked_as_a_possible_duplicate(resources: Resources) -> None:
    mine = await start_attempt(resources, me="gone")
    await change(resources, "notification", mine, CRASHED)
    answer = await ask_one(resources, mine)
    assert (answer.verdict, answer.attempt, answer.tries, answer.possible_duplicate) == (ClaimVerdict.AGAIN, 2, 2, True)
    row = await notification(resources, mine)
    assert (row["status"], row["claimed_by"], row["possible_duplicate"]) == ("PROCESSING", "me", True)
    assert in_s(row, "lease_until") == 30


async def test_the_crash_rule_writes_the_attempt_of_the_consumer_that_is_gone(resources: Resources) -> None:
    mine = await start_attempt(resources, me="gone")
    started = (await notification(resources, mine))["claimed_at"]
    await change(resources, "notification", mine, CRASHED)
    await ask_one(resources, mine)
    (gone,) = await attempts(resources, mine)
    assert (gone["number"], gone["consumer"], gone["outcome"], gone["possible_duplicate"]) == (1, "gone", "unknown", False)
    assert gone["started_at"] == started < gone["ended_at"]
    assert gone["error"] == "the consumer was gone before it recorded an outcome"


async def test_where_at_most_one_send_is_allowed_a_crash_ends_as_unknown(resources: Resources) -> None:
    mine = await start_attempt(resources, Channel.SMS, me="gone")
    await change(resources, "notification", mine, CRASHED)
    answer = await ask_one(resources, mine, at_most_once=True)
    assert answer.verdict is ClaimVerdict.UNKNOWN
    row = await notification(resources, mine)
    assert (row["status"], row["reason"], row["done"], row["lease_until"], row["attempt"]) == (
        "UNKNOWN",
        "crashed",
        True,
        None,
        1,
    )
    assert row["claimed_by"] == "gone", "a late truth of its consumer is still welcome"
    assert [a["outcome"] for a in await attempts(resources, mine)] == ["unknown"]


async def test_a_crash_in_the_last_try_ends_as_failed_and_says_it_may_have_been_sent(resources: Resources) -> None:
    mine = await start_attempt(resources, me="gone")
    await change(resources, "notification", mine, CRASHED)
    answer = await ask_one(resources, mine, max_tries=1)
    assert answer.verdict is ClaimVerdict.CRASHED
    row = await notification(resources, mine)
    assert (row["status"], row["reason"], row["possible_duplicate"], row["attempt"]) == ("FAILED", "crashed", True, 1)
    assert [a["outcome"] for a in await attempts(resources, mine)] == ["unknown"]


async def test_just_after_postgresql_started_nobody_applies_the_crash_rule(resources: Resources) -> None:
    """Consumers that hold outcomes record them first."""
    mine = await start_attempt(resources, me="gone")
    await change(resources, "notification", mine, CRASHED)
    answer = await ask_one(resources, mine, calm_s=100_000)
    assert answer.verdict is ClaimVerdict.BUSY
    up_s = await resources.pool.fetchval("select extract(epoch from now() - pg_postmaster_start_time())::float8")
    assert answer.back_in_s == pytest.approx(100_000 - up_s, abs=5)
    assert (await notification(resources, mine))["claimed_by"] == "gone"


# ---- not now


async def test_a_live_lease_is_busy_until_it_ends(resources: Resources) -> None:
    mine = await start_attempt(resources, me="other", lease_s=20)
    answer = await ask_one(resources, mine)
    assert answer.verdict is ClaimVerdict.BUSY
    assert answer.back_in_s == pytest.approx(20, abs=5)
    assert (await notification(resources, mine))["claimed_by"] == "other"


@pytest.mark.parametrize(("published_at", "verdict"), [("now()", ClaimVerdict.LATER), ("null", ClaimVerdict.PARKED)])
async def test_what_is_not_due_waits_in_the_stream_or_is_parked(
    resources: Resources, published_at: str, verdict: ClaimVerdict
) -> None:
    mine = await add_notification(resources)
    await change(resources, "notification", mine, f"due_at = now() + interval '9 s', published_at = {published_at}")
    before = await notification(resources, mine)
    answer = await ask_one(resources, mine)
    assert answer.verdict is verdict
    if verdict in WAIT:
        assert answer.back_in_s == pytest.approx(9, abs=5)
    assert (await notification(resources, mine))["updated_at"] == before["updated_at"], "nothing was written"


# ---- not any more


async def test_what_expired_is_failed_and_never_sent(resources: Resources) -> None:
    mine = await add_notification(resources, expires_at=datetime.now(UTC) + timedelta(hours=1))
    await change(resources, "notification", mine, "expires_at = now() - interval '1 s'")
    assert (await ask_one(resources, mine)).verdict is ClaimVerdict.EXPIRED
    row = await notification(resources, mine)
    assert (row["status"], row["reason"], row["error"]) == ("FAILED", "expired", "not sent before it expired")
    assert (row["attempt"], row["tries"], await attempts(resources, mine)) == (0, 0, [])


async def test_an_expired_notification_is_not_sent_again_after_a_crash(resources: Resources) -> None:
    mine = await start_attempt(resources, me="gone")
    await change(resources, "notification", mine, f"{CRASHED}, expires_at = now() - interval '1 s'")
    assert (await ask_one(resources, mine)).verdict not in GO
    row = await notification(resources, mine)
    assert (row["status"], row["possible_duplicate"]) == ("FAILED", True)
    assert [a["outcome"] for a in await attempts(resources, mine)] == ["unknown"]


async def test_a_final_notification_stays_as_it_is(resources: Resources) -> None:
    ended = [status for status in Status if status.final]
    ids = await add_notifications(resources, len(ended))
    for i, status in zip(ids, ended, strict=True):
        await change(
            resources, "notification", i, f"status = '{status}', reason = 'rejected', lease_until = now() - interval '1 s'"
        )
    before = [(await notification(resources, i))["updated_at"] for i in ids]
    assert [c.verdict for c in await ask(resources, ids)] == [ClaimVerdict.FINAL] * 4
    assert [(await notification(resources, i))["updated_at"] for i in ids] == before


async def test_an_id_without_a_row_gets_no_verdict(resources: Resources) -> None:
    mine = await add_notification(resources)
    assert [c.id for c in await ask(resources, [mine, 10**15])] == [mine]
    assert await ask(resources, []) == []


# ---- many at once


async def test_a_batch_may_hold_every_verdict(resources: Resources) -> None:
    due, final, later, parked, busy, resumed, again, expired = ids = await add_notifications(resources, 8)
    await change(resources, "notification", final, "status = 'SENT'")
    await change(resources, "notification", [later, parked], "due_at = now() + interval '9 s'")
    await change(resources, "notification", parked, "published_at = null")
    await ask(resources, [busy, again], "other")
    await ask(resources, resumed)
    await change(resources, "notification", again, CRASHED)
    await change(resources, "notification", expired, "expires_at = now()")
    random.Random(1).shuffle(ids)
    assert {c.id: c.verdict for c in await ask(resources, ids)} == {
        due: ClaimVerdict.CLAIMED,
        final: ClaimVerdict.FINAL,
        later: ClaimVerdict.LATER,
        parked: ClaimVerdict.PARKED,
        busy: ClaimVerdict.BUSY,
        resumed: ClaimVerdict.RESUMED,
        again: ClaimVerdict.AGAIN,
        expired: ClaimVerdict.EXPIRED,
    }


@pytest.mark.parametrize("state", ["due", "crashed"])
async def test_consumers_that_want_the_same_rows_at_the_same_time_get_each_row_once(resources: Resources, state: str) -> None:
    ids = await add_notifications(resources, 200)
    if state == "crashed":
        await ask(resources, ids, "gone")
        await change(resources, "notification", ids, CRASHED)
    consumers = [partial(ask, resources, ids[:: (-1) ** n], f"consumer {n}") for n in range(4)]
    answers = await race(resources, "notification", ids, consumers)
    assert Counter(c.id for claims in answers for c in claims if c.verdict in GO) == Counter(ids)
    assert {c.verdict for claims in answers for c in claims} - GO == {ClaimVerdict.BUSY}


@pytest.mark.parametrize("act", ["claim", "claim at length"])
async def test_rows_are_locked_in_the_order_of_their_ids(resources: Resources, act: str) -> None:
    """Two consumers that lock in opposite orders would deadlock."""
    rules: dict[str, Any] = {"lease_s": 30, "at_most_once": False, "max_tries": 3, "calm_s": 0}
    ids = await add_notifications(resources, 40)

    async def call(connection: Any) -> None:
        if act == "claim":
            await claim(replace(resources, hot=connection), ids[::-1], "me", **rules)
        else:
            await judge_claims(connection, ids[::-1], "me", **rules)

    assert await locked_before(resources, "notification", ids, call, resources.hot if act == "claim" else None) == ids[:20]


async def test_right_after_an_absence_that_was_no_restart_nobody_applies_the_crash_rule(resources: Resources) -> None:
    mine = await start_attempt(resources, me="gone")
    await change(resources, "notification", mine, CRASHED)
    rules: dict[str, Any] = {"lease_s": 30, "at_most_once": False, "max_tries": 3, "calm_s": 0}
    (calm,) = await claim(resources, [mine], "me", **rules, calm_left_s=7)
    assert calm.verdict is ClaimVerdict.BUSY
    assert calm.back_in_s == pytest.approx(7, abs=0.1)
    assert await end_dead_notifications(resources.pool, [mine], "dead", 0, 7) == {mine: DeadVerdict.BUSY}
    (later,) = await claim(resources, [mine], "me", **rules)
    assert later.verdict is ClaimVerdict.AGAIN
