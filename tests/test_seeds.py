"""Every request that the two Node.js systems document, as printed there, against Tidings as `tidings dev` runs it.

Their clients find what they were promised; what is deliberately different is in the README's last table but one.
"""

import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from app.addresses import api_url, dashboard_url
from app.domain import Channel
from app.settings import Settings
from tests.processes import Dev, dev

Wait = Callable[..., Awaitable[Any]]
Post = Callable[[str], httpx2.Response]

CALM = {
    **{f"simulated_{channel}_latency_ms": "5" for channel in ("email", "sms", "push")},
    **{f"simulated_{channel}_failure_rate": "0" for channel in ("email", "sms", "push")},
}
EVENT = """{
  "eventId": "evt-123",
  "eventType": "ORDER_PLACED",
  "userId": "user_123",
  "payload": {
    "orderAmount": 250,
    "items": ["Laptop", "Mouse"]
  },
  "timestamp": "2026-03-31T16:30:00Z"
}"""
DIRECT = """{
  "user_id": "user_123",
  "type": "EMAIL",
  "message": "Hello",
  "email": "user@email.com"
}"""
NOTIFICATION_FIELDS = {"id", "eventId", "eventType", "userId", "channel", "status", "payload", "error", "createdAt", "updatedAt"}
PREFERENCE_FIELDS = {"userId", "emailOptIn", "smsOptIn", "pushOptIn", "createdAt", "updatedAt"}
WRONG = {"eventId": 123, "eventType": None, "userId": ["user_123"], "payload": "250", "timestamp": "yesterday"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with dev(tmp_path_factory.mktemp("seeds"), **CALM) as started:
        yield started


@pytest.fixture
def api(running: Dev) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=running.api) as client:
        yield client


@pytest.fixture
def post(api: httpx2.Client) -> Post:
    """Posts an event's JSON text."""
    return lambda body: api.post("/api/events", content=body, headers={"content-type": "application/json"})


def posted(user: str, **other: object) -> str:
    """The sample body with a fresh id for `user`."""
    return json.dumps({**json.loads(EVENT), "eventId": str(uuid4()), "userId": user, **other})


def powershell_body() -> str:
    """What test-event.ps1 sends: ConvertTo-Json makes 250.0 of 250.00, keeps no order of members, and ends lines by CRLF."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return "\r\n".join(
        (
            "{",
            '    "timestamp":  "' + stamp + '",',
            '    "eventType":  "ORDER_PLACED",',
            '    "eventId":  "' + str(uuid4()) + '",',
            '    "payload":  {',
            '                    "orderAmount":  250.0,',
            '                    "items":  [ "Laptop", "Mouse" ]',
            "                },",
            '    "userId":  "user_123"',
            "}",
        )
    )


def test_the_default_addresses_are_the_documented_ones() -> None:
    settings = Settings.model_construct()
    assert api_url(settings).endswith(":3001")
    assert dashboard_url(settings).endswith(":3000/admin/queues")
    assert settings.redis_url == "redis://localhost:6379"
    assert ":5432/" in settings.database_url


def test_the_simulated_providers_and_the_limit_per_user_are_the_documented_ones() -> None:
    settings = Settings.model_construct()
    policies = {channel: settings.channel_policy(channel) for channel in Channel}
    assert {c: p.simulated_latency_ms for c, p in policies.items()} == {"EMAIL": 500, "SMS": 300, "PUSH": 200}
    assert {c: p.simulated_failure_rate for c, p in policies.items()} == {"EMAIL": 0.2, "SMS": 0.1, "PUSH": 0}
    assert (settings.rate_limit_per_user, settings.rate_limit_window_s, settings.rate_limit_policy) == (5, 60, "fail")


def test_the_event_is_accepted_in_the_documented_words(post: Post) -> None:
    answer = post(EVENT)
    assert answer.is_success
    assert answer.json().items() >= {"message": "Event accepted and queued for processing", "jobId": "evt-123"}.items()


async def test_there_is_one_record_per_enabled_channel_with_the_documented_fields(
    api: httpx2.Client, post: Post, wait_until: Wait
) -> None:
    post(EVENT)
    await wait_until(lambda: channels(api, "user_123", "evt-123") == {"EMAIL": "SENT", "SMS": "SENT", "PUSH": "SENT"})
    records = [n for n in api.get("/api/notifications/user_123").json() if n["eventId"] == "evt-123"]
    assert len(records) == 3
    assert all(record.keys() >= NOTIFICATION_FIELDS for record in records)
    assert all(record["payload"] == json.loads(EVENT)["payload"] and record["error"] is None for record in records)


async def test_the_same_event_twice_is_delivered_once(api: httpx2.Client, post: Post, wait_until: Wait) -> None:
    body = posted("user_twice", eventId="evt-twice")
    assert post(body).is_success
    await wait_until(lambda: channels(api, "user_twice") == {"EMAIL": "SENT", "SMS": "SENT", "PUSH": "SENT"})
    assert post(body).json()["jobId"] == "evt-twice"
    story = api.get("/api/events/evt-twice").json()
    assert [len(n["attempts"]) for n in story["notifications"]] == [1, 1, 1]


async def test_the_script_for_powershell_works(api: httpx2.Client, post: Post, wait_until: Wait) -> None:
    body = powershell_body()
    answer = post(body)
    assert answer.is_success, answer.text
    await wait_until(lambda: len(channels(api, "user_123", answer.json()["jobId"])) == 3)
    records = [n for n in api.get("/api/notifications/user_123").json() if n["eventId"] == answer.json()["jobId"]]
    assert records[0]["payload"] == {"orderAmount": 250.0, "items": ["Laptop", "Mouse"]}


async def test_the_history_is_ordered_by_newest_first(api: httpx2.Client, post: Post, wait_until: Wait) -> None:
    ids = []
    for number in range(2):
        ids.append(post(posted("user_ordered")).json()["jobId"])
        await wait_until(lambda n=number: len(api.get("/api/notifications/user_ordered").json()) == 3 * (n + 1))
    assert [n["eventId"] for n in api.get("/api/notifications/user_ordered").json()] == [ids[1]] * 3 + [ids[0]] * 3


async def test_a_channel_that_is_opted_out_is_not_sent(api: httpx2.Client, post: Post, wait_until: Wait) -> None:
    stored = api.put("/api/preferences/user_quiet", json={"emailOptIn": True, "smsOptIn": False, "pushOptIn": False})
    assert stored.json().keys() >= PREFERENCE_FIELDS
    event_id = post(posted("user_quiet")).json()["jobId"]
    await wait_until(lambda: channels(api, "user_quiet") == {"EMAIL": "SENT"})
    assert len(api.get(f"/api/events/{event_id}").json()["notifications"]) == 1


async def test_the_sixth_event_within_a_minute_fails(api: httpx2.Client, post: Post, wait_until: Wait) -> None:
    for number in range(1, 7):
        event_id = post(posted("user_often")).json()["jobId"]
        ended = ["SENT"] * 3 if number < 6 else ["FAILED"] * 3
        await wait_until(lambda e=event_id, all_ended=ended: [*channels(api, "user_often", e).values()] == all_ended)


@pytest.mark.parametrize("field", WRONG)
def test_a_field_of_another_type_is_refused(field: str, post: Post) -> None:
    answer = post(posted("user_wrong", **{field: WRONG[field]}))
    assert answer.status_code == 422
    assert {error["pointer"] for error in answer.json()["errors"]} == {f"#/{field}"}


@pytest.mark.parametrize("field", WRONG)
def test_a_field_that_is_missing_is_refused(field: str, post: Post) -> None:
    body = json.loads(posted("user_wrong"))
    del body[field]
    assert post(json.dumps(body)).status_code == 422


async def test_a_message_on_one_channel_goes_from_pending_to_sent(api: httpx2.Client, wait_until: Wait) -> None:
    created = post_direct(api, "unique-key-123").json()
    expected = {"user_id": "user_123", "type": "EMAIL", "message": "Hello", "status": "PENDING", "retry_count": 0}
    assert created.items() >= expected.items()
    assert created["max_retries"] > 0
    await wait_until(lambda: api.get(f"/api/v1/notifications/{created['id']}").json()["status"] == "SENT")


def test_the_same_idempotency_key_makes_no_second_message(api: httpx2.Client) -> None:
    first, again = post_direct(api, "unique-key-124"), post_direct(api, "unique-key-124")
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert post_direct(api, "unique-key-125").json()["id"] != first.json()["id"]


def test_the_dashboard_is_where_it_was(running: Dev) -> None:
    assert running.dashboard.endswith("/admin/queues")
    assert httpx2.get(running.dashboard).status_code == 200


@pytest.mark.parametrize("part", ["api", "consumers", "web"])
def test_each_of_the_three_apps_is_well(part: str, running: Dev) -> None:
    assert running.tidings("health", part)


def post_direct(api: httpx2.Client, key: str) -> httpx2.Response:
    headers = {"content-type": "application/json", "idempotency_key": key}
    return api.post("/api/v1/notifications", content=DIRECT, headers=headers)


def channels(api: httpx2.Client, user: str, event_id: str | None = None) -> dict[str, str]:
    """The status per channel of a user's notifications, of one event where it is named."""
    history = api.get(f"/api/notifications/{user}", params={"limit": 200}).json()
    return {n["channel"]: n["status"] for n in history if event_id in (None, n["eventId"])}
