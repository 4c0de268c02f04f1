"""Finish and release: how an attempt ended is recorded once, under the number that its claim was given."""

import asyncio
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from app.domain import Channel, Outcome, Reason, Status
from app.resources import Resources
from app.store.hot import finish
from app.store.notifications import Ending, Finish, judge_claims, judge_endings
from app.store.operate import replay_notifications
from app.store.release import release
from tests.conftest import wait_until
from tests.support import attempts, change, claim, locked_before, notification, start_attempt, start_attempts, waiting

CRASHED = "lease_until = now() - interval '1 s'"  # of a PROCESSING row: its consumer is gone

SENT: dict[str, Any] = {"outcome": Outcome.SENT, "status": Status.SENT, "receipt": "r-1"}
REJECTED: dict[str, Any] = {
    "outcome": Outcome.REJECTED,
    "status": Status.FAILED,
    "reason": Reason.REJECTED,
    "error": "no such user",
}
NO_TRIES: dict[str, Any] = {
    "outcome": Outcome.UNAVAILABLE,
    "status": Status.FAILED,
    "reason": Reason.OUT_OF_TRIES,
    "error": "busy",
}
NO_ANSWER: dict[str, Any] = {
    "outcome": Outcome.UNKNOWN,
    "status": Status.UNKNOWN,
    "reason": Reason.NO_ANSWER,
    "error": "time limit",
}
RETRY: dict[str, Any] = {"outcome": Outcome.UNAVAILABLE, "status": Status.PENDING, "error": "busy", "wait_s": 9}
PARK: dict[str, Any] = {**RETRY, "wait_s": 90, "park": True}
RETRY_UNKNOWN: dict[str, Any] = {**RETRY, "outcome": Outcome.UNKNOWN, "error": "time limit"}
NO_TRIES_UNKNOWN: dict[str, Any] = {**NO_TRIES, "outcome": Outcome.UNKNOWN, "error": "time limit"}


def ending(notification_id: int, attempt: int = 1, **how: Any) -> Ending:
    known: dict[str, Any] = {"provider": "scripted", "error": None, "receipt": None, "reason": None}
    return Ending(notification_id, attempt, **{**known, **how})


async def tell(resources: Resources, notification_id: int, attempt: int = 1, **how: Any) -> Finish:
    """Finish one attempt."""
    (answer,) = await finish(resources, [ending(notification_id, attempt, **how)])
    return answer


async def crash_claim(resources: Resources, ids: int | list[int], at_most_once: bool = False) -> None:
    """A successor finds that the lease is over."""
    ids = [ids] if isinstance(ids, int) else ids
    await change(resources, "notification", ids, CRASHED)
    await claim(resources, ids, "successor", lease_s=30, at_most_once=at_most_once, max_tries=3, calm_s=0)


async def only_attempt(resources: Resources, notification_id: int) -> asyncpg.Record:
    (attempt,) = await attempts(resources, notification_id)
    return attempt


# ---- every way an attempt may end


async def test_an_end_moves_the_row_and_writes_the_attempt(resources: Resources) -> None:
    ends = [SENT, REJECTED, NO_TRIES, NO_TRIES_UNKNOWN, NO_ANSWER, RETRY, PARK, RETRY_UNKNOWN]
    ids = await start_attempts(resources, len(ends))
    answers = {a.id: a for a in await finish(resources, [ending(i, **how) for i, how in zip(ids, ends, strict=True)])}
    for i, how in zip(ids, ends, strict=True):
        assert (answers[i].recorded, answers[i].status, answers[i].attempt) == (True, how["status"], 1)
        row, attempt = await notification(resources, i), await only_attempt(resources, i)
        assert (row["status"], row["reason"], row["error"]) == (how["status"], how.get("reason"), how.get("error"))
        assert (row["lease_until"], row["done"]) == (None, how["status"].final)
        assert (attempt["number"], attempt["consumer"], attempt["provider"]) == (1, "me", "scripted")
        assert (attempt["outcome"], attempt["error"], attempt["receipt"]) == (
            how["outcome"],
            how.get("error"),
            how.get("receipt"),
        )
        assert row["claimed_at"] == attempt["started_at"] < attempt["ended_at"]


async def test_a_short_wait_keeps_its_place_in_the_stream_and_a_long_one_is_parked(resources: Resources) -> None:
    short, long = await start_attempts(resources, 2)
    published_at = (await notification(resources, short))["published_at"]
    answer = await tell(resources, short, **RETRY)
    assert answer.published_at == published_at
    assert answer.due_in_s == pytest.approx(9, abs=0.1)
    answer = await tell(resources, long, **PARK)
    assert answer.published_at is None
    assert answer.due_in_s == pytest.approx(90, abs=0.1)
    assert [(await notification(resources, i))["published_at"] for i in (short, long)] == [published_at, None]


async def test_what_was_parked_is_to_be_published_where_its_wait_is_short(resources: Resources) -> None:
    """As what is sent at once: it is on no stream."""
    short, long = await start_attempts(resources, 2)
    await change(resources, "notification", [short, long], "published_at = null")
    answer = await tell(resources, short, **RETRY)
    row = await notification(resources, short)
    assert answer.published_at == row["published_at"] == row["updated_at"]
    assert (await tell(resources, long, **PARK)).published_at is None


async def test_where_nobody_knows_how_it_ended_a_further_attempt_is_a_possible_duplicate(resources: Resources) -> None:
    ends = {
        "sent": SENT,
        "retry": RETRY,
        "out of tries": NO_TRIES,
        "retry of unknown": RETRY_UNKNOWN,
        "unknown": NO_TRIES_UNKNOWN,
    }
    ids = dict(zip(ends, await start_attempts(resources, len(ends)), strict=True))
    await finish(resources, [ending(i, **ends[name]) for name, i in ids.items()])
    marked = {name for name, i in ids.items() if (await notification(resources, i))["possible_duplicate"]}
    assert marked == {"retry of unknown", "unknown"}
    assert not any([(await only_attempt(resources, i))["possible_duplicate"] for i in ids.values()]), "these were the first"


# ---- told twice, or too late


async def test_a_finish_whose_answer_was_lost_may_be_repeated(resources: Resources) -> None:
    ends = [SENT, REJECTED, NO_ANSWER, RETRY, PARK]
    endings = [ending(i, **how) for i, how in zip(await start_attempts(resources, len(ends)), ends, strict=True)]
    firsts = {f.id: f for f in await finish(resources, endings)}
    before = {e.id: dict(await only_attempt(resources, e.id)) for e in endings}
    for again in await finish(resources, endings):
        first = firsts[again.id]
        assert (again.recorded, again.status, again.attempt) == (False, first.status, 1)
        assert first.status.final or again.published_at == first.published_at
        assert again.due_in_s == pytest.approx(first.due_in_s, abs=2)
    assert {e.id: dict(await only_attempt(resources, e.id)) for e in endings} == before


async def test_a_final_row_hears_nothing_more(resources: Resources) -> None:
    ends = dict(zip(["SENT", "FAILED", "CANCELLED"], await start_attempts(resources, 3), strict=True))
    for status, i in ends.items():
        await change(resources, "notification", i, f"status = '{status}', reason = 'rejected'")
    answers = await finish(resources, [ending(i, **SENT) for i in ends.values()])
    assert {(a.id, a.status, a.recorded) for a in answers} == {(i, status, False) for status, i in ends.items()}
    assert not any([await attempts(resources, i) for i in ends.values()])


async def test_what_the_crash_rule_gave_up_and_was_sent_is_sent(resources: Resources) -> None:
    mine = await start_attempt(resources, lease_s=-1)
    await claim(resources, [mine], "other", lease_s=30, at_most_once=False, max_tries=1, calm_s=0)
    assert (await notification(resources, mine))["reason"] == "crashed"
    assert not (await tell(resources, mine, 1, **REJECTED)).recorded
    assert [a["outcome"] for a in await attempts(resources, mine)] == ["rejected"]
    late = await tell(resources, mine, 1, **SENT)
    assert (late.recorded, late.status) == (True, "SENT")
    assert [a["outcome"] for a in await attempts(resources, mine)] == ["sent"]


@pytest.mark.parametrize("end", ["CANCELLED", "FAILED"])
async def test_a_late_truth_is_told_in_its_attempt_where_the_row_ended_otherwise(resources: Resources, end: str) -> None:
    mine = await start_attempt(resources, lease_s=-1)
    await claim(resources, [mine], "other", lease_s=30, at_most_once=True, max_tries=3, calm_s=0)
    await replay_notifications(resources.pool, [mine])
    await change(resources, "notification", mine, f"status = '{end}', reason = 'expired'")
    late = await tell(resources, mine, 1, **SENT)
    assert (late.recorded, late.status) == (False, end)
    assert [a["outcome"] for a in await attempts(resources, mine)] == ["sent"]


async def test_only_the_number_of_the_claim_counts(resources: Resources) -> None:
    mine = await start_attempt(resources)
    for wrong in (0, 2):
        answer = await tell(resources, mine, wrong, **SENT)
        assert (answer.recorded, answer.status, answer.attempt) == (False, "PROCESSING", 1)


async def test_after_a_crash_claim_the_new_attempt_decides(resources: Resources) -> None:
    mine = await start_attempt(resources)
    await crash_claim(resources, mine)
    late = await tell(resources, mine, 1, **REJECTED)
    assert (late.recorded, late.status, late.attempt) == (False, "PROCESSING", 2)
    assert (await tell(resources, mine, 2, **SENT)).status == "SENT"
    first, second = await attempts(resources, mine)
    assert (first["number"], first["consumer"], first["possible_duplicate"]) == (1, "me", False)
    assert first["outcome"] == "rejected", "the truth about the old attempt is told all the same"
    assert (second["number"], second["consumer"], second["possible_duplicate"]) == (2, "successor", True)


async def test_an_outcome_that_comes_after_a_replay_is_told_in_its_attempt(resources: Resources) -> None:
    mine = await start_attempt(resources, Channel.SMS)
    await crash_claim(resources, mine, at_most_once=True)
    await replay_notifications(resources.pool, [mine])
    late = await tell(resources, mine, 1, **SENT)
    assert (late.recorded, late.status) == (False, "PENDING")
    assert (await only_attempt(resources, mine))["outcome"] == "sent"


async def test_an_id_without_a_row_gets_no_answer(resources: Resources) -> None:
    assert await finish(resources, [ending(10**15, **SENT)]) == []


# ---- a late truth beats UNKNOWN


async def test_a_late_truth_beats_the_crash_rule_and_is_written_over_its_attempt(resources: Resources) -> None:
    ends = [SENT, REJECTED, NO_TRIES, RETRY]
    ids = await start_attempts(resources, len(ends), Channel.SMS)
    await crash_claim(resources, ids, at_most_once=True)
    for i, how in zip(ids, ends, strict=True):
        assert (await notification(resources, i))["status"] == "UNKNOWN"
        assert (await tell(resources, i, **how)).recorded
        row, attempt = await notification(resources, i), await only_attempt(resources, i)
        assert (row["status"], row["reason"], row["error"]) == (how["status"], how.get("reason"), how.get("error"))
        assert (attempt["outcome"], attempt["error"], attempt["receipt"]) == (
            how["outcome"],
            how.get("error"),
            how.get("receipt"),
        )
        assert (attempt["consumer"], attempt["provider"]) == ("me", "scripted")


async def test_a_retry_that_follows_from_a_late_truth_is_parked(resources: Resources) -> None:
    """Its entry was acknowledged when the row became UNKNOWN."""
    mine = await start_attempt(resources, Channel.SMS)
    await crash_claim(resources, mine, at_most_once=True)
    answer = await tell(resources, mine, **RETRY)
    assert answer.published_at is None
    assert answer.due_in_s == pytest.approx(9, abs=0.1)


async def test_not_knowing_either_is_no_truth(resources: Resources) -> None:
    mine = await start_attempt(resources, Channel.SMS)
    await crash_claim(resources, mine, at_most_once=True)
    assert not (await tell(resources, mine, **NO_ANSWER)).recorded
    assert (await notification(resources, mine))["reason"] == "crashed"


# ---- release: nothing was sent


async def test_a_release_gives_the_try_back_and_records_no_attempt(resources: Resources) -> None:
    mine = await start_attempt(resources)
    assert await release(resources.pool, [(mine, 1)]) == {mine: False}
    assert await release(resources.pool, [(mine, 1)]) == {mine: False}, "asked again, because the answer was lost"
    row = await notification(resources, mine)
    assert (row["status"], row["attempt"], row["tries"], row["lease_until"]) == ("PENDING", 1, 0, None)
    assert row["published_at"] is not None
    assert await attempts(resources, mine) == []


async def test_a_release_that_comes_after_the_crash_rule_takes_unknown_back(resources: Resources) -> None:
    mine = await start_attempt(resources, Channel.SMS)
    await crash_claim(resources, mine, at_most_once=True)
    assert await release(resources.pool, [(mine, 1)]) == {mine: True}
    row, attempt = await notification(resources, mine), await only_attempt(resources, mine)
    assert (row["status"], row["reason"], row["error"], row["tries"], row["published_at"]) == ("PENDING", None, None, 0, None)
    assert (attempt["outcome"], attempt["error"]) == ("unavailable", "released: nothing was sent")


async def test_a_release_that_waits_for_the_crash_rule_takes_unknown_back(resources: Resources) -> None:
    """It began before the crash rule's row of the attempt was there to be seen."""
    mine = await start_attempt(resources, Channel.SMS)
    await change(resources, "notification", [mine], CRASHED)
    async with resources.pool.acquire() as successor, successor.transaction():
        pool: Any = successor
        await judge_claims(pool, [mine], "successor", lease_s=30, at_most_once=True, max_tries=3, calm_s=0)
        released = asyncio.ensure_future(release(resources.pool, [(mine, 1)]))
        await wait_until(lambda: waiting(resources, 1))
    assert await released == {mine: True}
    row, attempt = await notification(resources, mine), await only_attempt(resources, mine)
    assert (row["status"], row["tries"]) == ("PENDING", 0)
    assert (attempt["outcome"], attempt["error"]) == ("unavailable", "released: nothing was sent")


async def test_a_release_touches_no_row_that_has_a_new_owner_or_an_end(resources: Resources) -> None:
    taken, ended = await start_attempts(resources, 2)
    await crash_claim(resources, taken)
    await tell(resources, ended, **SENT)
    assert await release(resources.pool, [(taken, 1), (ended, 1), (10**15, 1)]) == {}
    assert [(await notification(resources, i))["status"] for i in (taken, ended)] == ["PROCESSING", "SENT"]


# ---- what providers say, and batches


async def test_whatever_a_provider_says_can_be_recorded(resources: Resources) -> None:
    kept = {
        "a\x00b": "a\ufffdb",
        "lone \ud800 and \udfff": "lone \ufffd and \ufffd",
        "x" * 100_000: "x" * 2_000,
        "\x00" * 100_000: "\ufffd" * 2_000,
        "\U0001f600" * 100_000: "\U0001f600" * 2_000,
        "": "",
    }
    for how in (SENT, REJECTED):
        ids = await start_attempts(resources, len(kept))
        said = [{"error": None if how is SENT else text, "receipt": text, "provider": text} for text in kept]
        await finish(resources, [ending(i, **{**how, **texts}) for i, texts in zip(ids, said, strict=True)])
        for i, text in zip(ids, kept.values(), strict=True):
            attempt, error = await only_attempt(resources, i), None if how is SENT else text
            assert (attempt["error"], attempt["receipt"], attempt["provider"]) == (error, text, text)
            assert (await notification(resources, i))["error"] == error


async def test_an_end_that_postgresql_refuses_spoils_no_other(resources: Resources) -> None:
    good, bad, better = await start_attempts(resources, 3)
    without_reason = {**REJECTED, "reason": None}
    answers = await finish(resources, [ending(good, **SENT), ending(bad, **without_reason), ending(better, **REJECTED)])
    assert {a.id: a.status for a in answers} == {good: "SENT", better: "FAILED"}
    assert (await notification(resources, bad))["status"] == "PROCESSING"


@pytest.mark.parametrize("act", ["finish", "finish at length", "release"])
async def test_rows_are_locked_in_the_order_of_their_ids(resources: Resources, act: str) -> None:
    ids = await start_attempts(resources, 40)

    async def call(connection: Any) -> None:
        if act == "finish":
            await finish(replace(resources, hot=connection), [ending(i, **SENT) for i in reversed(ids)])
        elif act == "finish at length":
            await judge_endings(connection, [ending(i, **SENT) for i in reversed(ids)])
        else:
            await release(connection, [(i, 1) for i in reversed(ids)])

    assert await locked_before(resources, "notification", ids, call, resources.hot if act == "finish" else None) == ids[:20]


async def test_a_refund_gives_the_try_back_once(resources: Resources) -> None:
    notification_id = await start_attempt(resources)
    for _ in range(2):  # the second is a repetition, its answer was lost
        await tell(resources, notification_id, **{**RETRY, "refund": True})
    row = await notification(resources, notification_id)
    assert (row["status"], row["attempt"], row["tries"]) == ("PENDING", 1, 0)
    assert (await only_attempt(resources, notification_id))["outcome"] == "unavailable"
