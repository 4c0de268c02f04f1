"""Operations on many notifications, on real servers: asked before, once each, in the log, and resumed by doing it again."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest

from app.domain import Channel
from app.process import free_port
from app.resources import Resources
from app.settings import Settings
from tests import support
from tests.integration.test_web import BASE, browse, page, status_of
from tests.processes import environment, process
from web import jobs

Wait = Callable[..., Awaitable[Any]]
Make = Callable[..., Settings]
Fields = list[tuple[str, str]]


@pytest.fixture
async def browser(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async for client in browse(settings):
        yield client


async def failed(resources: Resources, number: int, channel: Channel = Channel.EMAIL, **other: Any) -> list[int]:
    ids = await support.add_notifications(resources, number, channel, **other)
    await support.change(resources, "notification", ids, "status = 'FAILED', reason = 'rejected', error = 'no such box'")
    return ids


async def form(browser: httpx2.AsyncClient, query: str) -> Fields:
    """What the confirming page sends on."""
    shown = (await page(browser, f"/notifications/act?{query}")).partition('method="post"')[2].partition("</form>")[0]
    fields = re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', shown)
    assert fields, "the page has no such form"
    return fields


async def begin(browser: httpx2.AsyncClient, fields: Fields, why: str = "the provider is back", **other: str) -> httpx2.Response:
    body = urlencode([*fields, ("why", why), *other.items()])
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return await browser.post(f"{BASE}/notifications/act", content=body, headers=headers)


async def settled(browser: httpx2.AsyncClient, answer: httpx2.Response, wait_until: Wait) -> str:
    """The page of the job once it is over."""
    assert answer.status_code == 303, answer.text
    link = answer.headers["location"]

    async def over() -> str:
        shown = (await browser.get(link)).text
        return "" if "data-refresh-s" in shown else shown

    return str(await wait_until(over))


async def rows(resources: Resources, ids: list[int]) -> list[tuple[str, int]]:
    found = await resources.pool.fetch("select status, replays from notification where id = any($1) order by id", ids)
    return [(r["status"], r["replays"]) for r in found]


async def actions(resources: Resources) -> list[tuple[Any, ...]]:
    return [tuple(r) for r in await resources.pool.fetch("select action, target, count, reason from audit order by id")]


async def test_all_that_match_are_replayed_once(
    browser: httpx2.AsyncClient, resources: Resources, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "BATCH", 4)
    mine, others = await failed(resources, 10, user_id="ann"), await failed(resources, 2, user_id="bob")
    fields = await form(browser, "do=replay-all&user=ann&error=BOX")
    await failed(resources, 1, user_id="ann")  # later: not counted, not taken
    shown = await settled(browser, await begin(browser, fields, rate="10"), wait_until)
    assert "10 notifications are on the way again." in shown
    assert await rows(resources, mine) == [("PENDING", 1)] * 10
    assert await rows(resources, others) == [("FAILED", 0)] * 2
    due = await resources.pool.fetch("select due_at from notification where id = any($1) order by id", mine)
    steps = [(b["due_at"] - a["due_at"]).total_seconds() for a, b in pairwise(due)]
    assert min(steps) == 0.1, "ten a second"
    words = "FAILED or UNKNOWN notifications of ann without discarded ones with “BOX” in their error"
    assert await actions(resources) == [
        ("begin: replay notifications", words, None, "the provider is back"),
        ("replay notifications", words, 10, "the provider is back"),
    ]
    again = await settled(browser, await begin(browser, fields), wait_until)
    assert "0 notifications are on the way again." in again
    assert await rows(resources, mine) == [("PENDING", 1)] * 10


async def test_a_selection_is_taken_and_nothing_else(browser: httpx2.AsyncClient, resources: Resources, wait_until: Wait) -> None:
    ids = await failed(resources, 4)
    await support.change(resources, "notification", ids[1], "status = 'SENT', reason = null")
    fields = await form(browser, f"do=replay-selected&id={ids[0]}&id={ids[1]}&id={ids[3]}&user=nobody")
    await support.change(resources, "notification", ids[3], "updated_at = now() + interval '1 h'")  # it failed once more
    shown = await settled(browser, await begin(browser, fields), wait_until)
    assert "1 notification is on the way again." in shown
    assert await rows(resources, ids) == [("PENDING", 1), ("SENT", 0), ("FAILED", 0), ("FAILED", 0)]
    assert [(a[0], a[2]) for a in await actions(resources)] == [("replay notifications", 1)]


async def test_what_waits_is_cancelled(browser: httpx2.AsyncClient, resources: Resources, wait_until: Wait) -> None:
    waiting = await support.add_notifications(resources, 3, Channel.SMS)
    started = await support.start_attempts(resources, 1, Channel.SMS)
    fields = await form(browser, "do=cancel-all&channel=SMS")
    later = await support.add_notifications(resources, 1, Channel.SMS)
    await settled(browser, await begin(browser, fields, "wrong campaign"), wait_until)
    assert await rows(resources, waiting) == [("CANCELLED", 0)] * 3
    assert await rows(resources, started + later) == [("PROCESSING", 0), ("PENDING", 0)]
    assert (await actions(resources))[-1] == ("cancel notifications", "PENDING notifications on SMS", 3, "wrong campaign")


async def test_dead_letters_are_discarded(browser: httpx2.AsyncClient, resources: Resources, wait_until: Wait) -> None:
    dead, other = await failed(resources, 2), await failed(resources, 1)
    await support.change(resources, "notification", dead, "reason = 'dead_letter', error = 'delivered 9 times'")
    await settled(browser, await begin(browser, await form(browser, "do=discard-all"), "bad test data"), wait_until)
    found = await resources.pool.fetch("select status, reason, error from notification where id = any($1)", dead)
    assert {tuple(r) for r in found} == {("FAILED", "discarded", "discarded: bad test data (it was: delivered 9 times)")}
    assert (await support.notification(resources, other[0]))["reason"] == "rejected"


async def test_replaying_all_leaves_out_what_somebody_gave_up(
    browser: httpx2.AsyncClient, resources: Resources, wait_until: Wait
) -> None:
    given_up, other = await failed(resources, 1), await failed(resources, 1)
    await support.change(resources, "notification", given_up, "reason = 'discarded'")
    await settled(browser, await begin(browser, await form(browser, "do=replay-all"), "the provider is back"), wait_until)
    assert await rows(resources, given_up + other) == [("FAILED", 0), ("PENDING", 1)]
    await settled(browser, await begin(browser, await form(browser, "do=replay-all&reason=discarded"), "it was fit"), wait_until)
    assert await rows(resources, given_up) == [("PENDING", 1)]


async def test_without_a_reason_nothing_is_begun(browser: httpx2.AsyncClient, resources: Resources) -> None:
    ids = await failed(resources, 1)
    fields = await form(browser, "do=replay-all")
    answer = await begin(browser, fields, "  ")
    assert (answer.status_code, await rows(resources, ids), await actions(resources)) == (422, [("FAILED", 0)], [])
    assert "Say why in a few words" in answer.text
    assert re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', answer.text)[1:] == fields[1:], "the same form again"


async def test_a_viewer_token_or_another_site_begins_nothing(browser: httpx2.AsyncClient, resources: Resources) -> None:
    ids = await failed(resources, 1)
    fields = await form(browser, "do=replay-all")
    without = [(name, value) for name, value in fields if name != "token"]
    assert (await begin(browser, without)).status_code == 403
    answer = await browser.post(
        f"{BASE}/notifications/act", data={**dict(fields), "why": "x"}, headers={"sec-fetch-site": "cross-site"}
    )
    assert (answer.status_code, await rows(resources, ids)) == (403, [("FAILED", 0)])


@pytest.mark.parametrize(
    "query",
    ["", "do=replay-all&channel=FAX", "do=replay-selected", "do=replay-selected&id=x", "do=drop-all", "do=replay-all&since=%00x"],
)
async def test_what_makes_no_sense_is_not_asked(browser: httpx2.AsyncClient, query: str) -> None:
    await page(browser, f"/notifications/act?{query}", status=400)


@pytest.mark.parametrize(
    "change",
    [
        {"do": "x"}, {"as_of": ""}, {"as_of": "9" * 900}, {"rate": "nan"}, {"rate": "x"}, {"status": "SENT"}, {"since": "\0?"},
        {"channel": "\ud800".encode("utf-8", "surrogatepass")},
    ],
)  # fmt: skip
async def test_a_form_that_was_changed_begins_nothing(
    browser: httpx2.AsyncClient, resources: Resources, change: dict[str, Any]
) -> None:
    ids = await failed(resources, 1)
    fields = await form(browser, "do=replay-all")
    answer = await begin(browser, [*fields, *change.items()])
    assert (answer.status_code, await rows(resources, ids)) == (400, [("FAILED", 0)])


async def test_numbers_of_any_size(browser: httpx2.AsyncClient, resources: Resources, wait_until: Wait) -> None:
    ids = await failed(resources, 1)
    fields = await form(browser, "do=replay-all")
    answer = await begin(browser, fields, "x" * 2000, counted="9" * 4000)
    await settled(browser, answer, wait_until)
    assert await rows(resources, ids) == [("PENDING", 1)]
    assert len((await actions(resources))[-1][3]) == 500


async def test_jobs_are_listed_and_others_not_found(browser: httpx2.AsyncClient, resources: Resources, wait_until: Wait) -> None:
    assert "None yet." in await page(browser, "/jobs")
    await failed(resources, 1)
    await settled(browser, await begin(browser, await form(browser, "do=replay-all")), wait_until)
    assert "Replay FAILED or UNKNOWN notifications" in await page(browser, "/jobs")
    await page(browser, "/jobs/nowhere", status=404)


async def test_postgresql_away(browser: httpx2.AsyncClient, resources: Resources, make_settings: Make) -> None:
    await failed(resources, 1)
    away = make_settings(
        database_url=f"postgresql://postgres@127.0.0.1:{free_port(0)}/tidings", dashboard_secret="a secret of the tests"
    )
    async for lonely in browse(away):
        assert "PostgreSQL cannot be reached." in await page(lonely, "/notifications/act?do=replay-all", status=503)


async def test_a_dashboard_killed_half_way_leaves_the_rest_to_be_done_again(
    settings: Settings, resources: Resources, tmp_path: Path, wait_until: Wait
) -> None:
    ids = await failed(resources, 1800)
    port = free_port(0)
    address = f"http://127.0.0.1:{port}"

    async def done() -> int:
        return sum(replays for _, replays in await rows(resources, ids))

    for killed in (True, False):
        with process(["web"], environment(settings, dashboard_port=port), tmp_path) as child:
            await wait_until(lambda: status_of(f"{address}{BASE}") == 200)
            async with httpx2.AsyncClient(base_url=address) as client:
                fields = await form(client, "do=replay-all")
                if not killed:
                    assert "800 notifications are on the way again." in await settled(
                        client, await begin(client, fields), wait_until
                    )
                    continue
                async with resources.pool.acquire() as holder, holder.transaction():
                    await holder.execute("select from notification where id = $1 for update", ids[1200])  # in the third batch
                    await begin(client, fields)
                    await wait_until(lambda: _is(done, 1000))
                    child.kill()
                    child.wait()
    assert await rows(resources, ids) == [("PENDING", 1)] * 1800, "each once"
    assert [(a[0], a[2]) for a in await actions(resources)] == [
        ("begin: replay notifications", None),
        ("begin: replay notifications", None),
        ("replay notifications", 800),
    ]


async def _is(ask: Callable[[], Awaitable[int]], wanted: int) -> bool:
    return await ask() == wanted
