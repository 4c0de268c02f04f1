"""The dashboard on real servers: what an operator types, and what the page says; and that no page is ever a traceback."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.domain import Channel, EventStatus, Outgoing, Status
from app.models import Notification
from app.process import free_port
from app.resources import Resources, open_engine, open_redis
from app.settings import Settings
from app.streams import EVENTS, WORK_STREAMS, create_group, publish, read
from tests import support
from tests.integration.conftest import patient
from tests.processes import environment, process
from web import away, counts, queries
from web.__main__ import main
from web.counts import Count, Precision
from web.queries import reading, unfinished
from web.render import HEADERS
from web.routes import build_app

BASE = "/admin/queues"
Wait = Callable[..., Awaitable[Any]]
Make = Callable[..., Settings]


async def browse(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the dashboard with these settings; an exception inside is a 500, as it is for a browser."""
    redis = open_redis(patient(settings))
    async with open_engine(settings, "web") as engine:
        transport = httpx2.ASGITransport(app=build_app(settings, engine, redis), raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client
    await redis.aclose()


@pytest.fixture
async def browser(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async for client in browse(settings):
        yield client


async def page(browser: httpx2.AsyncClient, path: str = "", status: int = 200) -> str:
    answer = await browser.get(BASE + path)
    assert answer.status_code == status, answer.text
    return answer.text


async def ids_of(browser: httpx2.AsyncClient, path: str) -> list[int]:
    """The ids of the notifications on a list and on all older pages of it."""
    found: list[int] = []
    link: str | None = BASE + path
    while link:
        answer = (await browser.get(link)).text
        found += [int(cell.partition("<")[0]) for cell in answer.split('class="n number">')[1:]]
        older = answer.partition('" rel="next"')[0].rpartition('<a href="')[2] if 'rel="next"' in answer else ""
        link = older.replace("&amp;", "&") or None
    return found


async def test_the_root_leads_to_the_overview(browser: httpx2.AsyncClient) -> None:
    answer = await browser.get("/")
    assert answer.headers["location"] == BASE


async def test_the_overview_of_an_empty_house(browser: httpx2.AsyncClient) -> None:
    answer = await page(browser)
    assert "Every stream: no consumer is connected. Nothing waits yet." in answer
    assert "XINFO GROUPS &#39;tidings:{0}:email&#39;" in answer


async def test_the_overview_says_that_all_is_well(browser: httpx2.AsyncClient, resources: Resources) -> None:
    for stream in WORK_STREAMS:
        await create_group(resources.redis, stream)
        await read(resources.redis, stream, "one", 1, 1)
    assert "All caught up" in await page(browser)


@pytest.mark.parametrize("path", ["/", BASE, f"{BASE}/nowhere", f"{BASE}/search?q=x", "/static/style.css", "/static/none.css"])
async def test_every_answer_has_the_strict_headers(browser: httpx2.AsyncClient, path: str) -> None:
    answer = await browser.get(path)
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert "unsafe" not in answer.headers["content-security-policy"]


async def test_the_story_of_an_event_says_why_there_was_no_sms(browser: httpx2.AsyncClient, resources: Resources) -> None:
    await resources.pool.execute("insert into preference (user_id, sms_opt_in) values ('user_123', false)")
    event_pks = await support.add_events(resources, support.event("evt-1"))
    await support.route(resources, event_pks)
    story = await page(browser, f"/events/{event_pks[0]}")
    assert "not used, the user opted out" in story
    assert "to be sent: first try has been due for" in story
    assert "&#34;orderAmount&#34;: 250" in story
    assert "This user has opted out of SMS." in await page(browser, "/user?id=user_123")


async def test_the_story_shows_the_open_attempt(browser: httpx2.AsyncClient, resources: Resources) -> None:
    notification = await support.start_attempt(resources, Channel.SMS, me="host-7-cd")
    event_pk = (await support.notification(resources, notification))["event_pk"]
    story = await page(browser, f"/events/{event_pk}")
    assert "Attempt 1: being sent now" in story
    assert "consumer host-7-cd" in story


async def test_the_story_shows_what_is_sent_at_once_before_it_has_rows(browser: httpx2.AsyncClient, resources: Resources) -> None:
    [event_pk] = await support.add_events(resources, support.event("evt-1"))
    row = await support.event_row(resources, event_pk)
    await publish(resources.redis, EVENTS, [Outgoing(event_pk, "evt-1", "user_123", "ORDER_PLACED", row["published_at"])])
    await create_group(resources.redis, EVENTS)
    await read(resources.redis, EVENTS, "host-7-cd", 1, 1)
    claimed = "claimed_by = 'host-7-cd', claimed_at = now(), lease_until = now() + interval '1 min', first_id = 8"
    decided = """decisions = '{"SMS": {"use": true, "reason": "default"}}'"""
    await support.change(resources, "event", event_pk, f"{claimed}, {decided}")
    story = await page(browser, f"/events/{event_pk}")
    assert "Being sent at once" in story
    assert "SMS attempt 1: being sent for" in story
    assert "In the hand of host-7-cd" in story
    assert "EMAIL" not in story


async def test_the_story_shows_the_raw_entry_while_it_is_on_its_stream(browser: httpx2.AsyncClient, resources: Resources) -> None:
    [event_pk] = await support.add_events(resources, support.event("evt-1"))
    assert "Not every entry was found" in await page(browser, f"/events/{event_pk}")
    row = await support.event_row(resources, event_pk)
    await publish(resources.redis, EVENTS, [Outgoing(event_pk, "evt-1", "user_123", "ORDER_PLACED", row["published_at"])])
    story = await page(browser, f"/events/{event_pk}")
    assert "Nobody has read it yet." in story
    assert "<dd><bdi>evt-1</bdi></dd>" in story
    await create_group(resources.redis, EVENTS)
    [entry] = await read(resources.redis, EVENTS, "host-7-cd", 1, 1)
    story = await page(browser, f"/events/{event_pk}")
    assert "In the hand of host-7-cd" in story
    assert f"XPENDING &#39;tidings:{{0}}:events&#39; tidings {entry.id.decode()} {entry.id.decode()} 1" in story


@pytest.mark.parametrize("event_id", ["evt-1", "a/b?c=d&e", "<script>", "ünï 漢字", "%00"])
async def test_a_search_for_an_event_leads_to_its_story(browser: httpx2.AsyncClient, resources: Resources, event_id: str) -> None:
    [event_pk] = await support.add_events(resources, support.event(event_id, source="/shop"))
    answer = await browser.get(f"{BASE}/search?q={quote(f' {event_id} ', safe='')}")
    assert answer.headers["location"] == f"{BASE}/events/{event_pk}"


async def test_a_search_for_a_user_leads_to_the_user(browser: httpx2.AsyncClient, resources: Resources) -> None:
    await support.add_notification(resources, user_id="user 1&2")
    answer = await browser.get(f"{BASE}/search", params={"q": "user 1&2"})
    assert answer.headers["location"] == f"{BASE}/user?id=user+1%262"
    assert "<h1><bdi>user 1&amp;2</bdi></h1>" in (await browser.get(answer.headers["location"])).text


async def test_a_user_without_notifications_is_found_by_the_event(browser: httpx2.AsyncClient, resources: Resources) -> None:
    await support.add_events(resources, support.event("evt-quiet", user_id="quiet"))
    answer = await browser.get(f"{BASE}/search", params={"q": "quiet"}, follow_redirects=True)
    assert "evt-quiet" in answer.text


async def test_one_id_in_two_sources_is_a_choice(browser: httpx2.AsyncClient, resources: Resources) -> None:
    first, second = await support.add_events(resources, support.event("same", source="/a"), support.event("same", source="/b"))
    answer = await page(browser, "/search?q=same")
    assert f"{BASE}/events/{first}" in answer
    assert f"{BASE}/events/{second}" in answer


async def test_a_search_for_nothing_known(browser: httpx2.AsyncClient) -> None:
    assert "No event and no user is called &lt;b&gt;" in await page(browser, "/search?q=<b>", status=404)
    assert (await browser.get(f"{BASE}/search?q=+%00")).headers["location"] == BASE


async def test_lists_by_status_channel_and_user(browser: httpx2.AsyncClient, resources: Resources) -> None:
    waiting = await support.add_notifications(resources, 2, Channel.EMAIL, user_id="ann")
    started = await support.start_attempts(resources, 2, Channel.SMS)
    failed = await support.add_notifications(resources, 2, Channel.PUSH, user_id="bob")
    await support.change(resources, "notification", failed, "status = 'FAILED', reason = 'rejected'")
    everything = sorted(waiting + started + failed, reverse=True)
    assert await ids_of(browser, "/notifications") == everything
    assert await ids_of(browser, "/notifications?status=&channel=&user=&before=") == everything
    assert await ids_of(browser, "/notifications?status=PENDING") == sorted(waiting, reverse=True)
    assert await ids_of(browser, "/notifications?status=PROCESSING&channel=SMS") == sorted(started, reverse=True)
    assert await ids_of(browser, "/notifications?status=PROCESSING&channel=PUSH") == []
    assert await ids_of(browser, "/notifications?status=FAILED") == sorted(failed, reverse=True)
    assert await ids_of(browser, "/notifications?user=ann&status=PENDING") == sorted(waiting, reverse=True)
    assert await ids_of(browser, "/notifications?user=bob&status=PENDING") == []
    assert await ids_of(browser, f"/notifications?before={started[0]}") == sorted(waiting, reverse=True)


async def test_counts_are_exact_at_least_or_estimated(
    settings: Settings, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await support.add_notifications(resources, 40)
    await support.change(resources, "notification", ids[:38], "status = 'SENT'")
    await support.change(resources, "notification", ids[38:], "status = 'FAILED', reason = 'rejected'")
    async with open_engine(settings, "web") as engine:
        found = await counts.counts(engine)
        assert found.notifications[Status.SENT] == Count(38)
        assert found.events == {s: Count(40 if s is EventStatus.ROUTED else 0) for s in EventStatus}
        monkeypatch.setattr(counts, "COUNTED_ROWS", 10)
        assert (await counts.counts(engine)).notifications[Status.SENT] == Count(10, Precision.AT_LEAST)
        await resources.pool.execute("analyze")
        found = await counts.counts(engine)
        assert found.notifications[Status.SENT] == Count(38, Precision.ABOUT)
        assert found.notifications[Status.FAILED] == Count(2)


async def test_what_is_owed_is_told_per_stream(settings: Settings, resources: Resources) -> None:
    ids = await support.add_notifications(resources, 2, Channel.SMS)
    await support.change(resources, "notification", ids[0], "published_at = now() - interval '300 s'")
    await support.change(resources, "notification", ids[1], "published_at = null, due_at = now() - interval '45 s'")
    async with open_engine(settings, "web") as engine:
        owed = await counts.owed(engine)
    ages = {
        stream.rpartition(":")[2]: [
            time and round((owed.now - time).total_seconds()) for time in (of.published_at, of.parked_due_at)
        ]
        for stream, of in owed.by_stream.items()
    }
    assert ages == {"events": [None, None], "email": [None, None], "sms": [300, 45], "push": [None, None]}


async def test_the_unfinished_are_found_by_their_partial_index(settings: Settings) -> None:
    async with open_engine(settings, "web") as engine, reading(engine) as (session, _):
        await session.execute(text("set local enable_seqscan = off"))
        condition = unfinished(Notification).compile(compile_kwargs={"literal_binds": True})
        plan = await session.scalars(text(f"explain select id from notification where {condition} and channel = 'SMS'"))
        assert "notification_p" in "".join(plan)


async def test_the_dashboard_cannot_write(settings: Settings) -> None:
    async with open_engine(settings, "web") as engine, reading(engine) as (session, _):
        with pytest.raises(DBAPIError, match="read-only"):
            await session.execute(text("delete from event"))


@pytest.mark.parametrize(
    "path",
    [
        "/events/0", f"/events/{2**63 - 1}", f"/events/{2**63}", f"/events/{'9' * 5000}", "/events/x", "/events/1/2",
        "/notifications?before=-1", f"/notifications?before={'9' * 5000}", "/notifications?before=²&status=sent&channel=FAX",
        "/notifications?user=%00", "/notifications?user=%ff%fe", f"/notifications?user={'x' * 5000}", "/search", "/search?q=",
        "/search?q=%ed%a0%80", f"/search?q={'%F0%9F%92%A9' * 300}", "/notifications?status=PENDING&status=SENT", "/../static/x",
        "/user", "/user?id=", "/user?id=%00", f"/user?id={'%F0%9F%92%A9' * 300}", "/failures?status=SENT&reason=%00&before=x",
        f"/failures?before={'9' * 5000}&replayed=notification-x", f"/failures?replayed=notification-{'9' * 5000}", "/retries?x=y",
    ],
)  # fmt: skip
async def test_nothing_that_can_be_typed_breaks_it(browser: httpx2.AsyncClient, path: str) -> None:
    assert (await browser.get(BASE + path)).status_code in (200, 303, 404)


async def test_it_only_shows(browser: httpx2.AsyncClient) -> None:
    answer = await browser.post(BASE, data={"a": "b"})
    assert (answer.status_code, set(answer.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
    assert "does not take this request" in answer.text


async def test_a_mistake_of_ours_is_a_page(browser: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.live.overview", lambda *_: 1 / 0)
    assert "ZeroDivisionError" not in await page(browser, status=500)


async def test_redis_away(make_settings: Make, resources: Resources) -> None:
    await support.add_notification(resources, event_id="evt-seen")
    async for browser in browse(make_settings(redis_url=f"redis://127.0.0.1:{free_port(0)}")):
        answer = await page(browser)
        assert "Redis cannot be reached. Nothing is lost, work waits in PostgreSQL." in answer
        assert "evt-seen" in answer


async def test_postgresql_away(make_settings: Make) -> None:
    async for browser in browse(make_settings(database_url=f"postgresql://postgres@127.0.0.1:{free_port(0)}/tidings")):
        overview = await page(browser, status=503)
        assert "PostgreSQL cannot be reached." in overview
        assert "XINFO GROUPS" in overview, "the streams are shown"
        for path in ("/notifications", "/retries", "/failures", "/dead-letters", "/user?id=ann", "/events/1", "/search?q=ann"):
            assert "PostgreSQL cannot be reached." in await page(browser, path, status=503)


async def test_a_database_without_tables_names_the_command(make_settings: Make, settings: Settings) -> None:
    url = settings.database_url.rpartition("/")[0]
    for database, words in (("postgres", "has no Tidings tables yet"), ("nowhere", "has no such database")):
        async for browser in browse(make_settings(database_url=f"{url}/{database}")):
            assert f"PostgreSQL {words}: run `tidings schema apply`." in await page(browser, status=503)


async def test_servers_that_accept_and_say_nothing(make_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(away, "ANSWER_LIMIT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        silent = make_settings(
            redis_url=f"redis://127.0.0.1:{port}", database_url=f"postgresql://postgres@127.0.0.1:{port}/tidings"
        )
        async for browser in browse(silent):
            answer = await asyncio.wait_for(page(browser, status=503), 5)
            assert "PostgreSQL did not answer within 0.3 s." in answer
            assert "Redis " in answer


async def test_a_query_that_takes_too_long_is_given_up(
    browser: httpx2.AsyncClient, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "STATEMENT_LIMIT_MS", 100)
    async with resources.pool.acquire() as connection, connection.transaction():
        await connection.execute("lock table notification in access exclusive mode")
        assert "PostgreSQL took too long over a query." in await page(browser, "/notifications", status=503)
    await page(browser, "/notifications")


async def test_the_process_serves_and_leaves_on_sigterm(settings: Settings, tmp_path: Path, wait_until: Wait) -> None:
    port = free_port(0)
    with process(["web"], environment(settings, dashboard_port=port), tmp_path) as child:
        assert await wait_until(lambda: status_of(f"http://127.0.0.1:{port}{BASE}")) == 200
        child.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(child.wait, 10) == 0


async def test_the_process_starts_without_any_server(make_settings: Make, tmp_path: Path, wait_until: Wait) -> None:
    nowhere = free_port(0)
    lonely = make_settings(redis_url=f"redis://127.0.0.1:{nowhere}", database_url=f"postgresql://127.0.0.1:{nowhere}/tidings")
    port = free_port(0)
    with process(["web"], environment(lonely, dashboard_port=port), tmp_path):
        assert await wait_until(lambda: status_of(f"http://127.0.0.1:{port}{BASE}")) == 503


def status_of(url: str) -> int | None:
    try:
        return httpx2.get(url, timeout=5).status_code
    except httpx2.TransportError:
        return None


Failure = Callable[[str], list[str]]


@pytest.fixture
def failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Failure:
    """What a dashboard that cannot start on this DASHBOARD_PORT says before it leaves with status 1."""

    def start(port: str) -> list[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("DASHBOARD_PORT", port)
        monkeypatch.setattr("web.__main__.configure", lambda *_: None)  # these tests keep their own logging
        assert main() == 1
        said = capsys.readouterr()
        assert said.out == ""
        return said.err.splitlines()

    return start


def test_a_taken_port_is_one_line_and_exit_status_1(failure: Failure) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = failure(str(port))
    assert said == [
        f"tidings web: cannot listen on 127.0.0.1 port {port} (settings DASHBOARD_HOST, DASHBOARD_PORT): Address already in use"
    ]


def test_a_wrong_setting_is_one_line_and_exit_status_1(failure: Failure) -> None:
    [line] = failure("many")
    assert line.startswith("tidings web: setting DASHBOARD_PORT")
