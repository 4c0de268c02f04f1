"""People, on real servers: what one user wants is edited and recorded, the history has pages, the rate limit says until when."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from app.domain import Channel
from app.resources import Resources
from app.settings import Settings
from consumers.rate_limit import charge
from tests import support
from tests.integration.test_web import BASE, browse, ids_of, page


@pytest.fixture
async def browser(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async for client in browse(settings):
        yield client


async def save(browser: httpx2.AsyncClient, **fields: Any) -> httpx2.Response:
    found = re.search(r'name="token" value="([^"]*)"', await page(browser, "/user?id=x"))
    assert found
    return await browser.post(f"{BASE}/user/preferences", data={"token": found[1], "why": "asked by mail", **fields})


async def stored(resources: Resources) -> list[tuple[Any, ...]]:
    query = "select user_id, email_opt_in, sms_opt_in, push_opt_in from preference order by user_id"
    return [tuple(row) for row in await resources.pool.fetch(query)]


async def test_what_a_user_wants_is_saved_and_recorded(browser: httpx2.AsyncClient, resources: Resources) -> None:
    answer = await save(browser, id="ann & bob", EMAIL="1", PUSH="1")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{BASE}/user?id=ann+%26+bob&saved=1")
    assert await stored(resources) == [("ann & bob", True, False, True)]
    shown = (await browser.get(answer.headers["location"])).text
    assert "Saved. It counts from the next event on" in shown
    assert "This user has opted out of SMS." in shown
    await save(browser, id="ann & bob", EMAIL="1", PUSH="1", SMS="1")
    found = await resources.pool.fetch("select action, target, reason, detail from audit order by id")
    assert [tuple(row) for row in found] == [
        ("edit preferences", "user ann & bob", "asked by mail", '{"changed": {"SMS": [true, false]}}'),
        ("edit preferences", "user ann & bob", "asked by mail", '{"changed": {"SMS": [false, true]}}'),
    ]


@pytest.mark.parametrize("change", [{"why": ""}, {"id": ""}, {"id": "a\0b"}, {"id": "x" * 300}, {"id": "a\nb"}])
async def test_a_form_that_is_not_whole_saves_nothing(
    browser: httpx2.AsyncClient, resources: Resources, change: dict[str, str]
) -> None:
    assert (await save(browser, **{"id": "ann", "EMAIL": "1", **change})).status_code == 400
    assert await stored(resources) == []


async def test_without_our_token_nothing_is_saved(browser: httpx2.AsyncClient, resources: Resources) -> None:
    assert (await save(browser, id="ann", token="x")).status_code == 403
    assert (await browser.get(f"{BASE}/user/preferences?id=ann")).status_code == 405
    assert await stored(resources) == []


async def test_the_history_has_pages(browser: httpx2.AsyncClient, resources: Resources) -> None:
    mine = await support.add_notifications(resources, 120, user_id="ann")
    await support.add_notifications(resources, 3, user_id="bob")
    assert await ids_of(browser, "/user?id=ann") == sorted(mine, reverse=True)
    older = await page(browser, f"/user?id=ann&before={mine[70]}")
    assert f"{BASE}/user?id=ann&amp;after={mine[69]}" in older
    assert "⇤ Newest" in older


async def test_the_rate_limit_says_when_the_next_token_comes(
    browser: httpx2.AsyncClient, settings: Settings, resources: Resources
) -> None:
    assert "Next token" not in await page(browser, "/user?id=ann")
    await charge(resources.redis, settings, [(n, "ann") for n in range(3)])
    shown = await page(browser, "/user?id=ann")
    assert "2 of 5 tokens left" in shown
    assert "Next token" in shown
    assert "All of them" in shown


async def test_who_was_told_something_lately(browser: httpx2.AsyncClient, resources: Resources) -> None:
    assert "Nobody was told anything yet." in await page(browser, "/people")
    await resources.pool.execute("insert into preference (user_id, sms_opt_in) values ('ann', false)")
    ids = await support.add_notifications(resources, 3, Channel.EMAIL, user_id="ann")
    await support.change(resources, "notification", ids[0], "status = 'FAILED', reason = 'rejected'")
    await support.add_notifications(resources, 1, user_id="<b>")
    shown = await page(browser, "/people")
    assert shown.index("&lt;b&gt;") < shown.index(">ann<"), "who was told something last comes first"
    assert f"{BASE}/notifications?user=ann&amp;status=FAILED+or+UNKNOWN" in shown
    assert ">SMS<" in shown


@pytest.mark.parametrize(
    "path", ["/user?id=x&before=²", f"/user?id=x&after={'9' * 500}", "/user?id=%00&saved=1", "/people?x=%00"]
)
async def test_nothing_that_can_be_typed_breaks_it(browser: httpx2.AsyncClient, path: str) -> None:
    assert (await browser.get(BASE + path)).status_code in (200, 404)
