"""GET /api/events/{eventId} and GET /api/notifications/{userId}: what consumers left, as a client sees it."""

import re
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy

from app.settings import Settings
from app.store import history
from tests.integration.api import Api, accepted, add_row, assert_problem, open_api, open_api_without_postgresql

NOON = datetime(2026, 4, 1, 12, tzinfo=UTC)


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    async with open_api(settings) as api:
        yield api


async def notify(api: Api, event: int, channel: str = "EMAIL", status: str = "SENT", user: str = "user_123", **more: Any) -> int:
    needed: dict[str, Any] = {"reason": "rejected"} if status in ("FAILED", "UNKNOWN", "CANCELLED") else {}
    if status == "PROCESSING":
        needed = {"claimed_by": "host-1", "claimed_at": NOON, "lease_until": NOON}
    return await add_row(
        api, "notification", **{"event_pk": event, "channel": channel, "user_id": user, "status": status, **needed, **more}
    )


async def attempt(api: Api, notification: int, number: int, outcome: str, **more: Any) -> None:
    started = NOON + timedelta(minutes=number)
    times = {"started_at": started, "ended_at": started + timedelta(milliseconds=482.125)}
    await add_row(
        api, "attempt", notification_id=notification, number=number, consumer="host-1", outcome=outcome, **{**times, **more}
    )


async def get(api: Api, address: str) -> Any:
    response = await api.client.get(address)
    assert response.status_code == 200, response.text
    return response.json()


async def test_an_event_not_yet_routed_has_no_notifications(api: Api) -> None:
    await accepted(api)
    story = await get(api, "/api/events/evt-123")
    created = story.pop("createdAt")
    assert story.pop("updatedAt") == created
    assert created.endswith("Z")
    assert story == {
        "eventId": "evt-123",
        "source": "",
        "eventType": "ORDER_PLACED",
        "userId": "user_123",
        "payload": {"orderAmount": 250, "items": ["Laptop", "Mouse"]},
        "timestamp": "2026-03-31T16:30:00Z",
        "status": "NEW",
        "reason": None,
        "error": None,
        "channels": None,
        "sendAt": None,
        "expiresAt": None,
        "decisions": {},
        "notifications": [],
    }


async def test_the_story_has_decisions_notifications_and_every_attempt(api: Api) -> None:
    event = await accepted(api, channels=["EMAIL", "SMS"], sendAt="2036-01-01T00:00:00Z", expiresAt="2036-01-02T00:00:00Z")
    decisions = '{"EMAIL": {"use": true, "reason": "default"}, "PUSH": {"use": false, "reason": "not_requested"}}'
    await api.pool.execute("update event set status = 'ROUTED', decisions = $1::jsonb", decisions)
    email = await notify(api, event, attempt=2, tries=2, possible_duplicate=True)
    await attempt(api, email, 2, "sent", provider="smtp", possible_duplicate=True)
    await attempt(api, email, 1, "unknown", error="no answer within 5 s")
    sms = await notify(api, event, "SMS", "FAILED", reason="rejected", error="no such number", attempt=1, tries=1)
    story = await get(api, "/api/events/evt-123")
    assert (story["status"], story["channels"]) == ("ROUTED", ["EMAIL", "SMS"])
    assert (story["sendAt"], story["expiresAt"]) == ("2036-01-01T00:00:00Z", "2036-01-02T00:00:00Z")
    assert story["decisions"] == {
        "EMAIL": {"use": True, "reason": "default"},
        "PUSH": {"use": False, "reason": "not_requested"},
    }
    first, second = story["notifications"]
    assert [attempt.pop("startedAt") for attempt in first["attempts"]] == ["2026-04-01T12:01:00Z", "2026-04-01T12:02:00Z"]
    always = {"consumer": "host-1", "durationMs": 482.125}
    assert first["attempts"] == [
        {
            "number": 1,
            "provider": None,
            "outcome": "unknown",
            "error": "no answer within 5 s",
            "possibleDuplicate": False,
            **always,
        },
        {"number": 2, "provider": "smtp", "outcome": "sent", "error": None, "possibleDuplicate": True, **always},
    ]
    assert (first["id"], first["channel"], first["status"], first["tries"]) == (email, "EMAIL", "SENT", 2)
    assert first["possibleDuplicate"] is True
    assert (second["id"], second["status"], second["reason"], second["error"]) == (sms, "FAILED", "rejected", "no such number")
    assert second["attempts"] == []
    assert "dueAt" not in first
    assert "dueAt" not in second


async def test_the_attempt_under_way_is_shown_without_an_outcome(api: Api) -> None:
    event = await accepted(api)
    row = await notify(api, event, status="PROCESSING", attempt=2, tries=2, due_at=NOON, possible_duplicate=True)
    await attempt(api, row, 1, "unavailable")
    [notification] = (await get(api, "/api/events/evt-123"))["notifications"]
    assert notification["dueAt"] == "2026-04-01T12:00:00Z"
    assert [told["outcome"] for told in notification["attempts"]] == ["unavailable", None]
    assert notification["attempts"][1] == {
        "number": 2,
        "provider": None,
        "consumer": "host-1",
        "startedAt": "2026-04-01T12:00:00Z",
        "durationMs": None,
        "outcome": None,
        "error": None,
        "possibleDuplicate": True,
    }


async def test_a_pending_notification_says_when_it_is_due(api: Api) -> None:
    await notify(api, await accepted(api), status="PENDING", due_at=NOON)
    [notification] = (await get(api, "/api/events/evt-123"))["notifications"]
    assert (notification["dueAt"], notification["attempts"]) == ("2026-04-01T12:00:00Z", [])


async def test_an_event_is_known_by_source_and_id(api: Api) -> None:
    await accepted(api)
    await api.pool.execute("update event set source = '/shops/1'")
    assert_problem(await api.client.get("/api/events/evt-123"), 404, "not-found")
    assert (await get(api, "/api/events/evt-123?source=/shops/1"))["source"] == "/shops/1"


async def test_what_is_not_there_is_404(api: Api) -> None:
    for path in ("/api/events/nobody", "/api/events/a%2Fb", "/nothing", "/api", "/api/events/x?source=y"):
        assert_problem(await api.client.get(path), 404, "not-found")


async def test_an_id_that_cannot_be_is_422(api: Api) -> None:
    for base, parameter in (("events", "eventId"), ("notifications", "userId"), ("preferences", "userId")):
        for name in ("a%00b", "%0A", "%C2%85", "", "x" * 256):
            body = assert_problem(await api.client.get(f"/api/{base}/{name}"), 422, "validation")
            assert [error["parameter"] for error in body["errors"]] == [parameter]
    assert_problem(await api.client.get("/api/events/x?source=%00"), 422, "validation")


async def test_bytes_that_are_no_text_are_ids_that_nobody_has(api: Api) -> None:
    assert_problem(await api.client.get("/api/events/%ff"), 404, "not-found")
    assert await get(api, "/api/notifications/%ff%ed%a0%80?x=%00") == []


async def test_a_user_without_notifications_gets_an_empty_array(api: Api) -> None:
    assert await get(api, "/api/notifications/nobody") == []


async def test_notifications_are_listed_newest_first_with_the_payload(api: Api) -> None:
    event = await accepted(api, userId="a/b")
    email = await notify(api, event, user="a/b", attempt=3)
    sms = await notify(api, event, "SMS", "FAILED", "a/b", reason="expired", error="too late")
    await notify(api, event, "PUSH", user="another")
    newest, oldest = await get(api, "/api/notifications/a%2Fb")
    assert (newest["id"], oldest["id"]) == (sms, email)
    for times in (newest, oldest):
        assert times.pop("createdAt") == times.pop("updatedAt")
    assert newest == {
        "id": sms,
        "eventId": "evt-123",
        "eventType": "ORDER_PLACED",
        "userId": "a/b",
        "channel": "SMS",
        "status": "FAILED",
        "payload": {"orderAmount": 250, "items": ["Laptop", "Mouse"]},
        "reason": "expired",
        "error": "too late",
        "attempts": 0,
    }
    assert oldest["attempts"] == 3


async def test_a_list_can_be_narrowed_to_a_status_and_a_channel(api: Api) -> None:
    for n, status in enumerate(("SENT", "FAILED", "PENDING", "PROCESSING", "UNKNOWN")):
        event = await accepted(api, eventId=f"evt-{n}")
        for channel in ("EMAIL", "PUSH"):
            await notify(api, event, channel, status)
    assert [line["status"] for line in await get(api, "/api/notifications/user_123?status=PENDING")] == ["PENDING"] * 2
    assert {line["channel"] for line in await get(api, "/api/notifications/user_123?channel=PUSH")} == {"PUSH"}
    [only] = await get(api, "/api/notifications/user_123?channel=EMAIL&status=UNKNOWN")
    assert (only["channel"], only["status"]) == ("EMAIL", "UNKNOWN")


async def test_pages_follow_the_link_to_the_end_and_miss_nothing(api: Api) -> None:
    ids = [await notify(api, await accepted(api, eventId=f"evt-{n}", userId="a/b"), user="a/b") for n in range(5)]
    seen: list[int] = []
    address: str | None = "/api/notifications/a%2Fb?limit=2&channel=EMAIL&status=SENT"
    while address:
        response = await api.client.get(address)
        seen += [line["id"] for line in response.json()]
        address = response.links["next"]["url"] if "next" in response.links else None
        assert address is None or "channel=EMAIL" in address
    assert seen == ids[::-1]


async def test_a_full_last_page_has_no_next(api: Api) -> None:
    for n in range(2):
        await notify(api, await accepted(api, eventId=f"evt-{n}"))
    assert "link" not in (await api.client.get("/api/notifications/user_123?limit=2")).headers


BAD_QUERIES = {
    "limit": ["0", "201", "-1", "x", "1.5", "", "٣"],
    "status": ["sent", ""],
    "channel": ["FAX"],
    "before": ["0", "x", "9223372036854775808", "9" * 30],
}


async def test_a_bad_query_value_is_422_with_the_name_of_its_parameter(api: Api) -> None:
    for name, values in BAD_QUERIES.items():
        for value in values:
            response = await api.client.get("/api/notifications/user_123", params={name: value})
            body = assert_problem(response, 422, "validation")
            assert [error["parameter"] for error in body["errors"]] == [name]


async def test_the_largest_query_values_are_taken(api: Api) -> None:
    assert await get(api, "/api/notifications/user_123?limit=200&before=9223372036854775807") == []


async def test_history_without_postgresql_is_503(settings: Settings) -> None:
    async with open_api_without_postgresql(settings) as api:
        for path in ("/api/events/evt-123", "/api/notifications/user_123"):
            response = await api.client.get(path)
            assert_problem(response, 503, "unavailable")
            assert "retry-after" in response.headers


FILL_EVENTS = """
insert into event (event_id, type, user_id, payload, occurred_at, body_hash, status)
select 'e' || n, 't', 'u' || n % 1000, '{}', now(), '', 'ROUTED' from generate_series(1, 40000) n
"""
FILL_NOTIFICATIONS = """
insert into notification (event_pk, channel, user_id, status, reason)
select id, 'EMAIL', user_id, case when id % 1000 = 0 then 'PENDING' else 'SENT' end, null from event
"""


async def test_lists_and_stories_stay_on_their_indexes(api: Api) -> None:
    """On 40,000 rows, where a scan of the table would be the wrong plan."""
    for statement in (FILL_EVENTS, FILL_NOTIFICATIONS, "vacuum analyze event", "vacuum analyze notification"):
        await api.pool.execute(statement)
    ran = await statements_of(api, history.user_notifications(api.engine, "u7", None, None, 30_000, 50))
    ran += await statements_of(api, history.event_story(api.engine, "", "e7"))
    plans = [await plan(api, statement) for statement in ran]
    for text, index in zip(plans, ("notification_leads", "event_identity", "notification_once", "attempt_pkey"), strict=True):
        assert index in text
        assert "Seq Scan" not in text


@pytest.mark.parametrize(
    ("status", "index", "found"),
    [
        ("SENT", "notification_pkey", 50),
        ("FAILED", "notification_of_user_not_sent", 0),
        ("PENDING", "notification_published", 40),
        ("PROCESSING", "notification_published", 0),
    ],
)
async def test_a_filter_reads_few_rows_that_it_does_not_answer(api: Api, status: str, index: str, found: int) -> None:
    """Who has 40,000 notifications, and none of that status, need not have all of them read."""
    for statement in (FILL_EVENTS.replace("'u' || n % 1000", "'u7'"), FILL_NOTIFICATIONS, "vacuum analyze notification"):
        await api.pool.execute(statement)
    *_, statement = await statements_of(api, history.user_notifications(api.engine, "u7", status, "EMAIL", None, 50))
    read = await plan(api, statement, "analyze, timing off, costs off")
    assert index in read
    assert max(int(rows) for rows in re.findall(r"rows=(\d+)|Removed by Filter: (\d+)", read) for rows in rows if rows) <= 100
    assert len(await history.user_notifications(api.engine, "u7", status, "EMAIL", None, 50)) == found


async def statements_of(api: Api, reading: Awaitable[object]) -> list[str]:
    """What SQLAlchemy sends for it, with the values in place."""
    ran: list[str] = []

    def remember(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        for place, value in reversed(list(enumerate(parameters, 1))):
            statement = statement.replace(f"${place}", f"'{value}'" if isinstance(value, str) else str(value))
        ran.append(statement)

    sqlalchemy.event.listen(api.engine.sync_engine, "before_cursor_execute", remember)
    await reading
    sqlalchemy.event.remove(api.engine.sync_engine, "before_cursor_execute", remember)
    return ran


async def plan(api: Api, statement: str, how: str = "") -> str:
    return "\n".join(row[0] for row in await api.pool.fetch(f"explain ({how or 'verbose off'}) {statement}"))
