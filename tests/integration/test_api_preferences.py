"""/api/preferences/{userId}: read, replace, merge; and changes made at the same time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.settings import Settings
from tests.integration.api import Api, assert_problem, open_api, open_api_without_postgresql

PATH = "/api/preferences/user_123"
MERGE = {"content-type": "application/merge-patch+json"}


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    async with open_api(settings) as api:
        yield api


def choice(body: dict[str, Any]) -> tuple[bool, bool, bool]:
    return body["emailOptIn"], body["smsOptIn"], body["pushOptIn"]


async def test_without_a_row_everything_is_on(api: Api) -> None:
    assert (await api.client.get(PATH)).json() == {
        "userId": "user_123",
        "emailOptIn": True,
        "smsOptIn": True,
        "pushOptIn": True,
        "createdAt": None,
        "updatedAt": None,
    }
    assert await api.pool.fetchval("select count(*) from preference") == 0


async def test_put_replaces_and_what_is_left_out_is_on(api: Api) -> None:
    first = (await api.client.put(PATH, json={"emailOptIn": False, "smsOptIn": False})).json()
    assert choice(first) == (False, False, True)
    second = (await api.client.put(PATH, json={"pushOptIn": False})).json()
    assert choice(second) == (True, True, False)
    assert second["createdAt"] == first["createdAt"]
    assert second["updatedAt"] > first["updatedAt"]
    assert (await api.client.get(PATH)).json() == second


async def test_what_get_answers_can_be_put_back(api: Api) -> None:
    await api.client.put(PATH, json={"emailOptIn": False})
    for path in (PATH, "/api/preferences/nobody"):
        got = (await api.client.get(path)).json()
        put = await api.client.put(path, json=got)
        assert put.status_code == 200
        assert choice(put.json()) == choice(got)


async def test_patch_merges_and_null_is_on_again(api: Api) -> None:
    assert choice((await api.client.patch(PATH, json={"smsOptIn": False}, headers=MERGE)).json()) == (True, False, True)
    assert choice((await api.client.patch(PATH, json={"pushOptIn": False})).json()) == (True, False, False)
    assert choice((await api.client.patch(PATH, json={"smsOptIn": None})).json()) == (True, True, False)
    assert choice((await api.client.patch(PATH, json={})).json()) == (True, True, False)


async def test_patches_at_the_same_time_lose_nothing(api: Api) -> None:
    for n in range(10):
        path = f"/api/preferences/user_{n}"
        patches = [{"emailOptIn": False}, {"smsOptIn": False}, {"pushOptIn": False}]
        answers = await asyncio.gather(*(api.client.patch(path, json=patch) for patch in patches))
        assert {answer.status_code for answer in answers} == {200}
        assert choice((await api.client.get(path)).json()) == (False, False, False)


async def test_users_may_have_any_printable_id(api: Api) -> None:
    for user_id in ("a%2Fb", "%C3%BC", "a%20b%3F"):
        put = await api.client.put(f"/api/preferences/{user_id}", json={"smsOptIn": False})
        assert put.status_code == 200
        assert (await api.client.get(f"/api/preferences/{user_id}")).json() == put.json()


NOT_VALID: list[tuple[object, str]] = [
    ({"smsOptIn": "false"}, "#/smsOptIn"),
    ({"smsOptIn": 0}, "#/smsOptIn"),
    ({"userId": "another"}, "#/userId"),
    ({"userId": "user_123\0"}, "#/userId"),
    ({"faxOptIn": True}, "#/faxOptIn"),
    ([], "#"),
]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_body_that_is_not_valid_changes_nothing(api: Api, method: str) -> None:
    for body, pointer in NOT_VALID:
        told = assert_problem(await api.client.request(method, PATH, json=body), 422, "validation")
        assert [error["pointer"] for error in told["errors"]] == [pointer]
    assert await api.pool.fetchval("select count(*) from preference") == 0


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_errors_of_the_body_are_as_everywhere(api: Api, method: str) -> None:
    async def send(content: bytes, content_type: str = "application/json") -> Any:
        return await api.client.request(method, PATH, content=content, headers={"content-type": content_type})

    assert_problem(await send(b"{"), 400, "malformed-json")
    assert_problem(await send(b"{}", "text/plain"), 415, "unsupported-media-type")
    assert_problem(await send(b" " * 300_000), 413, "body-too-large")


async def test_merge_patch_is_for_patch_alone(api: Api) -> None:
    assert_problem(await api.client.put(PATH, json={}, headers=MERGE), 415, "unsupported-media-type")


async def test_other_methods_are_405_with_all_that_there_are(api: Api) -> None:
    response = await api.client.delete(PATH)
    assert_problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "GET, HEAD, PATCH, PUT"


async def test_without_postgresql_each_is_503(settings: Settings) -> None:
    async with open_api_without_postgresql(settings) as api:
        for method in ("GET", "PUT", "PATCH"):
            response = await api.client.request(method, PATH, json={})
            assert_problem(response, 503, "unavailable")
            assert "retry-after" in response.headers
