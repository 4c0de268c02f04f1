"""What redis-cli says and what the streams pages say agree: every number is held against the raw command that the page names."""

import re
import shlex
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx2
import pytest
from redis.asyncio import Redis

from app import streams
from app.domain import Channel, Outgoing
from app.resources import Resources
from app.settings import Settings
from app.streams import DEAD, EVENTS, GROUP, Entry
from tests.integration.test_web import browse
from tests.unit.ready_made import NOW
from tests.unit.test_pages import Document

MAIL = streams.channel_stream(Channel.EMAIL)
BASE = "/admin/queues"


@pytest.fixture
async def browser(settings: Settings, resources: Resources) -> AsyncIterator[httpx2.AsyncClient]:
    async for client in browse(settings):
        yield client


async def add(redis: Redis, number: int, stream: str = MAIL) -> None:
    await streams.publish(redis, stream, [Outgoing(n, f"evt-{n}", "ann", "ORDER_PLACED", NOW) for n in range(number)])


async def page(browser: httpx2.AsyncClient, path: str = "/streams", status: int = 200) -> Document:
    answer = await browser.get(BASE + path)
    assert answer.status_code == status, answer.text
    return Document(answer.text)


async def raw(redis: Any, command: str) -> Any:
    """What a command says, typed as on the page."""
    return await redis.execute_command(*shlex.split(command)[3:])  # after redis-cli -p PORT


def number_of(document: Document, command: str, tag: str = "td") -> list[str]:
    """What is in the cells that name this command."""
    found, words = [], iter(document.pairs)
    for name, attrs, text in words:
        if name == tag and attrs.get("title") == command:
            found.append(text)
    return found


async def entries(redis: Any, most: int | None = None) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """All mails on the stream, or the oldest so many."""
    return list(await redis.xrange(MAIL, count=most))


async def some_of_everything(redis: Any) -> None:
    """Mails unread, in hand, and in hand for the third time; two dead entries."""
    await streams.create_group(redis, MAIL)
    await add(redis, 7)
    await streams.read(redis, MAIL, "host-1-aa", 3, 1)
    await streams.read(redis, MAIL, "host-2-bb", 1, 1)
    [oldest] = await entries(redis, 1)
    await redis.xclaim(MAIL, GROUP, "host-2-bb", 0, [oldest[0]], retrycount=4)
    for reason in ("one", "two"):
        await streams.bury(redis, MAIL, Entry(b"1-1", None, 1, (b"a", b"b")), reason)


async def test_every_number_of_the_list_is_what_the_command_says(browser: httpx2.AsyncClient, resources: Resources) -> None:
    await some_of_everything(resources.redis)
    document = await page(browser)
    prefix = document.attributes("td", "title")[0].partition(" XLEN")[0]
    for stream in (EVENTS, MAIL, DEAD):
        length = f"{prefix} XLEN {shlex.quote(stream)}"
        assert number_of(document, length) == [str(await raw(resources.redis, length))]
    groups = f"{prefix} XINFO GROUPS {shlex.quote(MAIL)}"
    [group] = await resources.redis.xinfo_groups(MAIL)
    assert number_of(document, groups) == [str(group["lag"]), str(group["pending"])] == ["3", "4"]
    consumers = f"{prefix} XINFO CONSUMERS {shlex.quote(MAIL)} {GROUP}"
    assert number_of(document, consumers) == [str(len(await resources.redis.xinfo_consumers(MAIL, GROUP)))] == ["2"]


async def test_consumers_as_redis_tells_them(browser: httpx2.AsyncClient, resources: Resources) -> None:
    await some_of_everything(resources.redis)
    text = (await page(browser, "/streams/email")).text
    for consumer in await resources.redis.xinfo_consumers(MAIL, GROUP):
        host, pid, _ = consumer["name"].decode().split("-")
        assert re.search(rf"working EMAIL {host} {pid} {consumer['pending']} ", text), text


async def test_the_entries_with_their_fields_and_who_holds_them(browser: httpx2.AsyncClient, resources: Resources) -> None:
    await some_of_everything(resources.redis)
    document = await page(browser, "/streams/email")
    for entry_id, fields in await entries(resources.redis):
        assert entry_id.decode() in document.text
        assert all(value.decode() in document.text for value in fields.values())
    assert document.text.count("to be read") == 3
    assert "delivered 4 times" in document.text
    assert re.search(r"1 time 3 4 times 1", document.text)


async def test_dead_entries(browser: httpx2.AsyncClient, resources: Resources) -> None:
    await some_of_everything(resources.redis)
    text = (await page(browser, "/streams/dead")).text
    assert text.count("dead 1") >= 2
    assert "reason one" in text
    assert "reason two" in text


@pytest.mark.parametrize("order", ["", "&order=newest"])
async def test_paging_shows_each_entry_once(browser: httpx2.AsyncClient, resources: Resources, order: str) -> None:
    await add(resources.redis, 60)
    seen: list[str] = []
    link: str | None = f"/streams/email?x=1{order}"
    while link:
        document = await page(browser, link)
        seen += re.findall(r"\b\d{13}-\d+\b", document.text.partition("The commands")[0])
        more = [a["href"] for t, a in document.tags if t == "a" and a.get("rel") == "next"]
        link = str(more[0]).removeprefix(BASE) if more else None
    every = [entry_id.decode() for entry_id, _ in await entries(resources.redis)]
    assert seen == (every[::-1] if order else every)


async def test_nothing_there_and_nothing_known(browser: httpx2.AsyncClient, resources: Resources) -> None:
    assert "Empty: all that was put here is done." in (await page(browser, "/streams/sms")).text
    for path in ("/streams/nowhere", "/streams/", "/streams/a/b"):
        assert (await browser.get(BASE + path, follow_redirects=True)).status_code in (200, 404)
    for asked in ("after=x", "after=99999999999999999999999-0", "after=18446744073709551615-18446744073709551615", "order=%00"):
        await page(browser, f"/streams/email?{asked}")


async def test_a_key_of_another_kind_is_a_sentence(browser: httpx2.AsyncClient, resources: Resources) -> None:
    await resources.redis.set(MAIL, "x", ex=60)
    document = await page(browser, "/streams/email", 503)
    assert "Redis refused: WRONGTYPE" in document.text


async def test_a_big_stream_is_no_slower(browser: httpx2.AsyncClient, resources: Resources) -> None:
    """Redis' own account of its slowest command: reads of a stream of 100,000 entries, all pending, are bounded."""
    patient: Any = Redis.from_url(resources.settings.redis_url, legacy_responses=False)
    await streams.create_group(patient, MAIL)
    fill = "for n = 1, 100000 do redis.call('XADD', KEYS[1], '*', 'notification', n) end"
    await patient.execute_command("EVAL", fill, 1, MAIL)
    for _ in range(10):
        await patient.xreadgroup(GROUP, "host-1-aa", {MAIL: ">"}, count=10_000)
    await patient.config_set("slowlog-log-slower-than", 3000)
    await patient.slowlog_reset()
    for path in ("/streams", "/streams/email", "/streams/email?order=newest", ""):
        await page(browser, path)
    slow = [entry["command"] for entry in await patient.slowlog_get()]
    await patient.aclose()
    assert not slow


async def test_a_page_says_when_it_was_made(browser: httpx2.AsyncClient, resources: Resources) -> None:
    document = await page(browser, "")
    [made] = [a["datetime"] for t, a in document.tags if t == "time" and a.get("id") == "made"]
    assert abs((datetime.fromisoformat(str(made)) - await resources.pool.fetchval("select now()")).total_seconds()) < 60
