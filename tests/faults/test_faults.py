"""The promise, on real processes: kill -9 in mid-send, FLUSHALL under load, the same event posted 100 times at once, SIGTERM.

After each fault: every accepted event is final, nothing was sent twice without its record saying so, and the streams are empty.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from app import streams
from app.accept import Accepted, Acceptor
from app.resources import Resources
from app.settings import Settings
from tests.processes import api_process, environment, process
from tests.support import event

Wait = Callable[..., Awaitable[Any]]
CONSUMERS = ["consumers"]
SLOW = {f"simulated_{channel}_latency_ms": 400 for channel in ("email", "sms", "push")}


async def all_final(pool: "asyncpg.Pool[asyncpg.Record]", events: int) -> bool:
    """Is each of `events` events routed, with three final notifications?"""
    counted = await pool.fetchrow(
        "select (select count(*) from event where status = 'ROUTED') events, (select count(*) from notification where done) final"
    )
    return counted is not None and (counted["events"], counted["final"]) == (events, 3 * events)


async def carried(resources: Resources) -> int:
    return sum([await resources.redis.xlen(stream) for stream in streams.WORK_STREAMS])


async def nothing_carried(resources: Resources) -> bool:
    return not await carried(resources)


async def processing(pool: "asyncpg.Pool[asyncpg.Record]") -> int:
    count: int = await pool.fetchval("select count(*) from notification where status = 'PROCESSING'")
    return count


async def post_all(acceptor: Acceptor, count: int) -> None:
    answers = await asyncio.gather(*(acceptor.accept(event(user_id=f"user_{n}")) for n in range(count)))
    assert Counter(answers) == {Accepted.NEW: count}


async def test_a_consumer_killed_in_mid_send_loses_nothing_and_says_what_may_be_doubled(
    resources: Resources, make_settings: Callable[..., Settings], tmp_path: Path, wait_until: Wait
) -> None:
    env, pool = environment(make_settings(**SLOW)), resources.pool
    async with Acceptor(resources).running() as acceptor:
        with process(CONSUMERS, env, tmp_path) as doomed:
            await post_all(acceptor, 40)
            await wait_until(lambda: processing(pool))
            os.kill(doomed.pid, signal.SIGKILL)
            doomed.wait()
        cut = {
            r["id"]: r["channel"] for r in await pool.fetch("select id, channel from notification where status = 'PROCESSING'")
        }
        assert cut
        with process(CONSUMERS, env, tmp_path):
            await wait_until(lambda: all_final(pool, 40), within_s=20)
            await wait_until(lambda: nothing_carried(resources))
    rows = await pool.fetch("select id, channel, status, reason, attempt, possible_duplicate from notification order by id")
    for row in rows:
        interrupted = row["id"] in cut
        if interrupted and row["channel"] == "EMAIL":  # at least once: sent again, and marked
            assert (row["status"], row["attempt"], row["possible_duplicate"]) == ("SENT", 2, True)
        elif interrupted:  # at most once: nobody knows, nobody repeats
            assert (row["status"], row["reason"], row["attempt"]) == ("UNKNOWN", "crashed", 1)
        else:
            assert (row["status"], row["attempt"], row["possible_duplicate"]) == ("SENT", 1, False)
    outcomes = await pool.fetch("select outcome from attempt where notification_id = any($1) and number = 1", list(cut))
    assert [r["outcome"] for r in outcomes] == ["unknown"] * len(cut)


async def test_flushall_under_load_loses_nothing_and_doubles_nothing(
    resources: Resources, make_settings: Callable[..., Settings], tmp_path: Path, wait_until: Wait
) -> None:
    settings, pool, accepted, flushes = make_settings(rate_limit_per_user=1_000_000), resources.pool, 0, 0
    with process(CONSUMERS, environment(settings), tmp_path):
        async with Acceptor(resources).running() as acceptor:
            while flushes < 8 or accepted < 2000:
                await post_all(acceptor, 50)
                accepted += 50
                if await carried(resources):
                    await resources.redis.flushall()
                    flushes += 1
        await wait_until(lambda: all_final(pool, accepted), within_s=20)
        await wait_until(lambda: nothing_carried(resources))
    assert await pool.fetchval("select count(*) from attempt") == 3 * accepted, "one call to the provider for each notification"
    counted = await pool.fetch("select status, possible_duplicate, count(*) from notification group by 1, 2")
    assert [tuple(r) for r in counted] == [("SENT", False, 3 * accepted)]


async def test_the_same_event_posted_100_times_at_once_is_sent_once(
    resources: Resources, settings: Settings, tmp_path: Path, wait_until: Wait
) -> None:
    body: dict[str, object] = {
        "eventId": "evt-1",
        "eventType": "T",
        "userId": "u",
        "payload": {},
        "timestamp": "2026-03-31T16:30:00Z",
    }
    with api_process(settings, tmp_path) as address, process(CONSUMERS, environment(settings), tmp_path):
        async with aiohttp.ClientSession(address) as client:
            await wait_until(lambda: answers(client))
            answered = await asyncio.gather(*(post(client, body) for _ in range(100)))
            assert Counter(answered) == {(202, False): 1, (202, True): 99}
            assert (await post(client, {**body, "eventType": "other"}))[0] == 409
        await wait_until(lambda: all_final(resources.pool, 1))
    assert [tuple(r) for r in await resources.pool.fetch("select status, attempt from notification")] == [("SENT", 1)] * 3


async def test_sigterm_finishes_what_is_in_hand_and_leaves_the_rest(
    resources: Resources, make_settings: Callable[..., Settings], tmp_path: Path, wait_until: Wait
) -> None:
    settings, pool = make_settings(**SLOW, email_concurrency=5, sms_concurrency=5, push_concurrency=5), resources.pool
    async with Acceptor(resources).running() as acceptor:
        with process(CONSUMERS, environment(settings), tmp_path) as consumers:
            await post_all(acceptor, 40)
            await wait_until(lambda: processing(pool))
            consumers.send_signal(signal.SIGTERM)
            await wait_until(lambda: consumers.poll() is not None)
    assert consumers.returncode == 0
    statuses = {r["status"] for r in await pool.fetch("select distinct status from notification")}
    assert statuses == {"SENT", "PENDING"}, "what was in mid-send was recorded, the rest was not begun"
    for stream in streams.WORK_STREAMS:
        assert (await resources.redis.xpending(stream, streams.GROUP))["pending"] == 0


async def answers(client: aiohttp.ClientSession) -> bool:
    try:
        async with client.get("/readyz") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def post(client: aiohttp.ClientSession, body: dict[str, object]) -> tuple[int, bool | None]:
    async with client.post("/api/events", json=body) as response:
        return response.status, (await response.json()).get("duplicate")
