"""Where the comparison is seen: further lines of `tidings doctor --deep`, and a page of the dashboard."""

from collections.abc import AsyncIterator, Callable

import httpx2
import pytest

from app import streams
from app.doctor import examine
from app.doctor.finding import Level
from app.domain import Channel
from app.resources import Resources
from app.settings import Settings
from app.streams import EVENTS, channel_stream
from tests import support
from tests.integration.test_web import browse, page

HOUR = "now() - interval '1 hour'"
Make = Callable[..., Settings]


@pytest.fixture
async def browser(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async for client in browse(settings):
        yield client


async def mail_that_no_stream_carries(resources: Resources) -> int:
    notification = await support.add_notification(resources)
    await support.change(resources, "notification", notification, f"published_at = {HOUR}, due_at = {HOUR}")
    return notification


async def test_doctor_says_it_after_its_other_lines(settings: Settings, resources: Resources) -> None:
    lost = await mail_that_no_stream_carries(resources)
    plain, deep = await examine(settings), await examine(settings, deep=True)
    assert [f.what for f in deep[: len(plain)]] == [f.what for f in plain]
    wrong = [f for f in deep[len(plain) :] if f.level is Level.FAIL]
    assert [f.what for f in wrong] == ["check email"]
    assert f"such as {lost}" in wrong[0].says


async def test_doctor_judges_nothing_where_a_server_is_away(make_settings: Make) -> None:
    found = await examine(make_settings(redis_url="redis://127.0.0.1:1"), deep=True)
    assert found[-1].says == "cannot be judged: Redis gave no answer"


async def test_doctor_says_why_it_cannot_compare(settings: Settings, resources: Resources) -> None:
    await resources.redis.set(EVENTS, "no stream", ex=60)
    found = await examine(settings, deep=True)
    assert found[-1].line().startswith("warn  check  — cannot be judged: WRONGTYPE")


async def test_the_page_of_an_empty_house(browser: httpx2.AsyncClient) -> None:
    shown = await page(browser, "/consistency")
    assert "It adds up" in shown
    assert 'aria-current="page">Does it add up?' in shown
    assert "Nothing is owed on the stream, and it carries nothing" in shown


async def test_the_page_says_what_is_owed_and_carried_by_nothing(browser: httpx2.AsyncClient, resources: Resources) -> None:
    await mail_that_no_stream_carries(resources)
    shown = await page(browser, "/consistency")
    assert "It does not add up" in shown
    assert "1 row without an entry" in shown
    assert "does no relay run?" in shown
    assert "<code>tidings consumers --channels EMAIL</code>" in shown


async def test_the_page_explains_entries_that_nothing_is_owed_for(browser: httpx2.AsyncClient, resources: Resources) -> None:
    notification = await support.add_notification(resources)
    await support.change(resources, "notification", notification, "status = 'CANCELLED', reason = 'cancelled'")
    await resources.redis.xadd(channel_stream(Channel.EMAIL), {"notification": notification})
    await streams.create_group(resources.redis, channel_stream(Channel.EMAIL))
    shown = await page(browser, "/consistency")
    assert "It adds up" in shown
    assert "1 entry of a finished row" in shown


async def test_without_redis_the_page_says_so(make_settings: Make) -> None:
    async for browser in browse(make_settings(redis_url="redis://127.0.0.1:1")):
        assert "Redis cannot be reached." in await page(browser, "/consistency", 503)
