"""The dashboard's pages of an operator's bad day, on real servers: what is counted, in which order, and where a look ends."""

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx2
import pytest
from sqlalchemy import text

from app.domain import Channel, Status
from app.resources import Resources, open_engine
from app.settings import Settings
from app.streams import EVENTS, Entry, bury
from consumers.rate_limit import charge
from tests import support
from tests.integration.test_web import BASE, browse, page
from web import dead_queries, failure_queries, retry_queries
from web.allowance import read_allowance
from web.queries import reading

DAY = timedelta(days=1)


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


async def end(
    resources: Resources, channel: Channel, status: str, reason: str, number: int = 1, error: str = "why", ago: str = "0 s"
) -> list[int]:
    ids = await support.add_notifications(resources, number, channel)
    ended = f"status = '{status}', reason = '{reason}', error = '{error}', updated_at = now() - interval '{ago}'"
    await support.change(resources, "notification", ids, ended)
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
    told = {c: {place - 1: n for place, n in enumerate(places) if n} for c, places in rows.places.items()}
    assert told == {Channel.EMAIL: {0: 1, 49: 1, 60: 1}, Channel.SMS: {-1: 1}, Channel.PUSH: {}}
    assert rows.capped == frozenset()


@pytest.mark.parametrize("parked", [True, False])
async def test_a_backlog_of_retries_is_not_walked_to_its_end(
    settings: Settings, resources: Resources, monkeypatch: pytest.MonkeyPatch, parked: bool
) -> None:
    monkeypatch.setattr(retry_queries, "PARKED_ROWS", 2)
    monkeypatch.setattr(retry_queries, "CARRIED_ROWS", 2)
    for due in (500, 400, 300):
        await wait(resources, Channel.PUSH, due, parked)
    async with open_engine(settings, "web") as engine:
        rows = await retry_queries.retries(engine)
    assert sum(rows.places[Channel.PUSH]) == 2
    assert len(rows.listed) == (3 if parked else 2), "the soonest are found by their own limit"
    assert rows.capped == {Channel.PUSH}


async def test_failures_by_kind_and_over_time(settings: Settings, resources: Resources) -> None:
    for number in (10_001, 20_002):
        await end(resources, Channel.EMAIL, "FAILED", "rejected", 2, f"550 <u{number}@x> box {number} is full", "2 h")
    await end(resources, Channel.SMS, "FAILED", "rejected", 1, "answered 429")
    await end(resources, Channel.SMS, "FAILED", "rejected", 1, "answered 503")
    await end(resources, Channel.SMS, "UNKNOWN", "no_answer", 3)
    await end(resources, Channel.PUSH, "CANCELLED", "cancelled")
    await end(resources, Channel.PUSH, "FAILED", "expired", 1, "old", "25 h")
    async with open_engine(settings, "web") as engine:
        rows = await failure_queries.failures(engine, DAY)
        lately = await failure_queries.failures(engine, timedelta(hours=1))
    assert [(k.status, k.reason, k.error, k.n, k.channels) for k in rows.kinds] == [
        ("FAILED", "rejected", "550 … box … is full", 4, {"EMAIL": 4}),
        ("UNKNOWN", "no_answer", "why", 3, {"SMS": 3}),
        ("FAILED", "rejected", "answered 429", 1, {"SMS": 1}),
        ("FAILED", "rejected", "answered 503", 1, {"SMS": 1}),
    ]
    last = failure_queries.COLUMNS - 1
    assert {place: n for place, n in enumerate(rows.places["FAILED"]) if n} == {last - 4: 4, last: 2}
    assert (rows.places["UNKNOWN"][last], rows.total, rows.complete_since) == (3, 9, None)
    assert lately.total == 5


async def test_many_failures_are_looked_at_from_the_newest_on(
    settings: Settings, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_queries, "LOOKED_AT_ROWS", 2)
    await end(resources, Channel.EMAIL, "FAILED", "crashed")
    await end(resources, Channel.EMAIL, "FAILED", "rejected", 2)
    async with open_engine(settings, "web") as engine:
        rows = await failure_queries.failures(engine, DAY)
    assert [kind.reason for kind in rows.kinds] == ["rejected"]
    assert rows.complete_since is not None


async def test_the_page_of_failures_leads_on(browser: httpx2.AsyncClient, resources: Resources) -> None:
    [notification] = await end(resources, Channel.EMAIL, "FAILED", "rejected", 1, "550 box 123456 is full")
    shown = await page(browser, "/failures?over=1h")
    assert f"{BASE}/notifications?status=FAILED&amp;reason=rejected&amp;error=550+box" in shown
    assert f"do=replay-selected&amp;id={notification}" in shown
    assert str(notification) in await page(browser, "/notifications?status=FAILED&reason=rejected&error=550+box")


@pytest.mark.parametrize(
    "query", ["over=", "over=%00", "over=9999999999h", "status=FAILED&reason=x&before=7", f"over={'x' * 5000}"]
)
async def test_any_time_can_be_asked_for(browser: httpx2.AsyncClient, query: str) -> None:
    assert "Nothing has failed in this time." in await page(browser, f"/failures?{query}")


async def test_failures_and_retries_are_found_by_their_indexes(settings: Settings) -> None:
    bound = {"since": None, "width_s": 1.0, "rows": 9, "columns": 9, "kinds": 9, "varying": "x", "gap": "y"}
    async with open_engine(settings, "web") as engine, reading(engine) as (session, now):
        await session.execute(text("set local enable_seqscan = off"))
        for statement, values, index in (
            (failure_queries.KINDS, {**bound, "since": now}, "notification_not_sent"),
            (retry_queries.statement(), {"minutes": 60}, "notification_p"),
        ):
            told = "\n".join(await session.scalars(text(f"explain {statement}"), values))
            assert "Seq Scan" not in told
            assert index in told


async def test_dead_letters_with_and_without_a_row(browser: httpx2.AsyncClient, resources: Resources) -> None:
    dead = await end(resources, Channel.EMAIL, "FAILED", "dead_letter")
    await end(resources, Channel.EMAIL, "FAILED", "rejected")
    [event_pk] = await support.add_events(resources, support.event("evt-dead"))
    await support.change(resources, "event", event_pk, "status = 'FAILED', reason = 'dead_letter', error = 'delivered 8 times'")
    entry = Entry(b"1-0", None, 1, (b"garbage", b"<b>"))
    await bury(resources.redis, EVENTS, entry, "the entry has no readable field 'event'")
    answer = await page(browser, "/dead-letters")
    assert f"Choose event {event_pk}" in answer
    assert f"Choose notification {dead[0]}" in answer
    assert answer.count('name="id"') == 2
    assert f"{BASE}/notifications/act?do=discard-all&amp;status=FAILED&amp;reason=dead_letter&amp;error=why" in answer
    assert "Entries that no row explains (1)" in answer
    assert "the entry has no readable field &#39;event&#39;" in answer
    assert "&lt;b&gt;" in answer


async def test_dead_letters_are_looked_for_among_the_newest(
    settings: Settings, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_queries, "GROUPED_ROWS", 2)
    await end(resources, Channel.EMAIL, "FAILED", "dead_letter")
    await end(resources, Channel.EMAIL, Status.FAILED, "rejected", 2)
    async with open_engine(settings, "web") as engine:
        rows = await dead_queries.dead_letters(engine)
    assert (rows.groups, rows.notifications, rows.capped) == ([], [], True)


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


@pytest.mark.parametrize("path", ["/retries", "/failures", "/dead-letters", "/user?id=x"])
async def test_an_empty_house(browser: httpx2.AsyncClient, path: str) -> None:
    assert "The commands behind these numbers" in await page(browser, path)
