"""The dashboard's pages of an operator's bad day, on real servers: what is counted, in which order, and where a look ends."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from app.domain import Channel, Status
from app.resources import Resources, open_engine
from app.settings import Settings
from app.streams import EVENTS, Entry, bury
from consumers.rate_limit import charge
from tests import support
from tests.integration.test_web import browse, ids_of, page
from web import failure_queries, retry_queries
from web.allowance import read_allowance
from web.failure_queries import FailureFilter
from web.retry_queries import Due


@pytest.fixture
async def browser(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async for client in browse(settings):
        yield client


async def wait(resources: Resources, channel: Channel, due_in_s: float, parked: bool = True) -> int:
    """A notification that waits for its second try."""
    notification = await support.add_notification(resources, channel)
    published = "null" if parked else "now()"
    due = f"due_at = now() + interval '{due_in_s} s', published_at = {published}"
    await support.change(resources, "notification", notification, f"attempt = 1, tries = 1, error = 'busy', {due}")
    return notification


async def end(resources: Resources, channel: Channel, status: str, reason: str, number: int = 1) -> list[int]:
    ids = await support.add_notifications(resources, number, channel)
    await support.change(resources, "notification", ids, f"status = '{status}', reason = '{reason}', error = 'why'")
    return ids


async def test_retries_are_counted_and_come_soonest_first(settings: Settings, resources: Resources) -> None:
    hour = await wait(resources, Channel.EMAIL, 3000)
    late = await wait(resources, Channel.SMS, -5)
    short = await wait(resources, Channel.EMAIL, 30, parked=False)
    day = await wait(resources, Channel.EMAIL, 80_000)
    await support.add_notification(resources, Channel.EMAIL)  # published, and never tried: no retry
    await support.start_attempt(resources, Channel.SMS)
    async with open_engine(settings, "web") as engine:
        rows = await retry_queries.retries(engine)
    assert [row.notification.id for row in rows.listed] == [late, short, hour, day]
    assert rows.due == {Channel.EMAIL: Due(0, (1, 1, 2), 3), Channel.SMS: Due(1, (1, 1, 1), 1), Channel.PUSH: Due()}
    assert rows.capped == frozenset()


async def test_a_backlog_of_retries_is_not_walked_to_its_end(
    settings: Settings, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry_queries, "OPEN_ROWS", 2)
    ids = [await wait(resources, Channel.PUSH, due) for due in (500, 400, 300)]
    async with open_engine(settings, "web") as engine:
        rows = await retry_queries.retries(engine)
    assert [row.notification.id for row in rows.listed] == [ids[2], ids[1]], "those that are due soonest"
    assert rows.capped == {Channel.PUSH}


async def test_failures_by_reason_and_by_page(settings: Settings, resources: Resources) -> None:
    rejected = await end(resources, Channel.EMAIL, "FAILED", "rejected", 3)
    unknown = await end(resources, Channel.SMS, "UNKNOWN", "no_answer", 2)
    await end(resources, Channel.PUSH, "CANCELLED", "cancelled")
    await support.add_notification(resources)
    async with open_engine(settings, "web") as engine:
        first = await failure_queries.failures(engine, FailureFilter(), rows=4)
        second = await failure_queries.failures(engine, FailureFilter(before=first.next_before), rows=4)
        only = await failure_queries.failures(engine, FailureFilter(Status.FAILED, "rejected"))
        none = await failure_queries.failures(engine, FailureFilter(Status.FAILED, "no_answer"))
    assert [(g.status, g.reason, g.channel, g.n) for g in first.groups] == [
        ("FAILED", "rejected", "EMAIL", 3),
        ("UNKNOWN", "no_answer", "SMS", 2),
    ]
    pages = [[row.notification.id for row in rows.listed] for rows in (first, second)]
    assert pages == [sorted(rejected + unknown, reverse=True)[:4], [rejected[0]]]
    assert second.groups == first.groups, "the groups are of the newest, whatever page is shown"
    assert [row.notification.id for row in only.listed] == sorted(rejected, reverse=True)
    assert none.listed == []


async def test_groups_are_of_the_newest(settings: Settings, resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure_queries, "GROUPED_ROWS", 2)
    await end(resources, Channel.EMAIL, "FAILED", "crashed")
    await end(resources, Channel.EMAIL, "FAILED", "rejected", 2)
    async with open_engine(settings, "web") as engine:
        rows = await failure_queries.failures(engine, FailureFilter())
    assert ([g.reason for g in rows.groups], rows.capped) == (["rejected"], True)


async def test_dead_letters_with_and_without_a_row(browser: httpx2.AsyncClient, resources: Resources) -> None:
    await end(resources, Channel.EMAIL, "FAILED", "dead_letter")
    await end(resources, Channel.EMAIL, "FAILED", "rejected")
    [event_pk] = await support.add_events(resources, support.event("evt-dead"))
    await support.change(resources, "event", event_pk, "status = 'FAILED', reason = 'dead_letter', error = 'delivered 8 times'")
    entry = Entry(b"1-0", None, 1, (b"garbage", b"<b>"))
    await bury(resources.redis, EVENTS, entry, "the entry has no readable field 'event'")
    answer = await page(browser, "/dead-letters")
    assert answer.count("<button name=") == 2
    assert "evt-dead" in answer
    assert "Entries that no row explains (1)" in answer
    assert "the entry has no readable field &#39;event&#39;" in answer
    assert "&lt;b&gt;" in answer


async def test_the_allowance_is_what_the_bucket_grants(settings: Settings, resources: Resources) -> None:
    async def left() -> int:
        return (await read_allowance(resources.redis, settings, "ann")).left

    assert await left() == settings.rate_limit_per_user
    for charged in range(1, settings.rate_limit_per_user + 1):
        assert await charge(resources.redis, settings, [(charged, "ann")]) == [0.0]
        assert await left() == settings.rate_limit_per_user - charged
    assert await charge(resources.redis, settings, [(99, "ann")]) == [-1.0]
    told = await read_allowance(resources.redis, settings, "ann")
    assert 11 < told.next_s <= 12
    assert 59 < told.full_s <= 60


async def test_one_users_page(browser: httpx2.AsyncClient, resources: Resources) -> None:
    mine = await support.add_notifications(resources, 2, user_id="ann")
    await support.add_notification(resources, user_id="bob")
    assert await ids_of(browser, "/user?id=ann") == sorted(mine, reverse=True)
    assert "Nothing is known of this user" in await page(browser, "/user?id=nobody")


@pytest.mark.parametrize("path", ["/retries", "/failures", "/dead-letters", "/user?id=x"])
async def test_an_empty_house(browser: httpx2.AsyncClient, path: str) -> None:
    assert "The commands behind these numbers" in await page(browser, path)
