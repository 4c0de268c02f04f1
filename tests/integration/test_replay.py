"""Replay by filter: what matches, once each, no faster than asked, and stopped anywhere without harm."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from app import replay
from app.domain import Channel, Reason, Status
from app.replay import Progress, act, plan, step_of
from app.resources import Resources
from app.store import replay as statements
from app.store.replay import Counted, CountTooSlow, Wanted, replay_batch
from tests.integration.consuming import consuming
from tests.support import Scripted, add_events, add_notification, add_notifications, change, event, notification, race

Wait = Callable[..., Awaitable[Any]]
FAILED = Wanted()


async def end(resources: Resources, ids: int | list[int], reason: str = Reason.OUT_OF_TRIES, **other: str) -> None:
    """They end FAILED, a minute ago; `other` is SQL per column."""
    told = {"status": "'FAILED'", "reason": f"'{reason}'", "attempt": "3", "tries": "3", **other}
    told = {"updated_at": "now() - interval '1 min'", **told}
    await change(resources, "notification", ids, ", ".join(f"{column} = {value}" for column, value in told.items()))


async def failed(resources: Resources, number: int, channel: Channel = Channel.EMAIL, **other: str) -> list[int]:
    ids = await add_notifications(resources, number, channel)
    await end(resources, ids, **other)
    return ids


async def replayed(resources: Resources, wanted: Wanted = FAILED, rate: float = 100, limit: int | None = None) -> list[Progress]:
    planned = await plan(resources.pool, wanted)
    return [progress async for progress in act(resources.pool, planned, rate, limit)]


async def owed(resources: Resources) -> list[int]:
    """The notifications that were replayed and wait for the relay."""
    query = "select id from notification where status = 'PENDING' and replays = 1 and published_at is null order by id"
    return [r["id"] for r in await resources.pool.fetch(query)]


async def due(resources: Resources) -> list[datetime]:
    return [r["due_at"] for r in await resources.pool.fetch("select due_at from notification where replays = 1 order by id")]


async def waits(resources: Resources) -> bool:
    query = "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')"
    return bool(await resources.pool.fetchval(query))


def steps(instants: list[datetime]) -> list[timedelta]:
    return [later - earlier for earlier, later in pairwise(instants)]


# ---- which


FILTERS: dict[str, tuple[Wanted, dict[str, str]]] = {
    "status": (Wanted(Status.UNKNOWN), {"status": "'UNKNOWN'", "reason": "crashed"}),
    "channel": (Wanted(channel=Channel.SMS), {"channel": "'SMS'"}),
    "reason": (Wanted(reason=Reason.REJECTED), {"reason": "rejected"}),
    "user": (Wanted(user_id="user_9"), {"user_id": "'user_9'"}),
    "since": (Wanted(since=datetime(2026, 1, 2, tzinfo=UTC)), {"updated_at": "'2026-01-02Z'"}),
    "until": (Wanted(until=datetime(2026, 1, 2, tzinfo=UTC)), {"updated_at": "'2026-01-01 23:59:59.999999Z'"}),
    "all": (Wanted(Status.UNKNOWN, False, Channel.PUSH, Reason.CRASHED, "user_9", "ORDER_PLACED", *2 * (None,)),
            {"status": "'UNKNOWN'", "reason": "crashed", "channel": "'PUSH'", "user_id": "'user_9'"}),
}  # fmt: skip


@pytest.mark.parametrize("name", FILTERS)
async def test_a_filter_takes_what_matches_and_nothing_else(resources: Resources, name: str) -> None:
    wanted, matching = FILTERS[name]
    first, *others = await add_notifications(resources, 3)
    edge = "'2026-01-01 23:59:59.999999Z'" if name == "since" else "'2026-01-02Z'"
    await end(resources, others, updated_at=edge)
    await end(resources, first, **({"updated_at": edge} | matching))
    planned = await plan(resources.pool, wanted)
    assert planned.matching == 1
    await replayed(resources, wanted)
    assert await owed(resources) == [first]


async def test_what_somebody_gave_up_is_taken_only_by_name(resources: Resources) -> None:
    given_up, other = await add_notifications(resources, 2)
    await end(resources, other)
    await end(resources, given_up, reason="discarded")
    assert (await plan(resources.pool, Wanted())).matching == 1
    await replayed(resources, Wanted())
    assert await owed(resources) == [other]
    await replayed(resources, Wanted(reason=Reason.DISCARDED))
    assert await owed(resources) == sorted([given_up, other])


async def test_a_filter_by_the_type_of_the_event(resources: Resources) -> None:
    other, wanted = await add_notification(resources), await add_notification(resources, type="REFUND")
    await end(resources, [other, wanted])
    assert (await plan(resources.pool, Wanted(event_type="REFUND"))).matching == 1
    await replayed(resources, Wanted(event_type="REFUND"))
    assert await owed(resources) == [wanted]


@pytest.mark.parametrize("status", [Status.PENDING, Status.PROCESSING, Status.SENT, Status.CANCELLED, Status.UNKNOWN])
async def test_of_other_statuses_none_is_touched(resources: Resources, status: Status) -> None:
    row_id = await add_notification(resources)
    lease = "claimed_by = 'me', claimed_at = now(), lease_until = now() + interval '30 s'"
    await change(resources, "notification", row_id, f"status = '{status}', reason = 'cancelled', {lease}")
    assert (await plan(resources.pool, FAILED)).matching == 0
    assert await replayed(resources) == []


async def test_unknown_ones_are_marked(resources: Resources) -> None:
    (row_id,) = await failed(resources, 1, status="'UNKNOWN'", reason="crashed")
    await replayed(resources, Wanted(Status.UNKNOWN))
    row = await notification(resources, row_id)
    assert (row["possible_duplicate"], row["tries"], row["attempt"], row["reason"]) == (True, 0, 3, None)


async def test_failed_events_are_routed_again_by_the_same_filter(resources: Resources) -> None:
    dead, expired, other = await add_events(resources, event(), event(), event(type="REFUND"))
    await change(resources, "event", [dead, other], "status = 'FAILED', reason = 'dead_letter'")
    await change(resources, "event", expired, "status = 'FAILED', reason = 'expired'")
    wanted = Wanted(events=True, reason=Reason.DEAD_LETTER, event_type="ORDER_PLACED", user_id="user_123")
    planned = await plan(resources.pool, wanted)
    assert planned.counts == (Counted(None, "dead_letter", 1, 0),)
    assert [p.replayed for p in await replayed(resources, wanted)] == [1]
    rows = await resources.pool.fetch("select id, status, reason from event where published_at is null")
    assert [tuple(r) for r in rows] == [(dead, "NEW", None)]


# ---- how many


async def test_the_count_is_by_channel_and_reason_and_tells_the_doubtful(resources: Resources) -> None:
    await failed(resources, 2)
    await failed(resources, 1, possible_duplicate="true")
    await failed(resources, 1, Channel.SMS, reason="rate_limited")
    planned = await plan(resources.pool, FAILED)
    assert planned.counts == (Counted("EMAIL", "out_of_tries", 3, 1), Counted("SMS", "rate_limited", 1, 0))
    assert (planned.matching, planned.more, planned.doubtful) == (4, False, 1)


async def test_the_count_stops_at_its_most(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    await failed(resources, 4)
    for module in (replay, statements):
        monkeypatch.setattr(module, "COUNT_MAX", 3)
    planned = await plan(resources.pool, FAILED)
    assert (planned.matching, planned.more) == (3, True)
    assert (await replayed(resources))[-1].replayed == 4


async def test_a_count_that_takes_too_long_is_given_up(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "COUNT_WITHIN_S", 0.05)
    async with resources.pool.acquire() as holder, holder.transaction():
        await holder.execute("lock table notification")
        with pytest.raises(CountTooSlow):
            await plan(resources.pool, FAILED)
    assert await resources.pool.fetchval("show statement_timeout") == "0", "the limit was the count's alone"


async def test_a_limit_takes_the_oldest(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "BATCH", 2)
    ids = await failed(resources, 6)
    assert [p.replayed for p in await replayed(resources, limit=5)] == [2, 4, 5]
    assert await owed(resources) == ids[:5]


# ---- how fast


async def test_rows_are_due_exactly_one_step_apart_over_all_batches(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "BATCH", 3)
    await failed(resources, 8)
    before = await resources.pool.fetchval("select now()")
    told = await replayed(resources, rate=3)
    instants = await due(resources)
    assert steps(instants) == [timedelta(microseconds=333_334)] * 7, "rounded up: never faster"
    assert before <= instants[0] <= await resources.pool.fetchval("select now()")
    assert [p.replayed for p in told] == [3, 6, 8]
    assert told[-1].last_due_at == instants[-1]


async def test_a_replay_begins_where_the_one_before_it_ends(resources: Resources) -> None:
    await failed(resources, 3)
    await replayed(resources, rate=1)
    await failed(resources, 3)
    await replayed(resources, rate=10)
    assert steps(await due(resources)) == [timedelta(seconds=s) for s in (1, 1, 0.1, 0.1, 0.1)]


async def test_another_channel_waits_for_none_and_neither_do_retries_count(resources: Resources) -> None:
    await failed(resources, 2)
    await replayed(resources, rate=0.1)
    await change(resources, "notification", await add_notification(resources, Channel.SMS), "tries = 1, " + LATER)
    (sms,) = await failed(resources, 1, Channel.SMS)
    await replayed(resources, Wanted(channel=Channel.SMS))
    assert (await notification(resources, sms))["due_in_s"] <= 0


LATER = "due_at = now() + interval '1 h', published_at = null"


@pytest.mark.parametrize(("rate", "step_us"), [(0.1, 10_000_000), (100, 10_000), (3, 333_334), (10_000, 100)])
def test_the_step_is_rounded_up(rate: float, step_us: int) -> None:
    assert step_of(rate) == timedelta(microseconds=step_us)


# ---- once


async def test_of_two_at_once_each_row_is_replayed_by_one(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "BATCH", 4)
    ids = await failed(resources, 10)
    told = await race(resources, "notification", ids, [lambda: replayed(resources, limit=10)] * 2)
    rows = await resources.pool.fetch("select status, replays from notification")
    assert {tuple(r) for r in rows} == {("PENDING", 1)}
    assert sum(one[-1].replayed for one in told if one) == 10


async def test_what_failed_again_meanwhile_is_left_to_the_next_replay(resources: Resources) -> None:
    """Another run replays it, and it fails again, between the look of this one and its act."""
    first, second = await failed(resources, 2)
    planned = await plan(resources.pool, FAILED)
    await replayed(resources, limit=1)
    await end(resources, first, updated_at="clock_timestamp()")
    assert [p.replayed async for p in act(resources.pool, planned, 100)] == [1]
    assert [(await notification(resources, row_id))["replays"] for row_id in (first, second)] == [1, 1]


async def test_a_row_that_failed_again_while_its_batch_waited_is_left_alone(resources: Resources, wait_until: Wait) -> None:
    """The batch has found the row, and waits for it: replayed and failed again by others, it has another end."""
    (row_id,) = await failed(resources, 1)
    planned = await plan(resources.pool, FAILED)
    now = datetime.now(UTC)

    async def batch() -> Any:
        return await replay_batch(resources.pool, FAILED, planned.as_of, 0, 10, now, step_of(100))

    async with resources.pool.acquire() as holder:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("update notification set updated_at = clock_timestamp() where id = $1", row_id)
        running = asyncio.ensure_future(batch())
        await wait_until(lambda: waits(resources))
        await transaction.commit()
        answer = await running
    assert (answer.seen, answer.moved) == (1, 0)
    assert (await notification(resources, row_id))["status"] == "FAILED"


async def test_killed_between_two_batches_it_leaves_a_prefix_and_the_same_again_takes_the_rest(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "BATCH", 3)
    ids = await failed(resources, 8)
    batches = 0

    async def dies_before_the_third(*arguments: Any) -> Any:
        nonlocal batches
        batches += 1
        if batches == 3:
            raise ConnectionResetError("killed")
        return await replay_batch(*arguments)

    monkeypatch.setattr(replay, "replay_batch", dies_before_the_third)
    with pytest.raises(ConnectionResetError):
        await replayed(resources)
    assert await owed(resources) == ids[:6]
    await replayed(resources)
    assert await owed(resources) == ids, "each once"
    assert steps(await due(resources)) == [timedelta(milliseconds=10)] * 7, "the rate holds over both"


# ---- to the end


async def test_replayed_ones_are_delivered_once_each(resources: Resources, wait_until: Wait) -> None:
    provider = Scripted()
    ids = await failed(resources, 5) + await failed(resources, 5, Channel.SMS, status="'UNKNOWN'", reason="no_answer")

    async def all_sent() -> bool:
        return bool(await resources.pool.fetchval("select count(*) = 10 from notification where status = 'SENT'"))

    async with consuming(resources, provider):
        for _ in range(2):
            await replayed(resources, FAILED, rate=1000)
            await replayed(resources, Wanted(Status.UNKNOWN), rate=1000)
        await wait_until(all_sent)
    assert {key: len(calls) for key, calls in provider.calls.items()} == {f"{row_id}-1": 1 for row_id in ids}
    marked = await resources.pool.fetch("select channel, bool_and(possible_duplicate) from notification group by 1 order by 1")
    assert [tuple(r) for r in marked] == [("EMAIL", False), ("SMS", True)]
