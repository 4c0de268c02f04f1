"""Settings and engine on real servers: what they say of themselves, and a channel that is paused and resumed by a click."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest

from app.doctor.gather import gather_facts
from app.domain import Channel
from app.process import free_port
from app.resources import Resources
from app.settings import Settings
from app.store.hold import read_holds
from tests.integration.test_web import BASE, browse, page

Make = Callable[..., Settings]


@pytest.fixture
async def browser(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async for client in browse(settings):
        yield client


async def click(browser: httpx2.AsyncClient, act: str, **fields: str) -> httpx2.Response:
    found = re.search(r'name="token" value="([^"]+)"', await page(browser, "/engine"))
    assert found
    return await browser.post(f"{BASE}/engine/{act}", data={"token": found[1], **fields})


async def test_it_says_how_the_servers_are(browser: httpx2.AsyncClient, resources: Resources) -> None:
    await resources.pool.execute("vacuum analyze preference")
    text = re.sub(r"<[^>]+>|\s+", " ", await page(browser, "/engine"))
    text = re.sub(r"\s+", " ", text)
    version = await resources.pool.fetchval("select current_setting('server_version')")
    assert f"Version {version}" in text
    assert re.search(r"Version (Valkey|Redis) \d+\.\d+", text)
    assert re.search(r"Connections \d+ of 100", text)
    assert re.search(r"preference about 0 \S+ (bytes|kB) ", text)
    assert "tidings test" in text or "tidings web" in text
    assert "PostgreSQL the same as this host" in text
    assert "What the doctor says" in text
    assert "RECLAIM_AFTER_S 2" in text


async def test_a_channel_is_paused_and_resumed(browser: httpx2.AsyncClient, resources: Resources) -> None:
    answer = await click(browser, "pause", channel="EMAIL", why="the provider is moved")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{BASE}/engine?paused=EMAIL")
    [(channel, held)] = (await read_holds(resources.pool)).items()
    assert (channel, held.words) == (Channel.EMAIL, "local: the provider is moved")
    assert "EMAIL is paused: within two seconds" in (await browser.get(answer.headers["location"])).text
    assert "by local: the provider is moved" in await page(browser, "/engine"), "at once, though the rest is kept for seconds"
    assert "EMAIL paused just now by local: the provider is moved" in await page(browser)
    again = await click(browser, "pause", channel="EMAIL", why="again")
    assert again.headers["location"].endswith("?was-paused=EMAIL")
    assert (await click(browser, "resume", channel="EMAIL")).headers["location"].endswith("?resumed=EMAIL")
    assert (await click(browser, "resume", channel="EMAIL")).headers["location"].endswith("?was-going=EMAIL")
    rows = await resources.pool.fetch("select who, action, target, reason from audit order by id")
    assert [tuple(row) for row in rows] == [
        ("local", "pause", "EMAIL", "the provider is moved"),
        ("local", "resume", "EMAIL", ""),
    ]


@pytest.mark.parametrize("fields", [{}, {"channel": "FAX", "why": "x"}, {"channel": "EMAIL"}, {"channel": "EMAIL", "why": " "}])
async def test_a_pause_needs_a_channel_and_a_reason(
    browser: httpx2.AsyncClient, resources: Resources, fields: dict[str, str]
) -> None:
    answer = await click(browser, "pause", **fields)
    assert answer.status_code == 422
    assert await read_holds(resources.pool) == {}


async def test_servers_that_are_away(make_settings: Make) -> None:
    gone = {
        "database_url": f"postgresql://postgres:hush@127.0.0.1:{free_port(0)}/tidings",
        "redis_url": f"redis://:hush@127.0.0.1:{free_port(0)}",
    }
    async for browser in browse(make_settings(**gone)):
        text = await page(browser, "/engine")
        assert "PostgreSQL cannot be reached." in text
        assert "Redis cannot be reached." in text
        assert "Something is wrong" in text
        assert "hush" not in text
        assert "Look at the engine" in (await click(browser, "pause", channel="EMAIL", why="x")).text


async def test_many_who_ask_share_one_look(browser: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    async def counting(settings: Settings) -> Any:
        looks.append(1)
        return await gather_facts(settings)

    monkeypatch.setattr("web.engine_routes.gather_facts", counting)
    await asyncio.gather(*(page(browser, "/engine") for _ in range(20)))
    assert len(looks) == 1
