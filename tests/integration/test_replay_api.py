"""Replay over HTTP: a look first, then no more than was seen; and one event by its id."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from app.domain import Channel
from app.resources import Resources, open_engine
from app.store import replay as statements
from tests.integration.api import Api, assert_problem, serve_in_process
from tests.integration.test_replay import due, failed, owed
from tests.support import add_events, change, event, event_row, notification

PATH = "/api/notifications/replay"


@pytest.fixture
async def api(resources: Resources) -> AsyncIterator[Api]:
    async with open_engine(resources.settings, "test history") as engine, serve_in_process(resources, engine) as opened:
        yield opened


async def post(api: Api, **body: Any) -> httpx2.Response:
    return await api.client.post(PATH, json={"status": "FAILED", **body})


async def test_a_dry_run_counts_and_changes_nothing(api: Api) -> None:
    await failed(api.resources, 2, possible_duplicate="true")
    await failed(api.resources, 1, Channel.SMS, reason="rejected")
    answer = await post(api, dryRun=True)
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "matching": 3,
            "more": False,
            "mayHaveBeenSent": 2,
            "byChannel": {"EMAIL": 2, "SMS": 1},
            "byReason": {"out_of_tries": 2, "rejected": 1},
        },
    )
    assert await owed(api.resources) == []


async def test_it_acts_on_what_was_seen_at_the_rate_asked_for(api: Api) -> None:
    ids = await failed(api.resources, 3)
    answer = await post(api, expected=3, ratePerS=4, limit=2)
    assert answer.status_code == 202
    body = answer.json()
    assert (body["replayed"], body["remaining"]) == (2, 1)
    assert await owed(api.resources) == ids[:2]
    first, last = await due(api.resources)
    assert (last - first, last) == (timedelta(seconds=0.25), datetime.fromisoformat(body["lastDueAt"]))


async def test_every_member_of_the_filter_counts(api: Api) -> None:
    await failed(api.resources, 1)
    wanted, *_ = await failed(api.resources, 1, Channel.SMS, reason="rejected", user_id="'user_9'", updated_at="'2026-01-02Z'")
    near = {"since": "2026-01-02T00:00:00Z", "until": "2026-01-02T00:00:01Z"}
    matching = {"channel": "SMS", "reason": "rejected", "userId": "user_9", "eventType": "ORDER_PLACED", **near}
    others = {
        "channel": "PUSH",
        "reason": "expired",
        "userId": "x",
        "eventType": "x",
        "since": near["until"],
        "until": near["since"],
    }
    for member, other in others.items():
        alone = {member: other} if member in near else {**matching, member: other}
        assert (await post(api, dryRun=True, **{**alone, "channel": alone.get("channel", "SMS")})).json()["matching"] == 0, member
    assert (await post(api, expected=1, **matching)).json()["replayed"] == 1
    assert await owed(api.resources) == [wanted]


async def test_where_more_match_than_expected_none_is_replayed(api: Api) -> None:
    await failed(api.resources, 3)
    problem = assert_problem(await post(api, expected=2), 409, "more-match")
    assert (problem["matching"], problem["byReason"]) == (3, {"out_of_tries": 3})
    assert problem["detail"] == "3 match, 2 were expected, so nothing was replayed. Look again, and send the new number."
    assert await owed(api.resources) == []


async def test_two_clicks_at_once_replay_each_row_once(api: Api) -> None:
    ids = await failed(api.resources, 20)
    answers = await asyncio.gather(*(post(api, expected=20) for _ in range(3)))
    assert [a.status_code for a in answers] == [202] * 3
    assert sum(a.json()["replayed"] for a in answers) == 20
    assert await owed(api.resources) == ids, "replays is 1"
    late = (await post(api, expected=20)).json()
    assert late == {"replayed": 0, "remaining": 0, "lastDueAt": None}


async def test_unknown_ones_are_replayed_only_when_named_and_marked(api: Api) -> None:
    (row_id,) = await failed(api.resources, 1, status="'UNKNOWN'", reason="crashed")
    assert (await post(api, dryRun=True)).json()["matching"] == 0
    assert (await post(api, status="UNKNOWN", expected=1)).json()["replayed"] == 1
    assert (await notification(api.resources, row_id))["possible_duplicate"]


@pytest.mark.parametrize(
    ("change", "pointer", "detail"),
    [
        ({"status": "SENT"}, "#/status", "status must be one of FAILED, UNKNOWN."),
        ({"status": None}, "#/status", "status must be one of FAILED, UNKNOWN."),
        ({"channel": "FAX"}, "#/channel", "channel must be one of EMAIL, SMS, PUSH."),
        ({"reason": "bored"}, "#/reason", "reason must be one of rejected, out_of_tries, .*"),
        ({"reason": ["rejected"]}, "#/reason", "reason must be one of .*"),
        ({"userId": ""}, "#/userId", "userId must not be empty."),
        ({"since": "2h"}, "#/since", "since must be an ISO 8601 .*"),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-02T00:00:00Z"}, "#/until", "until must be later than since."),
        ({"limit": 10_001}, "#/limit", "limit must be a whole number from 1 to 10,000."),
        ({"limit": True}, "#/limit", "limit must be .*"),
        ({"limit": "5"}, "#/limit", "limit must be .*"),
        ({"ratePerS": 0}, "#/ratePerS", "ratePerS must be a number from 0.1 to 10,000."),
        ({"expected": -1}, "#/expected", "expected must be a whole number from 0 to 1,000,000,000."),
        ({"expected": None}, "#/expected", "expected is missing: ask with .*"),
        ({"users": "x"}, "#/users", "'users' is not known here: .*"),
    ],
)
async def test_what_makes_no_sense_is_422(api: Api, change: dict[str, Any], pointer: str, detail: str) -> None:
    await failed(api.resources, 1)
    problem = assert_problem(await post(api, **{"expected": 1, **change}), 422, "validation")
    assert problem["errors"][0]["pointer"] == pointer
    assert matches(detail, problem["errors"][0]["detail"])
    assert await owed(api.resources) == []


async def test_a_count_that_takes_too_long_is_503(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "COUNT_WITHIN_S", 0.05)
    async with api.pool.acquire() as holder, holder.transaction():
        await holder.execute("lock table notification")
        problem = assert_problem(await post(api, dryRun=True), 503, "unavailable")
    assert "Narrow the filter" in problem["detail"]


async def test_a_user_may_be_called_replay(api: Api) -> None:
    assert (await api.client.get(PATH)).json() == []
    problem = await api.client.put(PATH)
    assert_problem(problem, 405, "method-not-allowed")
    assert problem.headers["allow"] == "GET, HEAD, POST"


# ---- one event


@pytest.mark.parametrize(("event_id", "source"), [("evt-1", ""), ("a/replay", ""), ("50 %/ü", "https://shop.example/1")])
async def test_a_failed_event_is_routed_again(api: Api, event_id: str, source: str) -> None:
    (event_pk,) = await add_events(api.resources, event(event_id, source=source))
    await change(api.resources, "event", event_pk, "status = 'FAILED', reason = 'dead_letter'")
    answer = await api.client.post(f"/api/events/{quote(event_id, safe='')}/replay", params={"source": source})
    assert (answer.status_code, answer.json()) == (202, {"eventId": event_id, "source": source, "status": "NEW"})
    story = (await api.client.get(answer.headers["location"])).json()
    assert (story["eventId"], story["source"], story["status"]) == (event_id, source, "NEW")
    row = await event_row(api.resources, event_pk)
    assert (row["published_at"], row["due_in_s"] <= 0) == (None, True)


@pytest.mark.parametrize("status", ["NEW", "ROUTED", "CANCELLED"])
async def test_an_event_that_did_not_fail_is_409(api: Api, status: str) -> None:
    (event_pk,) = await add_events(api.resources, event("evt-1"))
    await change(api.resources, "event", event_pk, f"status = '{status}', reason = 'cancelled'")
    problem = assert_problem(await api.client.post("/api/events/evt-1/replay"), 409, "status-conflict")
    assert problem["detail"].startswith(f"The event is {status}. Only FAILED ones can be replayed.")


async def test_an_event_of_another_source_is_404(api: Api) -> None:
    await add_events(api.resources, event("evt-1", source="shop"))
    assert_problem(await api.client.post("/api/events/evt-1/replay"), 404, "not-found")


def matches(pattern: str, text: str) -> bool:
    """Every character of `pattern` counts but `.*`."""
    head, anything, _ = pattern.partition(".*")
    return text.startswith(head) if anything else text == pattern
