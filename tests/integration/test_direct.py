"""POST /api/v1/notifications: one message on one channel, through the same streams and claims; and its idempotency key."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest

from app import streams
from app.api.direct import PATH
from app.domain import Channel, DecisionReason
from app.resources import Resources, open_engine
from app.store.idempotency import Key, keep_answer, purge_idempotency_keys, take_key
from tests.integration.api import (
    Api,
    assert_problem,
    closed_port,
    on_a_socket,
    open_api,
    open_api_without_postgresql,
    serve_in_process,
)
from tests.integration.consuming import consuming
from tests.support import Scripted, add_notification, change

Wait = Callable[..., Awaitable[Any]]

SCOPE = f"POST {PATH}"
HELLO = {"user_id": "user_123", "type": "EMAIL", "message": "Hello", "email": "user@email.com"}
KEY = {"idempotency_key": "unique-key-123"}


@pytest.fixture
async def api(resources: Resources) -> AsyncIterator[Api]:
    async with open_engine(resources.settings, "test history") as engine, serve_in_process(resources, engine) as opened:
        yield opened


async def post(api: Api, key: str | None = None, **change: Any) -> httpx2.Response:
    return await api.client.post(PATH, json={**HELLO, **change}, headers={} if key is None else {"Idempotency-Key": key})


async def count(api: Api, table: str = "notification") -> int:
    return int(await api.pool.fetchval(f"select count(*) from {table}"))


async def carried(api: Api, channel: Channel = Channel.EMAIL) -> int:
    return int(await api.resources.redis.xlen(streams.channel_stream(channel)))


def replayed(answer: httpx2.Response) -> bool:
    return answer.headers.get("idempotency-replayed") == "true"


# ---- one message


async def test_the_request_as_it_is_printed_goes_through_the_real_server(api: Api) -> None:
    """Its header has an underscore, which some servers drop."""
    async with on_a_socket(api) as client:
        first = await client.post(PATH, json=HELLO, headers=KEY)
        again = await client.post(PATH, json=HELLO, headers=KEY)
    assert (first.status_code, replayed(first)) == (202, False)
    body = first.json()
    assert first.headers["location"] == again.headers["location"] == f"{PATH}/{body['id']}"
    assert {**body, "id": 0, "created_at": ""} == {
        "id": 0,
        "user_id": "user_123",
        "type": "EMAIL",
        "message": "Hello",
        "status": "PENDING",
        "retry_count": 0,
        "max_retries": 6,
        "error": None,
        "created_at": "",
    }
    assert body["created_at"].endswith("Z")
    assert (again.status_code, again.content, replayed(again)) == (202, first.content, True)
    assert await count(api) == await carried(api) == 1


async def test_its_whole_life_from_pending_to_sent(api: Api, wait_until: Wait) -> None:
    provider = Scripted()
    answer = await post(api)
    place, row_id = answer.headers["location"], answer.json()["id"]
    assert (await api.client.get(place)).json() == answer.json()

    async def is_sent() -> bool:
        return bool((await api.client.get(place)).json()["status"] == "SENT")

    async with consuming(api.resources, provider):
        await wait_until(is_sent)
    ((sent,),) = provider.calls.values()
    assert (sent.channel, sent.address, sent.user_id, sent.event_type) == ("EMAIL", "user@email.com", "user_123", "DIRECT")
    assert (sent.payload_json, sent.idempotency_key) == ('{"message":"Hello"}', f"{row_id}-0")
    assert await carried(api) == 0


async def test_an_sms_and_a_push_go_to_their_own_streams(api: Api) -> None:
    assert (await post(api, type="SMS", email=None, phone="+4915112345678")).status_code == 202
    assert (await post(api, type="PUSH", email=None, device_token="token")).status_code == 202
    assert [await carried(api, channel) for channel in Channel] == [0, 1, 1]


async def test_it_belongs_to_an_event_that_is_routed_from_the_start(api: Api) -> None:
    await post(api)
    row = await api.pool.fetchrow("select * from event")
    assert row is not None
    assert (row["source"], row["type"], row["status"], row["done"]) == ("tidings:direct", "DIRECT", "ROUTED", True)
    story = await api.client.get(f"/api/events/{row['event_id']}", params={"source": "tidings:direct"})
    assert story.json()["decisions"] == {"EMAIL": {"use": True, "reason": DecisionReason.REQUESTED}}
    history = (await api.client.get("/api/notifications/user_123")).json()
    assert [(line["eventType"], line["payload"]) for line in history] == [("DIRECT", {"message": "Hello"})]


async def test_neither_preferences_nor_the_limit_per_user_apply(api: Api, wait_until: Wait) -> None:
    await api.client.put("/api/preferences/user_123", json={"emailOptIn": False})
    many = api.resources.settings.rate_limit_per_user + 2
    assert [(await post(api)).status_code for _ in range(many)] == [202] * many

    async def all_sent() -> bool:
        return bool(await api.pool.fetchval("select count(*) from notification where status = 'SENT'") == many)

    async with consuming(api.resources):
        await wait_until(all_sent)


async def test_a_message_of_any_script_comes_back_as_it_was(api: Api) -> None:
    message = "Zeile 1\n\u2028שלום 👋 \\u0000 \x01"
    answer = await post(api, message=message)
    assert (await api.client.get(answer.headers["location"])).json()["message"] == message


async def test_what_is_not_valid_is_refused_with_its_name(api: Api) -> None:
    problem = assert_problem(await post(api, phone="+4915112345678"), 422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == ["#/phone"]
    assert_problem(await api.client.post(PATH, content=b"{", headers={"content-type": "application/json"}), 400, "malformed-json")
    assert_problem(await api.client.post(PATH, content=b"{}"), 415, "unsupported-media-type")
    assert await count(api, "event") == 0


async def test_only_direct_notifications_are_found_by_a_known_id(api: Api) -> None:
    others = await add_notification(api.resources)
    for row_id in (others, "999999", "abc", "-1", "1e3", "9223372036854775808", "%00"):
        assert_problem(await api.client.get(f"{PATH}/{row_id}"), 404, "not-found")


async def test_what_an_operator_must_decide_is_shown_as_failed(api: Api) -> None:
    row_id = (await post(api)).json()["id"]
    await change(api.resources, "notification", row_id, "status = 'UNKNOWN', reason = 'crashed', error = 'gone', attempt = 3")
    shown = (await api.client.get(f"{PATH}/{row_id}")).json()
    assert (shown["status"], shown["error"], shown["retry_count"]) == ("FAILED", "crashed: gone", 2)


# ---- the key


async def test_the_same_key_fifty_times_at_once_is_one_notification(api: Api) -> None:
    answers = await asyncio.gather(*(post(api, "k") for _ in range(50)))
    assert {(answer.status_code, answer.content) for answer in answers} == {(202, answers[0].content)}
    assert Counter(replayed(answer) for answer in answers) == {True: 49, False: 1}
    assert await count(api) == await count(api, "event") == await carried(api) == 1


async def test_one_key_in_any_spelling(api: Api) -> None:
    first = await post(api, "k")
    spellings: list[dict[str, str]] = [
        {"Idempotency-Key": '"k"'},
        {"idempotency_key": "k"},
        {"Idempotency-Key": "k", "idempotency_key": '"k"'},
    ]
    for headers in spellings:
        again = await api.client.post(PATH, json=HELLO, headers=headers)
        assert (again.content, replayed(again)) == (first.content, True)


async def test_other_keys_and_no_key_are_requests_of_their_own(api: Api) -> None:
    answers = [await post(api, key) for key in ("a", "b", None, None)]
    assert len({answer.json()["id"] for answer in answers}) == 4
    assert not any(replayed(answer) for answer in answers)


async def test_the_same_key_with_another_body_is_422(api: Api) -> None:
    await post(api, "k")
    assert_problem(await post(api, "k", message="Bye"), 422, "idempotency-key-reused")
    assert await count(api) == await carried(api) == 1


async def test_two_headers_that_differ_are_400(api: Api) -> None:
    headers = {"Idempotency-Key": "a", "idempotency_key": "b"}
    assert_problem(await api.client.post(PATH, json=HELLO, headers=headers), 400, "idempotency-key-invalid")


async def test_what_was_refused_is_not_kept(api: Api) -> None:
    assert_problem(await post(api, "k", email="nobody"), 422, "validation")
    assert await count(api, "idempotency_key") == 0
    assert (await post(api, "k")).status_code == 202


async def test_the_first_answer_is_kept_whatever_became_of_it(api: Api) -> None:
    first = await post(api, "k")
    await change(api.resources, "notification", first.json()["id"], "status = 'SENT', attempt = 1")
    again = await post(api, "k")
    assert (again.status_code, again.content) == (202, first.content)


async def held_key(api: Api, wait_until: Wait, keep: bool) -> httpx2.Response:
    """The answer to a request whose key another transaction holds, which then commits (`keep`) or dies."""
    key = Key(SCOPE, "k", b"another body")
    async with api.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        assert await take_key(connection, key) is None
        waiting = asyncio.ensure_future(post(api, "k"))
        await wait_until(lambda: _one_waits(api))
        if keep:
            await keep_answer(connection, key, 202, '{"id":1}')
            await transaction.commit()
        else:
            await transaction.rollback()
    return await waiting


async def _one_waits(api: Api) -> bool:
    query = "select count(*) = 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    return bool(await api.pool.fetchval(query))


async def test_a_second_request_waits_for_the_first(api: Api, wait_until: Wait) -> None:
    assert_problem(await held_key(api, wait_until, keep=True), 422, "idempotency-key-reused")
    assert await count(api) == 0


async def test_a_crash_leaves_no_key_that_blocks(api: Api, wait_until: Wait) -> None:
    answer = await held_key(api, wait_until, keep=False)
    assert (answer.status_code, replayed(answer)) == (202, False)
    assert await count(api) == 1


async def test_a_key_counts_for_a_day(api: Api) -> None:
    first = await post(api, "k")
    await api.pool.execute("update idempotency_key set created_at = now() - interval '23 hours 59 minutes'")
    assert replayed(await post(api, "k"))
    await api.pool.execute("update idempotency_key set created_at = now() - interval '24 hours 1 minute'")
    later = await post(api, "k", message="Bye")
    assert (later.status_code, replayed(later)) == (202, False)
    assert later.json()["id"] != first.json()["id"]
    assert (await post(api, "k", message="Bye")).content == later.content, "the new answer is kept, from now on"


async def test_old_keys_are_purged_oldest_first(api: Api) -> None:
    for number in range(4):
        await post(api, f"k{number}")
    await api.pool.execute("update idempotency_key set created_at = now() - interval '1 hour' * right(key, 1)::int")
    assert await purge_idempotency_keys(api.pool, 1800, 2) == 2
    assert [r["key"] for r in await api.pool.fetch("select key from idempotency_key order by key")] == ["k0", "k1"]
    assert await purge_idempotency_keys(api.pool, 1800, 2) == 1
    assert await purge_idempotency_keys(api.pool) == 0


# ---- servers that are away


async def test_without_redis_it_is_accepted_and_the_relay_delivers(api: Api, wait_until: Wait) -> None:
    away = api.resources.settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{closed_port()}"})
    async with open_api(away) as lonely:
        answer = await post(lonely, "k")
        assert (answer.status_code, replayed(await post(lonely, "k"))) == (202, True)
    assert await carried(api) == 0

    async def is_sent() -> bool:
        return bool((await api.client.get(answer.headers["location"])).json()["status"] == "SENT")

    async with consuming(api.resources):
        await wait_until(is_sent)


async def test_without_postgresql_it_is_503(api: Api) -> None:
    async with open_api_without_postgresql(api.resources.settings) as lonely:
        for answer in (await post(lonely, "k"), await lonely.client.get(f"{PATH}/1")):
            assert_problem(answer, 503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
