"""The mailbox and the fault panel on real servers: what was sent is seen; a fault reaches the consumers and ends by itself."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
from redis.exceptions import RedisError

from app.domain import Channel
from app.faults import KEEP_S, Fault, Kind, clear_fault, read_faults, set_fault
from app.process import free_port
from app.resources import Resources, open_redis
from app.settings import Settings
from app.store.direct import NewDirect, insert_direct
from app.streams import fault_key
from consumers import faults as following
from consumers.faults import follow_faults
from consumers.providers.simulated import Simulated
from tests import support
from tests.integration.consuming import consuming
from tests.integration.test_web import BASE, browse, page
from web import mailbox_queries

Wait = Callable[..., Awaitable[Any]]
Make = Callable[..., Settings]


@pytest.fixture
async def browser(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async for client in browse(settings):
        yield client


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LOOK_EVERY_S", 0.02)


async def press(browser: httpx2.AsyncClient, fault: str, channel: str = "EMAIL", **change: str) -> httpx2.Response:
    """What a click on a button of the panel sends."""
    [token] = set(re.findall(r'name="token" value="([^"]*)"', await page(browser, "/faults")))
    return await browser.post(f"{BASE}/faults/set", data={"token": token, "channel": channel, "fault": fault, **change})


async def sent(resources: Resources, wait_until: Wait, *ids: int) -> None:
    query = "select bool_and(status = 'SENT') from notification where id = any($1)"
    await wait_until(lambda: resources.pool.fetchval(query, list(ids)))


async def test_what_was_sent_is_in_the_mailbox(browser: httpx2.AsyncClient, resources: Resources, wait_until: Wait) -> None:
    assert "Nothing was sent yet" in await page(browser, "/mailbox")
    ids = [await support.add_notification(resources, c, user_id="ann") for c in Channel]
    async with resources.pool.acquire() as connection:
        direct, _ = await insert_direct(
            connection, NewDirect("direct-1", "bob", Channel.SMS, "+49170", "Your code is 4711", b"x")
        )
    assert "On the way, or waiting for another try: 1 EMAIL, 1 PUSH, 2 SMS." in await page(browser, "/mailbox")
    await resources.pool.execute("update notification set published_at = null")  # parked: the relay publishes all of it
    async with consuming(resources):
        await sent(resources, wait_until, *ids, direct.id)
    everything = await page(browser, "/mailbox")
    assert "Order amount: 250" in everything
    assert "Your code is 4711" in everything
    assert everything.count("<article") == 4
    assert (await page(browser, "/mailbox?user=bob")).count("<article") == 1
    assert (await page(browser, "/mailbox?channel=PUSH&user=ann")).count("<article") == 1
    assert "Nothing like this was sent" in await page(browser, "/mailbox?user=nobody")


async def test_what_another_provider_sent_is_not_shown(
    browser: httpx2.AsyncClient, resources: Resources, wait_until: Wait
) -> None:
    notification = await support.add_notification(resources)
    await resources.pool.execute("update notification set published_at = null")
    async with consuming(resources, support.Scripted()):
        await sent(resources, wait_until, notification)
    assert "Nothing was sent yet" in await page(browser, "/mailbox")


async def test_one_channel_is_paged(browser: httpx2.AsyncClient, resources: Resources) -> None:
    ids = await support.add_notifications(resources, 70)
    await support.change(resources, "notification", ids, "status = 'SENT', attempt = 1")
    await resources.pool.execute(
        "insert into attempt (notification_id, number, provider, consumer, started_at, ended_at, outcome) "
        "select id, 1, 'simulated', 'c', now(), now(), 'sent' from notification"
    )
    assert (await page(browser, "/mailbox")).count("<article") == 8
    shown, link = [], "/mailbox?channel=EMAIL"
    while link:
        answer = await page(browser, link)
        shown += [int(n) for n in re.findall(r'id="mail-(\d+)"', answer)]
        older = re.search(r'href="/admin/queues([^"]*)" rel="next"', answer)
        link = older[1].replace("&amp;", "&") if older else ""
    assert sorted(shown) == ids


async def test_a_backlog_that_was_never_tried_hides_nothing(
    browser: httpx2.AsyncClient, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox_queries, "LOOKED_AT", 3)
    ids = await support.add_notifications(resources, 10)
    await support.change(resources, "notification", ids[:2], "status = 'SENT', attempt = 2")
    await resources.pool.execute(
        "insert into attempt (notification_id, number, provider, consumer, started_at, ended_at, outcome) select id, number, "
        "'simulated', 'c', now(), now(), case number when 1 then 'unavailable' else 'sent' end "
        "from notification, generate_series(1, 2) as number where status = 'SENT'"
    )
    assert re.findall(r'id="mail-(\d+)"', await page(browser, "/mailbox")) == [str(i) for i in reversed(ids[:2])]


async def test_a_click_sets_a_fault_that_ends_by_itself(browser: httpx2.AsyncClient, resources: Resources) -> None:
    answer = await press(browser, "slow:10")
    assert answer.headers["location"] == f"{BASE}/faults?channel=EMAIL&set=slow%3A10"
    assert "EMAIL is made slow (10 s a call): the consumers follow" in (await browser.get(answer.headers["location"])).text
    [(channel, fault)] = (await read_faults(resources.redis)).items()
    assert (channel, fault.kind, fault.amount) == (Channel.EMAIL, Kind.SLOW, 10)
    assert KEEP_S - 5 < await resources.redis.ttl(fault_key(Channel.EMAIL)) <= KEEP_S
    assert "EMAIL is made slow" in await page(browser, "/mailbox")
    await press(browser, "busy:5")
    assert (await read_faults(resources.redis))[Channel.EMAIL].kind is Kind.BUSY, "in place of the other"
    await press(browser, "none")
    assert await read_faults(resources.redis) == {}
    actions = await resources.pool.fetch("select who, action, target, detail ->> 'fault' from audit order by id")
    assert [tuple(a) for a in actions] == [
        ("local", "set fault", "EMAIL", "slow (10 s a call)"),
        ("local", "set fault", "EMAIL", "busy (429, Retry-After 5.0 s)"),
        ("local", "clear fault", "EMAIL", None),
    ]


async def test_a_fault_reaches_the_consumers_and_goes_again(resources: Resources, wait_until: Wait) -> None:
    async def ends_as(status: str) -> bool:
        """Does a fresh SMS end like this?"""
        notification = await support.add_notification(resources, Channel.SMS)
        await support.change(resources, "notification", notification, "published_at = null")  # the relay publishes it
        ended = "select status from notification where id = $1 and done"
        return bool(await wait_until(lambda: resources.pool.fetchval(ended, notification)) == status)

    await set_fault(resources.redis, Channel.SMS, Fault(Kind.REJECTING))
    async with consuming(resources):
        await wait_until(lambda: ends_as("FAILED"))
        await clear_fault(resources.redis, Channel.SMS)
        await wait_until(lambda: ends_as("SENT"))


async def test_redis_away_the_fault_goes_on_until_its_end(
    make_settings: Make, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = Simulated(0, 0, 0)
    provider.current.hear(Fault(Kind.DOWN, left_s=1.5))
    redis = open_redis(make_settings(redis_url=f"redis://127.0.0.1:{free_port(0)}"))
    asked: list[Exception] = []

    async def reading(*read: Any) -> dict[Channel, Fault]:
        try:
            return await read_faults(*read)
        except RedisError as error:
            asked.append(error)
            raise

    monkeypatch.setattr(following, "read_faults", reading)
    follower = asyncio.ensure_future(follow_faults(redis, {Channel.SMS: provider}))
    await wait_until(lambda: asked)
    assert provider.current.now() is not None, "last known"
    await wait_until(lambda: provider.current.now() is None)
    assert not follower.done()
    follower.cancel()
    await redis.aclose()


async def test_nobody_follows_where_nothing_is_simulated(resources: Resources) -> None:
    await follow_faults(resources.redis, {Channel.SMS: support.Scripted()})


async def test_a_fault_without_an_end_is_not_obeyed(resources: Resources) -> None:
    key = fault_key(Channel.EMAIL)
    await resources.redis.hset(key, mapping={"kind": "down", "amount": "0"})
    assert await read_faults(resources.redis) == {}
    await resources.redis.expire(key, 60)
    assert (await read_faults(resources.redis))[Channel.EMAIL].kind is Kind.DOWN
    await resources.redis.hset(key, mapping={"kind": "nonsense", "amount": b"\xff"})
    assert await read_faults(resources.redis) == {}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"token": "x" * 43}, 403),
        ({"token": ""}, 403),
        ({"channel": "FAX"}, 400),
        ({"fault": "slow:1e999"}, 400),
        ({"fault": ""}, 400),
    ],
)
async def test_a_form_that_is_not_ours_or_makes_no_sense(
    browser: httpx2.AsyncClient, resources: Resources, change: dict[str, str], status: int
) -> None:
    assert (await press(browser, **{"fault": "down:0", **change})).status_code == status
    assert await read_faults(resources.redis) == {}


async def test_a_real_provider_gets_no_fault(make_settings: Make, resources: Resources) -> None:
    async for client in browse(make_settings(email_provider="http://127.0.0.1:1")):
        assert (await press(client, "down:0")).status_code == 400
    assert await read_faults(resources.redis) == {}


async def test_servers_away(make_settings: Make) -> None:
    away = f"127.0.0.1:{free_port(0)}"
    async for client in browse(make_settings(database_url=f"postgresql://postgres@{away}/tidings", redis_url=f"redis://{away}")):
        assert "PostgreSQL cannot be reached." in await page(client, "/mailbox", 503)
        assert "Redis cannot be reached." in await page(client, "/faults", 503)
        assert (await press_away(client)).status_code == 503


async def press_away(client: httpx2.AsyncClient) -> httpx2.Response:
    token = re.findall(r'name="token" value="([^"]*)"', await page(client, "/faults", 503))[0]
    return await client.post(f"{BASE}/faults/set", data={"token": token, "channel": "SMS", "fault": "down:0"})
