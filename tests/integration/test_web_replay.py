"""Replay from the dashboard, on real servers: once, only by a form of ours, and never by a GET."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest

from app.domain import Channel
from app.process import free_port
from app.resources import Resources
from app.settings import Settings
from tests import support
from tests.integration.test_web import BASE, browse, page

Make = Callable[..., Settings]
SECRET = "a secret of the tests"


@pytest.fixture
async def browser(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async for client in browse(settings):
        yield client


async def form(browser: httpx2.AsyncClient, path: str = "/failures") -> dict[str, str]:
    """The first form of a page that replays, as a browser would send it."""
    shown = (await page(browser, path)).partition('method="post"')[2].partition("</form>")[0]
    fields = re.findall(r'name="([^"]*)" value="([^"]*)"', shown)
    assert fields, "the page has no such form"
    return dict(fields)


async def post(browser: httpx2.AsyncClient, data: dict[str, str], **headers: str) -> httpx2.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await browser.post(f"{BASE}/replay", data=data, headers=names)


async def failed(resources: Resources, status: str = "FAILED", reason: str = "rejected") -> int:
    notification = await support.add_notification(resources, Channel.SMS)
    await support.change(resources, "notification", notification, f"status = '{status}', reason = '{reason}', attempt = 1")
    return notification


async def state(resources: Resources, notification: int) -> tuple[str, int]:
    row = await support.notification(resources, notification)
    return row["status"], row["replays"]


async def actions(resources: Resources) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await resources.pool.fetch("select who, role, action, target, count, reason from audit")]


async def test_replay_makes_it_pending_and_says_so(browser: httpx2.AsyncClient, resources: Resources) -> None:
    notification = await failed(resources)
    answer = await post(
        browser, await form(browser, "/failures?status=FAILED"), origin="http://localhost", sec_fetch_site="same-origin"
    )
    assert answer.status_code == 303
    assert answer.headers["location"] == f"{BASE}/failures?status=FAILED&replayed=notification-{notification}"
    assert await state(resources, notification) == ("PENDING", 1)
    assert f"Replayed: notification {notification} is on its way again." in (await browser.get(answer.headers["location"])).text
    assert await actions(resources) == [("local", "operator", "replay", f"notification {notification}", 1, "")]
    assert f"notification {notification}" in await page(browser, "/audit?who=local&action=replay")
    assert f"notification {notification}" not in await page(browser, "/audit?who=ann")


async def test_two_clicks_replay_once(browser: httpx2.AsyncClient, resources: Resources) -> None:
    notification = await failed(resources, "UNKNOWN", "no_answer")
    filled = await form(browser)
    answers = await asyncio.gather(post(browser, filled), post(browser, filled))
    told = sorted(answer.headers["location"].partition("?")[2].partition("=")[0] for answer in answers)
    assert told == ["not-replayed", "replayed"]
    assert await state(resources, notification) == ("PENDING", 1)
    assert (await support.notification(resources, notification))["possible_duplicate"]
    assert len(await actions(resources)) == 1


async def test_a_dead_event_is_replayed(browser: httpx2.AsyncClient, resources: Resources) -> None:
    [event_pk] = await support.add_events(resources, support.event())
    await support.change(resources, "event", event_pk, "status = 'FAILED', reason = 'dead_letter', error = 'delivered 8 times'")
    answer = await post(browser, await form(browser, "/dead-letters"))
    assert answer.headers["location"] == f"{BASE}/dead-letters?replayed=event-{event_pk}"
    assert (await support.event_row(resources, event_pk))["status"] == "NEW"


async def test_what_was_never_there(browser: httpx2.AsyncClient, resources: Resources) -> None:
    await failed(resources)
    filled = await form(browser)
    answer = await post(browser, {**filled, "notification": "999"})
    assert "there is no notification 999" in (await browser.get(answer.headers["location"])).text


@pytest.mark.parametrize("change", [{"token": ""}, {"token": "x" * 43}, {}], ids=["no token", "a guessed token", "no cookie"])
async def test_without_our_token_nothing_is_replayed(browser: httpx2.AsyncClient, resources: Resources, change: Any) -> None:
    notification = await failed(resources)
    filled = await form(browser)
    if not change:
        browser.cookies.clear()
    answer = await post(browser, {**filled, **change})
    assert (answer.status_code, await state(resources, notification)) == (403, ("FAILED", 0))
    assert "nothing was changed" in answer.text
    assert await actions(resources) == []


async def test_read_only(resources: Resources, make_settings: Make) -> None:
    notification = await failed(resources)
    async for reader in browse(make_settings(dashboard_read_only=True)):
        assert 'method="post"' not in await page(reader, "/failures")
        answer = await post(reader, {"notification": str(notification)})
        assert (answer.status_code, answer.headers["allow"]) == (405, "")
        assert "read-only mode" in answer.text
    assert await state(resources, notification) == ("FAILED", 0)


async def test_what_cannot_be_recorded_is_not_done(browser: httpx2.AsyncClient, resources: Resources) -> None:
    notification = await failed(resources)
    await resources.pool.execute("drop table audit")
    answer = await post(browser, await form(browser))
    assert (answer.status_code, await state(resources, notification)) == (503, ("FAILED", 0))
    assert "older Tidings tables" in answer.text or "no Tidings tables yet" in answer.text


@pytest.mark.parametrize(
    "headers", [{"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"}, {"origin": "http://evil"}]
)
async def test_another_site_replays_nothing(browser: httpx2.AsyncClient, resources: Resources, headers: dict[str, str]) -> None:
    notification = await failed(resources)
    answer = await post(browser, await form(browser), **headers)
    assert (answer.status_code, await state(resources, notification)) == (403, ("FAILED", 0))


async def test_a_get_replays_nothing(browser: httpx2.AsyncClient, resources: Resources) -> None:
    notification = await failed(resources)
    answer = await browser.get(f"{BASE}/replay", params=await form(browser))
    assert (answer.status_code, await state(resources, notification)) == (405, ("FAILED", 0))


async def test_the_cookie_is_for_this_dashboard_alone(browser: httpx2.AsyncClient) -> None:
    cookie = (await browser.get(f"{BASE}/failures")).headers["set-cookie"]
    assert {"HttpOnly", f"Path={BASE}", "SameSite=lax"} <= set(cookie.split("; "))
    assert "set-cookie" not in (await browser.get(f"{BASE}/dead-letters")).headers, "one token for all pages that are open"


@pytest.mark.parametrize(
    ("content", "status"), [(b"\xff\xfe%zz&=&", 403), (b"a=b&" * 20_000, 413), (b'{"notification": 1}', 403), (b"", 403)]
)
async def test_a_body_of_any_kind_is_no_traceback(browser: httpx2.AsyncClient, content: bytes, status: int) -> None:
    kind = "application/json" if content.startswith(b"{") else "application/x-www-form-urlencoded"
    answer = await browser.post(f"{BASE}/replay", content=content, headers={"content-type": kind})
    assert answer.status_code == status


async def test_a_form_without_a_row(browser: httpx2.AsyncClient, resources: Resources) -> None:
    await failed(resources)
    filled = await form(browser)
    assert (await post(browser, {**filled, "notification": "seven"})).status_code == 400


async def test_postgresql_away(resources: Resources, make_settings: Make) -> None:
    await failed(resources)
    gone = f"postgresql://postgres@127.0.0.1:{free_port(0)}/tidings"
    async for browser in browse(make_settings(dashboard_secret=SECRET)):
        filled = await form(browser)
        async for lonely in browse(make_settings(dashboard_secret=SECRET, database_url=gone)):
            lonely.cookies = browser.cookies
            answer = await post(lonely, filled)
            assert answer.status_code == 503
            assert "Look at the list again before you repeat it." in answer.text


async def test_a_name_that_was_made_to_point_here_gets_nothing(browser: httpx2.AsyncClient) -> None:
    assert (await browser.get(f"{BASE}/failures", headers={"host": "evil.example:3000"})).status_code == 400
