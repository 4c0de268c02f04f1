"""A walk through Tidings, by its public doors only: one event from the POST to the dashboard. Read from top to bottom.

`tidings dev` really runs: Valkey, PostgreSQL, the API, the dashboard and the consumers, in a folder of its own. The simulated
mail provider fails half of its calls, and its seed is such that the first mail fails once. The tests build on each other.
"""

import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx2
import pytest

from tests.processes import Dev, dev

Wait = Callable[..., Awaitable[Any]]

INSTANT = {f"simulated_{channel}_latency_ms": "5" for channel in ("email", "sms", "push")}
FAILS_ONCE = {
    "simulated_email_failure_rate": "0.5",
    "simulated_sms_failure_rate": "0",
    "simulated_seed": "1",
    "email_waits_s": "0,0.3,0.3,0.3",
}
EVENT = {
    "eventId": "evt-123",
    "eventType": "ORDER_PLACED",
    "userId": "user_123",
    "payload": {"orderAmount": 250, "items": ["Laptop", "Mouse"]},
    "timestamp": "2026-03-31T16:30:00Z",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """`tidings dev`, ready."""
    with dev(tmp_path_factory.mktemp("walkthrough"), **INSTANT, **FAILS_ONCE) as started:
        yield started


@pytest.fixture
def api(running: Dev) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=running.api) as client:
        yield client


def test_1_one_command_starts_everything_and_says_where_it_is(running: Dev) -> None:
    assert running.ready_line == f"ready {running.api} {running.dashboard}"
    assert httpx2.get(f"{running.api}/readyz").json() == {"status": "ok", "postgresql": "ok", "redis": "ok"}


def test_2_an_event_is_accepted_once_it_is_stored(api: httpx2.Client) -> None:
    answer = api.post("/api/events", json=EVENT)
    assert answer.status_code == 202
    assert answer.json() == {"message": "Event accepted and queued for processing", "jobId": "evt-123", "duplicate": False}
    assert answer.headers["location"] == "/api/events/evt-123"


def test_3_the_same_event_again_is_known_and_another_one_under_its_id_is_refused(api: httpx2.Client) -> None:
    assert api.post("/api/events", json=EVENT).json()["duplicate"] is True
    refusal = api.post("/api/events", json={**EVENT, "userId": "user_456"})
    assert (refusal.status_code, refusal.headers["content-type"]) == (409, "application/problem+json")


async def test_4_it_goes_out_on_three_channels_and_the_mail_that_failed_is_sent_again(
    api: httpx2.Client, wait_until: Wait
) -> None:
    await wait_until(lambda: statuses(api) == {"EMAIL": "SENT", "SMS": "SENT", "PUSH": "SENT"})
    story = api.get("/api/events/evt-123").json()
    assert story["decisions"]["EMAIL"] == {"use": True, "reason": "default"}
    [mail] = [n for n in story["notifications"] if n["channel"] == "EMAIL"]
    assert [(a["number"], a["outcome"]) for a in mail["attempts"]] == [(1, "unavailable"), (2, "sent")]


def test_5_its_notifications_are_in_the_users_history_newest_first(api: httpx2.Client) -> None:
    history = api.get("/api/notifications/user_123").json()
    assert {n["channel"] for n in history} == {"EMAIL", "SMS", "PUSH"}
    assert [n["id"] for n in history] == sorted((n["id"] for n in history), reverse=True)
    assert all(n["payload"] == EVENT["payload"] for n in history)


async def test_6_the_streams_are_empty_again(running: Dev, wait_until: Wait) -> None:
    for stream in ("events", "email"):
        await wait_until(lambda s=stream: running.tidings("redis", "xlen", f"tidings:{{0}}:{s}") == "0")
    assert "name" in running.tidings("redis", "xinfo", "groups", "tidings:{0}:email")


async def test_7_a_user_who_wants_no_sms_gets_none(api: httpx2.Client, wait_until: Wait) -> None:
    assert api.patch("/api/preferences/user_123", json={"smsOptIn": False}).json()["smsOptIn"] is False
    api.post("/api/events", json={**EVENT, "eventId": "evt-124"})
    await wait_until(lambda: set(statuses(api, "evt-124")) == {"EMAIL", "PUSH"})
    assert api.get("/api/events/evt-124").json()["decisions"]["SMS"] == {"use": False, "reason": "opted_out"}


async def test_8_the_sixth_event_of_a_minute_is_one_too_many(api: httpx2.Client, wait_until: Wait) -> None:
    for number in range(6):
        api.post("/api/events", json={**EVENT, "eventId": f"evt-often-{number}", "userId": "user_often"})
        await wait_until(lambda n=number: len(statuses(api, f"evt-often-{n}")) == 3)
    assert set(statuses(api, "evt-often-5").values()) == {"FAILED"}
    assert {n["reason"] for n in api.get("/api/events/evt-often-5").json()["notifications"]} == {"rate_limited"}


def test_9_the_dashboard_tells_the_story(running: Dev) -> None:
    with httpx2.Client(base_url=running.dashboard, follow_redirects=True) as browser:
        overview = browser.get("").text
        assert "tidings:{0}:email" in overview
        assert "evt-often-5" in overview, "the newest"
        assert "evt-123" in browser.get("/notifications").text
        story = browser.get("/search", params={"q": "evt-123"}).text
        assert "simulated failure" in story
        assert "user_123" in story


def test_10_send_posts_a_sample_and_watches_it_arrive(running: Dev) -> None:
    said = running.tidings("send", "--user", "user_999", "--watch")
    assert "EMAIL" in said
    assert "sent" in said


def test_11_the_schema_is_what_the_code_expects(running: Dev) -> None:
    assert (
        subprocess.run(
            [sys.executable, "-m", "app", "schema", "check"], cwd=running.folder, env=running.env, check=False
        ).returncode
        == 0
    )


def statuses(api: httpx2.Client, event_id: str = "evt-123") -> dict[str, str]:
    return {n["channel"]: n["status"] for n in api.get(f"/api/events/{event_id}").json()["notifications"]}
