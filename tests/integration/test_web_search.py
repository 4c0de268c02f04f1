"""Lists of notifications on a real server: every filter finds what it says, pages show each row once, and a look has an end."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx2
import pytest
from sqlalchemy import text

from app.domain import Channel
from app.resources import Resources, open_engine
from app.settings import Settings
from tests import support
from tests.integration.test_web import BASE, browse, ids_of, page
from web import search_queries, walk_queries
from web.filters import Filter, Several, read_filter
from web.queries import reading


@pytest.fixture
async def browser(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async for client in browse(settings):
        yield client


async def house(resources: Resources) -> dict[str, list[int]]:
    """Notifications of every kind, two of each."""
    made = {
        "failed": await support.add_notifications(resources, 2, Channel.EMAIL, user_id="ann", type="ORDER"),
        "unknown": await support.add_notifications(resources, 2, Channel.SMS, user_id="bob", type="ORDER"),
        "sent": await support.add_notifications(resources, 2, Channel.PUSH, user_id="ann", type="WELCOME"),
        "waiting": await support.add_notifications(resources, 2, Channel.EMAIL, user_id="bob", type="WELCOME"),
        "started": await support.start_attempts(resources, 2, Channel.SMS),
        "cancelled": await support.add_notifications(resources, 2, Channel.PUSH, user_id="eve", type="WELCOME"),
    }
    changes = {
        "failed": "status = 'FAILED', reason = 'rejected', error = '550 100% no_such Mailbox', "
        "created_at = now() - interval '9 d'",
        "unknown": "status = 'UNKNOWN', reason = 'no_answer', error = 'no answer within 20 s'",
        "sent": "status = 'SENT'",
        "waiting": "attempt = 1, tries = 1, error = 'the provider is busy', published_at = null",
        "cancelled": "status = 'CANCELLED', reason = 'cancelled'",
    }
    for name, assignments in changes.items():
        await support.change(resources, "notification", made[name], assignments)
    await resources.pool.execute(
        "insert into attempt (notification_id, number, provider, consumer, started_at, ended_at, outcome) "
        "select id, 1, 'webhook', 'c', now(), now(), 'unknown' from notification where status in ('UNKNOWN', 'SENT')"
    )
    return made


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "failed unknown sent waiting started cancelled"),
        ("status=FAILED", "failed"),
        ("status=failed or unknown", "failed unknown"),
        ("status=PENDING or PROCESSING", "waiting started"),
        ("status=PROCESSING", "started"),
        ("status=PENDING&channel=SMS", ""),
        ("channel=PUSH", "sent cancelled"),
        ("user=ann", "failed sent"),
        ("user=ann&status=SENT", "sent"),
        ("user=bob&status=PENDING or PROCESSING", "waiting"),
        ("type=ORDER", "failed unknown"),
        ("type=ORDER&status=UNKNOWN", "unknown"),
        ("provider=webhook", "unknown sent"),
        ("provider=webhook&status=UNKNOWN", "unknown"),
        ("provider=web", ""),
        ("error=MAILBOX", "failed"),
        ("error=100%25 no_such", "failed"),
        ("error=%25", "failed"),
        ("error=100_", ""),
        ("error=busy", "waiting"),
        ("error=busy&status=FAILED", ""),
        ("reason=no_answer", "unknown"),
        ("reason=cancelled", "cancelled"),
        ("reason=none", ""),
        ("since=1h", "unknown sent waiting started cancelled"),
        ("until=1h", "failed"),
        ("since=10d&until=8d", "failed"),
        ("since=8d&until=1h", ""),
        ("since=10d&status=FAILED&channel=EMAIL&user=ann&type=ORDER&error=mailbox&reason=rejected", "failed"),
    ],
)
async def test_every_filter_finds_what_it_says(
    browser: httpx2.AsyncClient, resources: Resources, monkeypatch: pytest.MonkeyPatch, query: str, found: str
) -> None:
    made = await house(resources)
    wanted = sorted((i for name in found.split() for i in made[name]), reverse=True)
    assert await ids_of(browser, f"/notifications?{query}") == wanted
    monkeypatch.setattr(walk_queries, "OPEN_ROWS", 1)  # now unfinished ones are too many to be taken whole
    assert await ids_of(browser, f"/notifications?{query}") == wanted


async def test_an_event_is_found_in_every_source(browser: httpx2.AsyncClient, resources: Resources) -> None:
    pks = await support.add_events(resources, *(support.event("evt-1", source=s, channels=(Channel.SMS,)) for s in ("", "/a")))
    await support.add_notification(resources)
    wanted = sorted((added.id for added in await support.route(resources, pks)), reverse=True)
    assert await ids_of(browser, "/notifications?event=evt-1") == wanted
    assert await ids_of(browser, "/notifications?event=evt-1&channel=PUSH") == []
    assert await ids_of(browser, "/notifications?event=evt") == []


QUERIES = [
    "",
    "status=SENT",
    "channel=EMAIL",
    "user=user_123",
    "status=SENT&channel=EMAIL",
    "status=PENDING",
    "error=x",
    "type=y",
]


@pytest.mark.parametrize("query", QUERIES)
async def test_paging_shows_each_row_once(
    browser: httpx2.AsyncClient, resources: Resources, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    monkeypatch.setattr(search_queries, "PAGE_WINDOWS", (7, 30))
    monkeypatch.setattr(search_queries, "PAGE_LOOKS_FOR_S", 0)  # so that a page may end for having looked long enough
    mails, texts = [await support.add_notifications(resources, 70, channel) for channel in (Channel.EMAIL, Channel.SMS)]
    await support.change(resources, "notification", [*mails, *texts], "error = 'X'")
    if "PENDING" not in query:
        await support.change(resources, "notification", mails + texts, "status = 'SENT'")
        await support.change(resources, "notification", mails[::3] + texts[::3], "status = 'FAILED', reason = 'rejected'")
    sent = [i for i in mails + texts if i not in mails[::3] + texts[::3]]
    wanted = {"status=SENT": sent, "channel=EMAIL": mails, "status=SENT&channel=EMAIL": [i for i in sent if i in mails]}
    wanted |= {"error=x": mails[::3] + texts[::3], "type=y": []}
    assert await ids_of(browser, f"/notifications?{query}") == sorted(wanted.get(query, mails + texts), reverse=True)


@pytest.mark.parametrize("query", ["", "status=FAILED or UNKNOWN", "user=user_123&channel=EMAIL"])
async def test_back_to_newer_ones(settings: Settings, resources: Resources, monkeypatch: pytest.MonkeyPatch, query: str) -> None:
    ids = await support.add_notifications(resources, 25)
    await support.change(resources, "notification", ids, "status = 'FAILED', reason = 'rejected'")
    asked = dict(part.split("=") for part in query.split("&") if part)

    async def shown(**place: str) -> tuple[list[int], int | None, int | None]:
        wanted = read_filter({**asked, **place}, datetime.now(UTC)).filter
        rows = await search_queries.notifications(engine, wanted, rows=10)
        return [row.notification.id for row in rows.listed], rows.next_before, rows.next_after

    async with open_engine(settings, "web") as engine:
        newest, older, _ = await shown()
        second, oldest, newer = await shown(before=str(older))
        third, end, _ = await shown(before=str(oldest))
        assert (newest, second, third, end) == (ids[:14:-1], ids[14:4:-1], ids[4::-1], None)
        assert (await shown(after=str(third[0])))[0] == second
        assert (await shown(after=str(newer)))[0] == newest
        assert (await shown(after=str(ids[-3])))[0] == newest, "too few are newer for a page: the newest page it is"


async def test_a_look_that_takes_too_long_says_how_far_it_came(
    browser: httpx2.AsyncClient, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_queries, "PAGE_WINDOWS", (4,))
    monkeypatch.setattr(search_queries, "PAGE_LOOKS_FOR_S", 0)
    ids = await support.add_notifications(resources, 10)
    answer = await page(browser, "/notifications?type=RARE")
    assert "through 4 notifications" in answer
    assert f"{BASE}/notifications?type=RARE&amp;before={ids[6]}" in answer


async def test_a_count_by_status_channel_and_reason(settings: Settings, resources: Resources) -> None:
    made = await house(resources)
    async with open_engine(settings, "web") as engine:
        counted = await search_queries.count(engine, Filter(status=Several.BAD))
        groups = {(g.status, g.channel, g.reason): (g.rows, g.doubtful) for g in counted.groups}
        assert groups == {("FAILED", "EMAIL", "rejected"): (2, 0), ("UNKNOWN", "SMS", "no_answer"): (2, 2)}
        await support.change(resources, "notification", made["failed"][0], "updated_at = now() + interval '1 s'")
        again = await search_queries.count(engine, Filter(status=Several.BAD), counted.as_of)
        assert sum(group.rows for group in again.groups) == 3, "what ended since does not count"


async def test_a_count_has_an_end(settings: Settings, resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_queries, "COUNT_WINDOWS", (4,))
    await support.add_notifications(resources, 10)
    async with open_engine(settings, "web") as engine:
        whole = await search_queries.count(engine, Filter(type="ORDER_PLACED"))
        monkeypatch.setattr(search_queries, "COUNT_MAX", 4)
        first = await search_queries.count(engine, Filter(type="ORDER_PLACED"))
        monkeypatch.setattr(search_queries, "COUNT_LOOKS_FOR_S", -1)
        monkeypatch.setattr(search_queries, "COUNT_MAX", 100)
        short = await search_queries.count(engine, Filter(type="ORDER_PLACED"))
    assert [sum(g.rows for g in c.groups) for c in (whole, first, short)] == [10, 4, 4]
    assert (whole.more, first.more, short.more) == (False, True, True)
    assert first.to is None
    assert short.to is not None


@pytest.mark.parametrize("query", ["status=FAILED", "status=PENDING", "type=ORDER_PLACED", "ids"])
async def test_batches_take_each_row_once_in_the_order_of_ids(
    settings: Settings, resources: Resources, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    monkeypatch.setattr(search_queries, "COUNT_WINDOWS", (5,))
    ids = await support.add_notifications(resources, 23)
    if query == "status=FAILED":
        await support.change(resources, "notification", ids, "status = 'FAILED', reason = 'rejected'")
    wanted = Filter(ids=tuple(ids)) if query == "ids" else read_filter(dict([query.split("=")]), datetime.now(UTC)).filter
    found: list[int] = []
    async with open_engine(settings, "web") as engine:
        as_of = (await search_queries.count(engine, wanted)).as_of
        await support.add_notification(resources)  # later: not counted, not taken
        low: int | None = 0
        while low is not None:
            one = await search_queries.batch(engine, wanted, as_of, low, 4)
            assert len(one.ids) <= 4
            found, low = found + one.ids, one.next_low
    assert found == ids


async def test_a_time_becomes_a_range_of_ids(settings: Settings, resources: Resources) -> None:
    """Every hour one, ids with gaps; within a minute their order may differ."""
    ids = await support.add_notifications(resources, 40)
    for place, i in enumerate(ids):
        await support.change(resources, "notification", i, f"created_at = '2026-03-01'::timestamptz + interval '{place} h'")
    await resources.pool.execute("delete from notification where id = any($1)", ids[5:9] + ids[:2] + ids[-2:])
    left = [i for i in ids[2:-2] if i not in ids[5:9]]
    async with open_engine(settings, "web") as engine, reading(engine) as (session, _):
        for place, i in enumerate(ids):
            at = datetime(2026, 3, 1 + place // 24, place % 24, 0, 30, tzinfo=UTC)
            low, high = await walk_queries.bounds(session, Filter(since=at, until=at))
            assert [x for x in left if low < x] == [x for x in left if x >= i], place
            assert [x for x in left if x < high] == [x for x in left if x <= i], place
        far = Filter(since=datetime(1970, 1, 1, tzinfo=UTC), until=datetime(9000, 1, 1, tzinfo=UTC))
        low, high = await walk_queries.bounds(session, far)
        assert low < left[0]
        assert high > left[-1]


async def test_in_an_empty_table_every_time_is_fine(browser: httpx2.AsyncClient) -> None:
    assert "No such notifications" in await page(browser, "/notifications?since=1h&until=2020-01-01")


WALKS = {
    "status=FAILED": "notification_not_sent",
    "status=SENT": "notification_pkey",
    "status=FAILED or UNKNOWN": "notification_not_sent",
    "user=ann&status=FAILED": "not_sent",
    "user=ann": "notification_leads",
    "type=RARE": "notification_pkey",
    "provider=webhook": "attempt_pkey",
    "error=x": "notification_not_sent",
    "status=PENDING": "notification_p",
    "event=evt": "notification_once",
    "since=1h&channel=SMS": "notification_pkey",
}


@pytest.mark.parametrize("query", WALKS)
async def test_every_filter_is_answered_by_an_index(settings: Settings, resources: Resources, query: str) -> None:
    await support.add_notification(resources, event_id="evt")
    wanted = read_filter(dict(part.split("=") for part in query.split("&")), datetime.now(UTC)).filter
    async with open_engine(settings, "web") as engine, reading(engine) as (session, _):
        await session.execute(text("set local enable_seqscan = off"))
        planned = await walk_queries.plan(session, wanted)
        inside, bound = walk_queries.candidates(planned, walk_queries.Window(0, 10_000, 0, True))
        ids = search_queries.IDS.format(found=inside, order="desc")
        told = "\n".join(await session.scalars(text(f"explain {ids}"), {**bound, "most": 51}))
        assert WALKS[query] in told
        assert "Seq Scan" not in told
        assert "Hash" not in told


@pytest.mark.parametrize(
    "query",
    [
        "error=%00%25_%5C'\"", "error=" + "x" * 5000, "user=%ed%a0%80", "since=%00", "since=" + "9" * 500, "until=<script>",
        "status=%ff", "event=" + "%F0%9F%92%A9" * 200, "type='; drop table event; --", "provider=:low", "reason=%25s",
        "before=0", "after=0", f"after={2**63 - 1}", f"before={2**63 - 1}&after={2**63 - 1}", "since=1970-01-01&until=9998-12-31",
    ],
)  # fmt: skip
async def test_nothing_that_can_be_typed_breaks_it(browser: httpx2.AsyncClient, resources: Resources, query: str) -> None:
    await support.add_notification(resources)
    assert (await browser.get(f"{BASE}/notifications?{query}")).status_code == 200
