"""Limits end to end: a channel's sends per second, a user over the limit with policy defer, a provider that asks for a pause."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.accept import Acceptor
from app.domain import Channel
from app.lua import CHANNEL_TOKENS
from app.resources import Resources, open_resources
from app.settings import Settings
from app.streams import Entry, limit_key
from consumers.channel_limit import ChannelLimit
from consumers.database import Database
from consumers.route import Route
from consumers.settle import Acknowledge
from tests.integration.consuming import consuming
from tests.support import add_events, change, event

Wait = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[tuple[Resources, Acceptor]]:
    """A consumer process and an acceptor, in this process."""
    async with open_resources(settings, "test") as resources, Acceptor(resources).running() as acceptor, consuming(resources):
        yield resources, acceptor


async def counts(resources: Resources) -> dict[str, int]:
    return {r["status"]: r["n"] for r in await resources.pool.fetch("select status, count(*) n from notification group by 1")}


async def test_a_channel_sends_no_faster_than_its_limit(make_settings: Callable[..., Settings], wait_until: Wait) -> None:
    async with working(make_settings(email_max_per_s=40)) as (resources, acceptor):
        await asyncio.gather(*(acceptor.accept(event(user_id=f"user-{n}", channels=(Channel.EMAIL,))) for n in range(60)))
        await wait_until(lambda: all_sent(resources, 60))
        starts = [r[0].timestamp() for r in await resources.pool.fetch("select started_at from attempt order by 1")]
    burst = 2  # a twentieth; as many again may have been kept from an earlier read
    assert starts[-1] - starts[0] >= (60 - 2 * burst) / 40 - 0.05
    for first, begun in enumerate(starts):
        assert sum(begun <= later < begun + 0.5 for later in starts[first:]) <= 0.5 * 40 + 2 * burst + 1


async def all_sent(resources: Resources, notifications: int) -> bool:
    return await counts(resources) == {"SENT": notifications}


async def test_two_processes_share_a_channels_tokens(resources: Resources) -> None:
    one, two = (ChannelLimit(resources.redis, "EMAIL", 100) for _ in range(2))
    assert await one.allowed(100) == 5
    assert await two.allowed(100) < 5, "the burst is gone"


async def test_unused_tokens_are_kept_for_the_next_read(resources: Resources) -> None:
    limit = ChannelLimit(resources.redis, "SMS", 20)
    assert await limit.allowed(10) == 1
    limit.used(0)
    before = await resources.redis.get(limit_key("SMS"))
    assert await limit.allowed(1) == 1
    assert await resources.redis.get(limit_key("SMS")) == before, "nothing was asked for"


async def test_the_channels_bucket_in_a_row_of_calls(resources: Resources) -> None:
    """A bucket of 3 with a token an hour: what each call wants, and what it is granted."""
    for wanted, granted in ((1, 1), (5, 2), (1, 0)):
        answer: Any = await CHANNEL_TOKENS(resources.redis, ["tidings:{0}:limit:test"], [3, 3_600_000_000, wanted])
        assert answer[0] == granted
    assert 3_590_000_000 < answer[1] <= 3_600_000_000
    assert await resources.redis.pttl("tidings:{0}:limit:test") > 0


async def test_over_the_users_limit_policy_defer_sends_later_and_fails_nothing(
    make_settings: Callable[..., Settings], wait_until: Wait
) -> None:
    settings = make_settings(rate_limit_policy="defer", rate_limit_per_user=2, rate_limit_window_s=1)
    async with working(settings) as (resources, acceptor):
        await asyncio.gather(*(acceptor.accept(event(channels=(Channel.PUSH,))) for _ in range(5)))
        await wait_until(lambda: all_sent(resources, 5))
        routed = [r[0].timestamp() for r in await resources.pool.fetch("select created_at from notification order by 1")]
    assert routed[-1] - routed[0] >= 1.4, "two at once, then one each half second"


async def test_no_preference_to_be_told_means_no_token_is_spent(make_settings: Callable[..., Settings], wait_until: Wait) -> None:
    async with working(make_settings(rate_limit_per_user=1)) as (resources, acceptor):
        await resources.pool.execute("insert into preference values ('ann', false, false, false)")
        await acceptor.accept(event(user_id="ann"))
        await wait_until(lambda: resources.pool.fetchval("select count(*) = 1 from event where status = 'ROUTED'"))
        await resources.pool.execute("update preference set push_opt_in = true")
        await acceptor.accept(event(user_id="ann"))
        await wait_until(lambda: all_sent(resources, 1))


async def test_an_event_that_takes_no_channel_costs_those_after_it_nothing(
    make_settings: Callable[..., Settings], wait_until: Wait
) -> None:
    async with open_resources(make_settings(rate_limit_per_user=1), "test") as resources:
        await resources.pool.execute("insert into preference values ('ann', true, false, true)")
        silent = await add_events(resources, *(event(user_id="ann", channels=(Channel.SMS,)) for _ in range(3)))
        expired, sent, over = await add_events(resources, *(event(user_id="ann", channels=(Channel.EMAIL,)) for _ in range(3)))
        await change(resources, "event", expired, "expires_at = now()")
        settled, handler = list[object](), Route(resources, Database())
        for batch in ([expired, *silent, sent], [over]):
            entries = [Entry(b"%d-1" % pk, pk, 1) for pk in batch]
            await handler(entries, lambda _entry, verdict: settled.append(verdict))
        rows = await resources.pool.fetch("select event_pk, status from notification order by id")
    assert [tuple(r) for r in rows] == [(sent, "PENDING"), (over, "FAILED")]
    assert settled == [Acknowledge()] * 6


async def test_tokens_kept_while_idle_never_add_up_to_more_than_a_burst(resources: Resources) -> None:
    limit = ChannelLimit(resources.redis, "EMAIL", 1000)
    for _ in range(5):
        assert await limit.allowed(500) <= 50
        await resources.redis.delete(limit_key("EMAIL"))  # as if a long idle time had filled the bucket again
    assert await limit.allowed(500) == 50


@pytest.mark.parametrize("fault", ["CONFIG SET maxmemory 1", "SET tidings:{0}:bucket:ann nonsense EX 60"])
async def test_where_redis_refuses_the_bucket_events_are_routed_all_the_same(
    resources: Resources, wait_until: Wait, fault: str
) -> None:
    """Out of memory, only routing empties the stream that fills it. Bob's bucket, charged first, still expires."""
    pks = await add_events(resources, event("evt-1", user_id="bob"), event("evt-2", user_id="ann"))
    settled: list[object] = []
    await resources.redis.execute_command(*fault.split())
    try:
        entries = [Entry(b"%d-1" % pk, pk, 1) for pk in pks]
        await Route(resources, Database())(entries, lambda _entry, verdict: settled.append(verdict))
    finally:
        await resources.redis.config_set("maxmemory", 0)
    assert settled == [Acknowledge(), Acknowledge()]
    assert await counts(resources) == {"PENDING": 6}
