"""One user's notifications: each once, in the order of ids, routed together or alone, sent directly, or old."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain import PLACES, Channel, Status
from app.resources import Resources, open_engine
from app.settings import Settings
from app.store import of_user
from app.store.direct import NewDirect, insert_direct
from app.store.history import user_notifications
from app.store.routing import route_events
from tests import support
from web import search_queries
from web.filters import Filter

OLD = """
with e as (insert into event (event_id, type, user_id, payload, occurred_at, body_hash, status)
  values ($1, 't', 'ann', '{}', now(), '', 'ROUTED') returning id)
insert into notification (event_pk, channel, user_id) select id, unnest(array['EMAIL', 'SMS', 'PUSH']), 'ann' from e
"""
STATUS = "status = '{}', reason = 'rejected', claimed_by = 'c', lease_until = now()"
THEIRS = """
select id from notification where user_id = 'ann' and ($1::text is null or status = $1) and ($2::text is null or channel = $2)
order by id desc
"""
CHANNELS = (None, Channel.SMS)
STATUS_OR_ALL = (None, *Status)


@pytest.fixture
async def engine(settings: Settings, resources: Resources) -> AsyncIterator[AsyncEngine]:
    """With the rows of two users, those of one event in several statuses."""
    for n in range(4):
        events = [support.event(user_id=user) for user in ("ann", "bob", "ann")]
        only_push = support.event(user_id="ann", channels=(Channel.PUSH,))
        await support.route(resources, await support.add_events(resources, *events, only_push))
        alone = await support.add_events(resources, support.event(user_id="ann"))
        await route_events(resources.pool, await support.routings(resources, alone))
        async with resources.pool.acquire() as connection:
            await insert_direct(connection, NewDirect(f"direct-{n}", "ann", Channel.SMS, "+49", "Hello", b"x"))
        await resources.pool.execute(OLD, f"old-{n}")
    for status in Status:
        ids = await resources.pool.fetch("select id from notification where hashint8(id) & 7 = $1", list(Status).index(status))
        await support.change(resources, "notification", [r["id"] for r in ids], STATUS.format(status))
    async with open_engine(settings, "web") as opened:
        yield opened


async def theirs(resources: Resources, status: str | None, channel: str | None) -> list[int]:
    return [r["id"] for r in await resources.pool.fetch(THEIRS, status, channel)]


async def test_an_event_has_ids_that_follow_each_other(resources: Resources) -> None:
    pks = await support.add_events(resources, support.event(), support.event())
    await support.route(resources, pks)
    for pk in pks:
        rows = await resources.pool.fetch("select id, leads from notification where event_pk = $1 order by id", pk)
        assert [r["id"] - rows[0]["id"] for r in rows] == [0, 1, 2]
        assert [r["leads"] for r in rows] == [True, False, False]


async def test_there_are_ids_for_all_channels(resources: Resources) -> None:
    assert len(Channel) <= PLACES
    step = "select seqincrement from pg_sequence where seqrelid = 'notification_id_seq'::regclass"
    assert await resources.pool.fetchval(step) == PLACES


@pytest.mark.parametrize("unfinished_first", [False, True])
async def test_a_history_is_paged_without_gap(
    engine: AsyncEngine, resources: Resources, monkeypatch: pytest.MonkeyPatch, unfinished_first: bool
) -> None:
    monkeypatch.setattr(of_user, "SHORTER_BY_THE_UNFINISHED", f"select {unfinished_first} where cast(:user as text) <> ''")
    for status in STATUS_OR_ALL:
        for channel in CHANNELS:
            found, before = list[int](), None
            while lines := await user_notifications(engine, "ann", status, channel, before, 5):
                found += [line.id for line in lines]
                before = found[-1]
            assert found == await theirs(resources, status, channel), (status, channel)


async def test_a_page_begins_at_any_id(engine: AsyncEngine, resources: Resources) -> None:
    everything = await theirs(resources, None, None)
    for before in range(1, everything[0] + 2 * PLACES):
        lines = await user_notifications(engine, "ann", None, None, before, 3)
        assert [line.id for line in lines] == [i for i in everything if i < before][:3]


@pytest.mark.parametrize("open_rows", [0, 5_000])
async def test_the_dashboard_lists_the_same(
    engine: AsyncEngine, resources: Resources, monkeypatch: pytest.MonkeyPatch, open_rows: int
) -> None:
    monkeypatch.setattr("web.walk_queries.OPEN_ROWS", open_rows)  # 0: too many are unfinished to take them all
    monkeypatch.setattr(search_queries, "PAGE_WINDOWS", (2, 3))
    for status in STATUS_OR_ALL:
        for channel in CHANNELS:
            expected = await theirs(resources, status, channel)
            assert await listed(engine, Filter(user="ann", status=status, channel=channel)) == expected
            counted = await search_queries.count(engine, Filter(user="ann", status=status, channel=channel))
            assert sum(group.rows for group in counted.groups) == len(expected)


async def test_the_dashboard_goes_back_to_newer_ones(
    engine: AsyncEngine, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_queries, "PAGE_WINDOWS", (2, 3))
    everything = await theirs(resources, None, None)
    for after in range(everything[-1] - 1, everything[5]):
        page = await search_queries.notifications(engine, Filter(user="ann", after=after), rows=3)
        assert [row.notification.id for row in page.listed] == [i for i in everything if i > after][-3:]


async def listed(engine: AsyncEngine, wanted: Filter) -> list[int]:
    """All pages, from the newest on."""
    found, before, more = list[int](), None, True
    while more:
        page = await search_queries.notifications(engine, replace(wanted, before=before), rows=5)
        found += [row.notification.id for row in page.listed]
        before, more = page.next_before, page.next_before is not None
    return found
