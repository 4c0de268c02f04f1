"""POST /api/events, through the real app into real PostgreSQL and Valkey."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from app import streams
from app.settings import Settings
from tests.integration.api import Api, assert_problem, open_api, open_api_without_postgresql, sample


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    async with open_api(settings) as api:
        yield api


async def post(api: Api, content: bytes | str, content_type: str = "application/json") -> httpx2.Response:
    return await api.client.post("/api/events", content=content, headers={"content-type": content_type})


async def rows(api: Api) -> int:
    return int(await api.pool.fetchval("select count(*) from event"))


async def test_an_accepted_event_is_stored_and_on_the_stream(api: Api) -> None:
    response = await api.client.post("/api/events", json=sample())
    assert response.status_code == 202
    assert response.json() == {"message": "Event accepted and queued for processing", "jobId": "evt-123", "duplicate": False}
    assert response.headers["location"] == "/api/events/evt-123"
    row = await api.pool.fetchrow("select id, user_id, status, payload::text, occurred_at from event")
    assert row is not None
    assert tuple(row)[1:] == (
        "user_123",
        "NEW",
        '{"orderAmount":250,"items":["Laptop","Mouse"]}',
        datetime(2026, 3, 31, 16, 30, tzinfo=UTC),
    )
    entries: Any = await api.resources.redis.xrange(streams.EVENTS)
    [(_, fields)] = entries
    assert (fields[b"event"], fields[b"event_id"]) == (str(row["id"]).encode(), b"evt-123")


async def test_the_same_event_again_is_a_duplicate_and_stored_once(api: Api) -> None:
    answers = [(await api.client.post("/api/events", json=sample())).json()["duplicate"] for _ in range(2)]
    assert answers == [False, True]
    assert await rows(api) == 1
    assert await api.resources.redis.xlen(streams.EVENTS) == 1


SAME_EVENT: list[dict[str, Any]] = [
    {"payload": {"items": ["Laptop", "Mouse"], "orderAmount": 250.0}},
    {"timestamp": "2026-03-31T18:30:00.000+02:00"},
    {"channels": None, "sendAt": None},
]
ANOTHER_EVENT: list[dict[str, Any]] = [
    {"payload": {"orderAmount": 250.5, "items": ["Laptop", "Mouse"]}},
    {"payload": {"orderAmount": "250", "items": ["Laptop", "Mouse"]}},
    {"userId": "user_124"},
    {"eventType": "ORDER_PAID"},
    {"timestamp": "2026-03-31T16:30:01Z"},
    {"channels": ["EMAIL"]},
    {"sendAt": "2026-03-31T16:30:00Z"},
    {"expiresAt": "2036-03-31T16:30:00Z"},
]


async def test_the_same_event_in_another_spelling_is_a_duplicate(api: Api) -> None:
    await api.client.post("/api/events", json=sample())
    for change in SAME_EVENT:
        response = await api.client.post("/api/events", json=sample(**change))
        assert (response.status_code, response.json()["duplicate"]) == (202, True), change


async def test_another_event_under_the_same_id_is_refused(api: Api) -> None:
    await api.client.post("/api/events", json=sample())
    for change in ANOTHER_EVENT:
        assert_problem(await api.client.post("/api/events", json=sample(**change)), 409, "event-id-reused")
    assert await api.pool.fetchval("select user_id from event") == "user_123"
    assert await rows(api) == 1


async def test_a_hundred_posts_of_one_event_at_once_are_one_event(api: Api) -> None:
    answers = await asyncio.gather(*(api.client.post("/api/events", json=sample()) for _ in range(100)))
    assert {answer.status_code for answer in answers} == {202}
    assert [answer.json()["duplicate"] for answer in answers].count(False) == 1
    assert await rows(api) == 1
    assert await api.resources.redis.xlen(streams.EVENTS) == 1


async def test_of_two_bodies_under_one_id_at_once_one_wins(api: Api) -> None:
    bodies = [sample(userId=f"user_{n % 2}") for n in range(20)]
    answers = await asyncio.gather(*(api.client.post("/api/events", json=body) for body in bodies))
    assert [answer.status_code for answer in answers].count(202) == 10
    assert [answer.status_code for answer in answers].count(409) == 10
    assert await rows(api) == 1


async def test_the_location_leads_back_to_the_event_whatever_its_id(api: Api) -> None:
    for event_id in ("a/b", "/", "a?b#c%2F", "äöü 😀", "a&source=x", 'quote"s', "\u2028", "batch/x", "%"):
        response = await api.client.post("/api/events", json=sample(eventId=event_id))
        assert response.status_code == 202
        assert response.json()["jobId"] == event_id
        location = response.headers["location"]
        assert location.isascii()
        assert "/" not in location.removeprefix("/api/events/")
        assert (await api.client.get(location)).json()["eventId"] == event_id


async def test_an_event_for_later_is_parked(api: Api) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    assert (await api.client.post("/api/events", json=sample(sendAt=later.isoformat()))).status_code == 202
    row = await api.pool.fetchrow("select due_at, published_at from event")
    assert row is not None
    assert tuple(row) == (later, None)
    assert await api.resources.redis.exists(streams.EVENTS) == 0


async def test_channels_and_expiry_are_stored(api: Api) -> None:
    body = sample(channels=["PUSH", "EMAIL", "PUSH"], expiresAt="2036-03-31T16:30:00+02:00")
    assert (await api.client.post("/api/events", json=body)).status_code == 202
    row = await api.pool.fetchrow("select channels, expires_at from event")
    assert row is not None
    assert tuple(row) == (["EMAIL", "PUSH"], datetime(2036, 3, 31, 14, 30, tzinfo=UTC))


async def test_a_payload_comes_back_as_it_was_posted(api: Api) -> None:
    payload = {
        "big": 2**63 - 1,
        "small": -(2**63),
        "text": "😀\u0001\u2028",
        "deep": [[[{"": None}]]],
        "number": 0.1,
        "yes": True,
    }
    await api.client.post("/api/events", json=sample(payload=payload))
    assert (await api.client.get("/api/events/evt-123")).json()["payload"] == payload


async def test_another_content_type_is_415(api: Api) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", ""):
        assert_problem(await post(api, b"{}", content_type), 415, "unsupported-media-type")


NO_JSON = {
    "empty": b"",
    "cut off": b"{",
    "lone surrogate": b'{"payload": {"a": "\\ud800"}}',
    "not UTF-8": b'{"payload": "\xff"}',
    "not a number": b'{"payload": {"a": NaN}}',
    "10,000 levels": b'{"payload": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001,
    "100,000 arrays": b"[" * 100_000,
}


async def test_what_is_no_json_is_400(api: Api) -> None:
    for content in NO_JSON.values():
        body = assert_problem(await post(api, content), 400, "malformed-json")
        assert "errors" not in body


NOT_VALID: dict[str, dict[str, Any]] = {
    "#/eventId": {"eventId": ""},
    "#/userId": {"userId": "a\0b"},
    "#/eventType": {"eventType": None},
    "#/payload/a~1b": {"payload": {"a/b": "\0"}},
    "#/payload/a": {"payload": {"a": 2**64}},
    "#/timestamp": {"timestamp": "99999-03-31T16:30:00Z"},
    "#/sendAt": {"sendAt": 1774974600},
    "#/expiresAt": {"expiresAt": "tomorrow"},
    "#/channels/0": {"channels": ["FAX"]},
    "#/priority": {"priority": 1},
}


async def test_an_event_that_is_not_valid_is_422_at_the_spot(api: Api) -> None:
    for pointer, change in NOT_VALID.items():
        body = assert_problem(await api.client.post("/api/events", json=sample(**change)), 422, "validation")
        assert [error["pointer"] for error in body["errors"]] == [pointer]
        assert body["instance"] == "/api/events"
    assert await rows(api) == 0


async def test_a_number_beyond_all_floats_is_422_at_the_spot(api: Api) -> None:
    content = b'{"eventId":"e","eventType":"t","userId":"u","timestamp":"2026-03-31T16:30:00Z","payload":{"a":[1e999]}}'
    body = assert_problem(await post(api, content), 422, "validation")
    assert [error["pointer"] for error in body["errors"]] == ["#/payload/a/0"]


async def test_a_body_over_256_kib_is_413(api: Api) -> None:
    for size in (256 * 1024 + 1, 10_000_000):
        assert_problem(await post(api, b" " * size), 413, "body-too-large")


async def test_a_body_of_256_kib_is_taken(api: Api) -> None:
    body = sample(payload={"text": ""})
    text = "x" * (256 * 1024 - len(httpx2.Request("POST", "http://api", json=body).read()))
    assert (await api.client.post("/api/events", json=sample(payload={"text": text}))).status_code == 202


async def test_another_method_is_405(api: Api) -> None:
    for method in ("GET", "PUT", "DELETE"):
        response = await api.client.request(method, "/api/events")
        assert_problem(response, 405, "method-not-allowed")
        assert response.headers["allow"] == "POST"


async def test_without_postgresql_nothing_is_accepted(settings: Settings) -> None:
    async with open_api_without_postgresql(settings) as api:
        response = await api.client.post("/api/events", json=sample())
        assert_problem(response, 503, "unavailable")
        assert int(response.headers["retry-after"]) > 0


CUT_THE_OTHERS = """
select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
"""


async def test_connections_that_postgresql_cut_are_replaced(api: Api) -> None:
    await api.client.post("/api/events", json=sample())
    await api.pool.execute(CUT_THE_OTHERS)
    answers = [await api.client.post("/api/events", json=sample(eventId=f"evt-{n}")) for n in range(10)]
    assert {answer.status_code for answer in answers} <= {202, 503}
    assert answers[-1].status_code == 202


async def test_without_redis_an_event_is_accepted_all_the_same(settings: Settings) -> None:
    away = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1"})
    async with open_api(away) as api:
        assert (await api.client.post("/api/events", json=sample())).status_code == 202
        assert await rows(api) == 1
