"""`tidings seed`: rows as a running system would have written them, once, and beside nobody else's."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from app.domain import Channel, Preference, Status
from app.resources import Resources
from app.seed import Seeded, SeedError, decisions, run, seed
from app.seed_samples import PREFERENCES, SAMPLES, Sample
from app.settings import Settings
from app.store.owed import take_owed_notifications
from tests import support
from tests.integration.test_web import browse, page
from tests.support import claim

TABLES = ("event", "notification", "attempt", "preference")


@pytest.fixture
async def browser(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async for client in browse(settings):
        yield client


async def add(resources: Resources, force: bool = False) -> Seeded:
    async with resources.pool.acquire() as connection:
        return await seed(connection, force)


async def rows(resources: Resources) -> dict[str, list[str]]:
    return {t: [r["r"] for r in await resources.pool.fetch(f"select {t}::text as r from {t} order by 1")] for t in TABLES}


async def test_a_second_run_adds_nothing(resources: Resources) -> None:
    assert await add(resources) == Seeded(len(PREFERENCES), len(SAMPLES))
    before = await rows(resources)
    assert await add(resources) == Seeded(0, 0)
    assert await rows(resources) == before


async def test_two_runs_at_once_add_it_once(resources: Resources) -> None:
    added = await asyncio.gather(add(resources), add(resources))
    assert sum(one.events for one in added) == len(SAMPLES)
    assert await resources.pool.fetchval("select count(*) from event") == len(SAMPLES)


async def test_it_refuses_where_events_are_real(resources: Resources) -> None:
    await support.add_events(resources, support.event(user_id="user_456"))
    before = await rows(resources)
    with pytest.raises(SeedError, match="real events; `tidings seed --force`"):
        await add(resources)
    assert await rows(resources) == before


async def test_forced_it_leaves_real_users_alone(resources: Resources) -> None:
    await support.route(resources, await support.add_events(resources, support.event(user_id="user_456")))
    await resources.pool.execute("insert into preference (user_id, push_opt_in) values ('user_123', false)")
    assert await add(resources, force=True) == Seeded(1, len(SAMPLES))
    stored = await resources.pool.fetch("select user_id, push_opt_in from preference order by 1")
    assert [tuple(r) for r in stored] == [("user_123", False), ("user_789", False)], "user_456 has no row, and gets none"


async def test_every_end_is_there(resources: Resources) -> None:
    await add(resources)
    found = await resources.pool.fetch("select distinct status from notification")
    assert {r["status"] for r in found} == set(Status) - {Status.PROCESSING}


async def test_attempts_and_rows_agree(resources: Resources) -> None:
    await add(resources)
    ends = {"sent": {"SENT"}, "rejected": {"FAILED"}, "unavailable": {"FAILED", "PENDING"}, "unknown": {"UNKNOWN"}}
    for row in await resources.pool.fetch("select * from notification"):
        attempts = await support.attempts(resources, row["id"])
        assert [a["number"] for a in attempts] == list(range(1, row["attempt"] + 1))
        assert row["tries"] == row["attempt"]
        assert row["possible_duplicate"] == any(a["possible_duplicate"] for a in attempts)
        if attempts:
            assert row["status"] in ends[attempts[-1]["outcome"]]
            assert (row["claimed_at"], row["updated_at"]) == (attempts[-1]["started_at"], attempts[-1]["ended_at"])
        times = [row["created_at"], *(t for a in attempts for t in (a["started_at"], a["ended_at"])), row["updated_at"]]
        assert times == sorted(times), "one thing after the other"


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.event_id)
def test_decisions_and_notifications_agree(sample: Sample) -> None:
    told = decisions(sample, PREFERENCES[sample.user_id])
    used = {channel for channel, decision in told.items() if decision.use or decision.reason == "rate_limited"}
    notes = {note.channel for note in sample.notes}
    assert notes == (used if notes else set())


async def test_the_waiting_one_is_delivered_when_due(resources: Resources) -> None:
    await add(resources)
    [row] = await resources.pool.fetch("select *, due_at - now() as wait from notification where not done")
    assert 60 < row["wait"].total_seconds() < 900
    await support.change(resources, "notification", row["id"], "due_at = now()")
    [owed] = await take_owed_notifications(resources.pool, Channel(row["channel"]), None, 1, 10)
    [claimed] = await claim(resources, [owed.row_id], "me", lease_s=9, at_most_once=False, max_tries=7, calm_s=0)
    assert (claimed.verdict, claimed.attempt, claimed.user_id) == ("claimed", 5, "user_789")


async def test_the_pages_show_it(browser: httpx2.AsyncClient, resources: Resources) -> None:
    await add(resources)
    assert "seed-invoice-1" in await page(browser, "/retries")
    assert "550 5.1.1 no such mailbox" in await page(browser, "/failures")
    assert "seed-import-1" in await page(browser, "/dead-letters")
    assert "This user has opted out of SMS and PUSH." in await page(browser, "/user?id=user_789")
    assert "sent at try 2" in await page(browser, "/events/4")


async def test_the_command_says_what_it_added(resources: Resources, capsys: pytest.CaptureFixture[str]) -> None:
    await run(resources.settings, force=False)
    await run(resources.settings, force=False)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "added 12 events and the preferences of 3 users: see http://127.0.0.1:3000/admin/queues"
    assert second == "nothing added: the samples are there already"


def test_the_users_are_as_documented() -> None:
    assert {
        "user_123": Preference(),
        "user_456": Preference(sms=False),
        "user_789": Preference(sms=False, push=False),
    } == PREFERENCES
