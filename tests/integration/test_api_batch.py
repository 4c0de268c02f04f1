"""POST /api/events/batch: each event is answered for itself."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app import streams
from app.settings import Settings
from tests.integration.api import Api, assert_problem, open_api, open_api_without_postgresql, sample

URL = "/api/events/batch"


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    async with open_api(settings) as api:
        yield api


async def results(api: Api, *events: Any) -> list[dict[str, Any]]:
    answer = await api.client.post(URL, json={"events": list(events)})
    assert answer.status_code == 202, answer.text
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


async def test_a_thousand_events_are_stored_and_on_the_stream(api: Api) -> None:
    told = await results(api, *(sample(eventId=f"evt-{n}") for n in range(1000)))
    assert told == [{"index": n, "eventId": f"evt-{n}", "status": "accepted"} for n in range(1000)]
    assert await api.pool.fetchval("select count(*) from event") == 1000
    assert await api.resources.redis.xlen(streams.EVENTS) == 1000


async def test_one_bad_event_spoils_no_other(api: Api) -> None:
    told = await results(
        api,
        sample(eventId="good"),
        sample(eventId="bad", userId=""),
        "no event",
        sample(eventId="good"),
        sample(eventId="good", payload={"another": "body"}),
        sample(eventId="big", payload={"n": 2**64}),
        sample(eventId=7),
    )
    assert [(r["eventId"], r["status"]) for r in told] == [
        ("good", "accepted"),
        ("bad", "rejected"),
        (None, "rejected"),
        ("good", "duplicate"),
        ("good", "rejected"),
        ("big", "rejected"),
        (None, "rejected"),
    ]
    assert [r["error"]["type"].rpartition(":")[2] for r in told if "error" in r] == [
        "validation", "validation", "event-id-reused", "validation", "validation",
    ]  # fmt: skip
    assert told[1]["error"]["errors"] == [{"detail": "userId must not be empty.", "pointer": "#/userId"}]
    assert await api.pool.fetchval("select count(*) from event") == 1


async def test_a_batch_of_bad_events_alone_is_answered_like_any_other(api: Api) -> None:
    assert [r["status"] for r in await results(api, sample(userId=""), sample(eventType=7))] == ["rejected", "rejected"]


async def test_the_same_batch_again_is_known(api: Api) -> None:
    batch = [sample(eventId=f"evt-{n}") for n in range(5)]
    await results(api, *batch)
    assert {r["status"] for r in await results(api, *batch)} == {"duplicate"}
    assert (await api.client.post("/api/events", json=batch[0])).json()["duplicate"] is True


async def test_what_is_wrong_with_a_batch_is_said_of_events(api: Api) -> None:
    wrong: list[Any] = [[], {}, [{}] * 1001]
    says = [(await api.client.post(URL, json={"events": events})).json()["detail"] for events in wrong]
    assert says == [
        "events must hold at least one event.",
        "events must be an array of events.",
        "events may hold 1,000 events at most.",
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"events": []}', 422),
        (b'{"events": {}}', 422),
        (json.dumps({"events": [{}] * 1001}).encode(), 422),
        (b'{"events": [{}], "more": 1}', 422),
        (b'{"events": ["\\ud800"]}', 400),
        (b'{"events": ["' + b"x" * 2**23 + b'"]}', 413),
    ],
    ids=["no JSON", "empty", "no list", "1001", "unknown member", "lone surrogate", "9 MB"],
)
async def test_what_is_no_batch(api: Api, body: bytes, status: int) -> None:
    answer = await api.client.post(URL, content=body, headers={"content-type": "application/json"})
    assert_problem(answer, status, {400: "malformed-json", 413: "body-too-large", 422: "validation"}[status])


async def test_without_postgresql_nothing_is_known_to_be_stored(settings: Settings) -> None:
    async with open_api_without_postgresql(settings) as api:
        answer = await api.client.post(URL, json={"events": [sample(), sample(eventId="other")]})
    assert_problem(answer, 503, "unavailable")
    assert "retry-after" in answer.headers


async def test_get_is_not_shadowed(api: Api) -> None:
    """An event may be called batch."""
    await api.client.post("/api/events", json=sample(eventId="batch"))
    assert (await api.client.get("/api/events/batch")).json()["eventId"] == "batch"
