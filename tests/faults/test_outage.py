"""A provider is down: its channel pauses, costs no tries, probes now and then, and goes on at full speed once it answers."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from app import local, streams
from app.domain import Channel, Outgoing
from app.pauses import Pause, read_pauses, tell_pause
from app.resources import Resources, open_resources
from app.settings import Settings
from app.streams import GROUP, breaker_key, channel_stream
from consumers.breaker import FIRST_WAIT_S
from consumers.providers import BadCredentials, Message, Receipt, Rejected, Unavailable
from tests.integration.consuming import consuming
from tests.support import add_events, attempts, change, event, notification, route

Wait = Callable[..., Awaitable[Any]]
MakeSettings = Callable[..., Settings]
EMAIL = channel_stream(Channel.EMAIL)
BUSY = Unavailable("busy")
LOCKED_OUT = BadCredentials("answered 401: no such token")
R = 2.0  # the reclaim window of these tests
LONGEST_WAIT_S = R / 4


class Switch:
    """A provider that fails as `fault` says until it is None; `bad` keys are always answered 401."""

    name = "switch"

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault, self.bad = fault, set[str]()
        self.calls: list[tuple[float, Message]] = []

    async def send(self, message: Message) -> Receipt:
        self.calls.append((time.monotonic(), message))
        await asyncio.sleep(0)
        if message.idempotency_key in self.bad:
            raise LOCKED_OUT
        if self.fault is not None:
            raise self.fault
        return Receipt("taken")


async def owe(resources: Resources, number: int, channel: Channel = Channel.EMAIL, **other: Any) -> list[int]:
    """The ids of `number` notifications, each on its stream."""
    added = await route(resources, await add_events(resources, *(event(channels=(channel,), **other) for _ in range(number))))
    rows = [Outgoing(a.id, "e", "u", "T", a.published_at) for a in added]
    await streams.publish(resources.redis, channel_stream(channel), rows)
    return sorted(a.id for a in added)


async def statuses(resources: Resources) -> dict[str, int]:
    return {r["status"]: r["n"] for r in await resources.pool.fetch("select status, count(*) n from notification group by 1")}


async def all_sent(resources: Resources, number: int) -> bool:
    return await statuses(resources) == {"SENT": number} and not await resources.redis.xlen(EMAIL)


async def unread(resources: Resources) -> int:
    groups: Any = await resources.redis.xinfo_groups(EMAIL)
    return int(groups[0]["lag"])


async def used_memory(resources: Resources) -> int:
    return int((await resources.redis.info("memory"))["used_memory"])


async def paused(resources: Resources) -> list[Pause]:
    return (await read_pauses(resources.redis)).get(Channel.EMAIL, [])


async def test_an_outage_costs_few_calls_and_no_tries_and_all_is_sent_at_once_when_it_is_over(
    resources: Resources, make_settings: MakeSettings, wait_until: Wait
) -> None:
    settings, provider = make_settings(email_concurrency=50, email_waits_s=(0, 0.1, 0.1)), Switch(BUSY)
    async with open_resources(settings, "test") as mine:
        await owe(resources, 2000)
        memory = await used_memory(resources)
        async with consuming(mine, provider):
            await wait_until(lambda: len(provider.calls) >= settings.breaker_after)
            began = time.monotonic()
            await wait_until(lambda: time.monotonic() - began > 2)  # the outage
            probes = (time.monotonic() - began) / (FIRST_WAIT_S / 2) + 1
            assert len(provider.calls) <= settings.breaker_after + settings.email_concurrency + probes
            assert await unread(resources) >= 2000 - settings.email_concurrency - len(provider.calls)
            assert await resources.redis.xlen(EMAIL) == 2000
            assert await used_memory(resources) < memory + 2**20
            paid = await resources.pool.fetchval("select count(*) from notification where status = 'PENDING' and tries > 0")
            assert paid < settings.breaker_after, "who opened the circuit, and all after it, paid nothing"
            asked, provider.fault, healed = len(provider.calls), None, time.monotonic()
            await wait_until(lambda: all_sent(resources, 2000), within_s=20)
    assert provider.calls[asked][0] - healed < LONGEST_WAIT_S + 0.3
    assert await resources.pool.fetchval("select max(tries) from notification") <= 2


async def test_a_failure_while_paused_is_recorded_and_costs_no_try(resources: Resources, wait_until: Wait) -> None:
    provider = Switch(LOCKED_OUT)
    async with consuming(resources, provider):
        [one] = await owe(resources, 1)
        await wait_until(lambda: len(provider.calls) >= 3)
        provider.fault = None
        await wait_until(lambda: all_sent(resources, 1))
    row, tried = await notification(resources, one), await attempts(resources, one)
    assert [a["outcome"] for a in tried][-2:] == ["unavailable", "sent"]
    assert tried[0]["error"] == str(LOCKED_OUT)
    assert row["attempt"] == len(tried)
    assert row["tries"] <= 2
    assert not row["possible_duplicate"]


async def test_bad_credentials_pause_the_channel_and_fail_nobody(resources: Resources, wait_until: Wait) -> None:
    provider = Switch(LOCKED_OUT)
    async with consuming(resources, provider):
        await owe(resources, 300)
        [pause] = await wait_until(lambda: paused(resources))
        assert pause.reason == str(LOCKED_OUT)
        assert pause.since_s < 5
        await wait_until(lambda: len(provider.calls) > 3)  # the first, and probes
        assert (await statuses(resources)).keys() <= {"PENDING", "PROCESSING"}  # a probe may be under way
        provider.fault = None
        await wait_until(lambda: all_sent(resources, 300))
        await wait_until(lambda: nobody_paused(resources))


async def nobody_paused(resources: Resources) -> bool:
    try:
        return not await resources.redis.exists(breaker_key(Channel.EMAIL))
    except RedisError:  # by a connection from before Redis was killed
        return False


async def test_one_message_that_alone_is_locked_out_ends_and_the_others_are_sent(
    resources: Resources, make_settings: MakeSettings, wait_until: Wait
) -> None:
    provider = Switch()
    async with open_resources(make_settings(email_waits_s=(0, 0.1, 0.1)), "test") as mine:
        bad, *_ = await owe(resources, 5)
        provider.bad.add(f"{bad}-0")
        async with consuming(mine, provider):
            for _ in range(40):
                [good] = await owe(resources, 1)
                await wait_until(lambda good=good: is_final(resources, good))
    row = await notification(resources, bad)
    assert (row["status"], row["reason"]) == ("FAILED", "out_of_tries")
    assert (await statuses(resources))["FAILED"] == 1


async def is_final(resources: Resources, notification_id: int) -> bool:
    return bool((await notification(resources, notification_id))["done"])


async def test_a_provider_that_flaps_is_sent_to_while_it_answers(resources: Resources, wait_until: Wait) -> None:
    provider = Switch()
    async with consuming(resources, provider):
        for number in range(3):
            provider.fault = LOCKED_OUT
            await owe(resources, 100)
            await wait_until(lambda: paused(resources))
            provider.fault = None
            await wait_until(lambda number=number: all_sent(resources, 100 * (number + 1)))
    assert await resources.pool.fetchval("select max(tries) from notification") <= 2


async def test_a_consumer_that_is_paused_leaves_at_once(resources: Resources, wait_until: Wait) -> None:
    provider = Switch(BadCredentials("401", retry_after_s=60))
    async with consuming(resources, provider):
        await owe(resources, 300)
        await wait_until(lambda: paused(resources))
        began = time.monotonic()
    assert time.monotonic() - began < 0.6
    assert await paused(resources) == [], "who leaves takes its word back"


async def test_a_wait_that_the_provider_asks_for_is_kept(resources: Resources, wait_until: Wait) -> None:
    provider = Switch(BadCredentials("401", retry_after_s=1.5))
    async with consuming(resources, provider):
        await owe(resources, 1)
        await wait_until(lambda: len(provider.calls) == 2)
    assert provider.calls[1][0] - provider.calls[0][0] >= 1.5


async def test_each_process_judges_by_its_own_calls(resources: Resources, wait_until: Wait) -> None:
    """One cannot reach the provider, the other can: it sends what there is, and what the first put back."""
    cut_off, well = Switch(LOCKED_OUT), Switch()
    async with consuming(resources, cut_off):
        await owe(resources, 50)
        await wait_until(lambda: paused(resources))
        async with consuming(resources, well):
            await owe(resources, 200)
            await wait_until(lambda: all_sent(resources, 250))
        assert len(await paused(resources)) == 1


async def test_a_refusal_is_an_answer(resources: Resources, wait_until: Wait) -> None:
    provider = Switch(Rejected("no such address"))
    async with consuming(resources, provider):
        await owe(resources, 200)
        await wait_until(lambda: every_one(resources, 200, "FAILED"))
    assert len(provider.calls) == 200


async def every_one(resources: Resources, number: int, status: str) -> bool:
    return await statuses(resources) == {status: number}


async def test_what_nobody_knows_stays_unknown_where_no_repeat_is_allowed(
    resources: Resources, make_settings: MakeSettings, wait_until: Wait
) -> None:
    provider = Switch(ConnectionResetError("reset"))
    async with open_resources(make_settings(breaker_after=5, sms_concurrency=10), "test") as mine, consuming(mine, provider):
        await owe(resources, 100, Channel.SMS)
        await wait_until(lambda: len(provider.calls) > 12)
        unknown = await resources.pool.fetch("select reason, tries from notification where status = 'UNKNOWN'")
        assert {tuple(r) for r in unknown} == {("no_answer", 1)}
        assert len(unknown) <= len(provider.calls) < 30, "the others wait"
        provider.fault = None
        await wait_until(lambda: none_pending(resources))
    ended = await resources.pool.fetchval("select count(*) from notification where status = 'UNKNOWN'")
    assert ended == await resources.pool.fetchval("select count(*) from attempt where outcome = 'unknown'"), "none is repeated"


async def none_pending(resources: Resources) -> bool:
    return not (await statuses(resources)).keys() & {"PENDING", "PROCESSING"}


async def test_where_a_repeat_is_allowed_it_is_marked(
    resources: Resources, make_settings: MakeSettings, wait_until: Wait
) -> None:
    provider, quick = Switch(ConnectionResetError("reset")), make_settings(email_waits_s=(0, 0.1, 0.1))
    async with open_resources(quick, "test") as mine, consuming(mine, provider):
        await owe(resources, 120)
        await wait_until(lambda: paused(resources))
        provider.fault = None
        await wait_until(lambda: all_sent(resources, 120))
    counted = await resources.pool.fetch(
        "select possible_duplicate, tries > 1 again, max(tries) t from notification group by 1, 2"
    )
    assert {(r["possible_duplicate"], r["again"]) for r in counted} == {(True, True), (False, False)}
    assert max(r["t"] for r in counted) <= 2


async def test_what_expires_while_the_channel_is_paused_is_not_sent(resources: Resources, wait_until: Wait) -> None:
    provider = Switch(LOCKED_OUT)
    async with consuming(resources, provider):
        ids = await owe(resources, 10)
        await wait_until(lambda: paused(resources))
        await change(resources, "notification", ids, "expires_at = now()")
        await wait_until(lambda: every_one(resources, 10, "FAILED"))
    assert {r["reason"] for r in await resources.pool.fetch("select reason from notification")} == {"expired"}


async def test_0_switches_it_off(resources: Resources, make_settings: MakeSettings, wait_until: Wait) -> None:
    async with open_resources(make_settings(breaker_after=0, email_waits_s=(0,)), "test") as mine, consuming(mine, Switch(BUSY)):
        await owe(resources, 100)
        await wait_until(lambda: every_one(resources, 100, "FAILED"))


async def test_redis_goes_away_while_paused(resources: Resources, tmp_path: Path, wait_until: Wait) -> None:
    valkey, provider = local.start_valkey(tmp_path / "valkey", 0), Switch(LOCKED_OUT)
    settings = resources.settings.model_copy(update={"redis_url": valkey.url})
    try:
        async with open_resources(settings, "test") as mine, consuming(mine, provider):
            await owe(mine, 50)
            await wait_until(lambda: paused(mine))
            valkey.process.kill()
            valkey.process.wait()
            provider.fault = None
            valkey = local.start_valkey(tmp_path / "valkey", valkey.port, exactly=True)
            await wait_until(lambda: every_one(mine, 50, "SENT"))
            await wait_until(lambda: nobody_paused(mine))
    finally:
        valkey.stop()


async def test_what_was_not_told_again_does_not_count_and_is_swept_away(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = resources.redis
    await tell_pause(redis, Channel.EMAIL, Pause("gone", "x" * 10_000, 1, 1, 1))
    assert [p.consumer for p in await paused(resources)] == ["gone"]
    assert 0 < await redis.ttl(breaker_key(Channel.EMAIL)) <= 60
    monkeypatch.setattr("app.pauses.STALE_S", -1)
    assert await paused(resources) == []
    await tell_pause(redis, Channel.EMAIL, Pause("here", "why", 1, 1, 1))
    assert await redis.hkeys(breaker_key(Channel.EMAIL)) == [b"here"]


async def test_nonsense_under_the_key_is_no_pause(resources: Resources) -> None:
    key = breaker_key(Channel.EMAIL)
    await resources.redis.hset(key, mapping={"a": "\x00", "b": "{}", "c": "[]", "d": '{"told": "x"}'})
    await resources.redis.expire(key, 60)
    assert await read_pauses(resources.redis) == {}


async def test_a_second_process_finds_the_rest_pending_when_the_first_is_gone(resources: Resources, wait_until: Wait) -> None:
    async with consuming(resources, Switch(LOCKED_OUT)):
        await owe(resources, 50)
        await wait_until(lambda: paused(resources))
    assert (await resources.redis.xpending(EMAIL, GROUP))["pending"] > 0
    async with consuming(resources, Switch()):
        await wait_until(lambda: all_sent(resources, 50))
