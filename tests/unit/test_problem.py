"""Error answers: problem details for whatever goes wrong, and nothing of the inside in them."""

import asyncio
from typing import Any

import asyncpg
import httpx2
import orjson
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Scope

from app.accept import NotAccepted
from app.api.problem import HANDLERS, ID_REUSED, Problem, invalid, pointer, problem_response
from app.api.wire import read_json_body


def app_that_raises(error: Exception) -> Starlette:
    async def fail(_request: Request) -> Response:
        raise error

    async def answer(_request: Request) -> Response:
        return Response("fine")

    routes = [Route("/fail", fail), Route("/fail", answer, methods=["PUT"]), Route("/{rest:path}", answer, methods=["DELETE"])]
    return Starlette(routes=routes, exception_handlers=HANDLERS)


async def answer_to(error: Exception, method: str = "GET", path: str = "/fail") -> httpx2.Response:
    transport = httpx2.ASGITransport(app=app_that_raises(error), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://api") as client:
        return await client.request(method, path)


def wrapped(error: BaseException, invalidated: bool = False) -> DBAPIError:
    """As SQLAlchemy wraps asyncpg's errors: asyncpg's is the cause of the adapter's."""
    adapters = Exception("adapter")
    adapters.__cause__ = error
    return DBAPIError("select secret", {}, adapters, connection_invalidated=invalidated)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), "#"),
        (("userId",), "#/userId"),
        (("payload", "items", 1), "#/payload/items/1"),
        (("a/b", "m~n"), "#/a~1b/m~0n"),
        (("", " ", "c%d", "ü", "\0", '"', "?:@!$&'()*+,;="), "#//%20/c%25d/%C3%BC/%00/%22/?:@!$&'()*+,;="),
    ],
)
def test_pointers_are_fragments_after_rfc_6901(path: tuple[str | int, ...], text: str) -> None:
    assert pointer(path) == text


def test_a_problem_has_the_members_of_rfc_9457() -> None:
    response = problem_response(Problem(ID_REUSED, "Use another."), "/api/events/a b/ü\0")
    assert response.status_code == 409
    assert response.headers["content-type"] == "application/problem+json"
    assert orjson.loads(response.body) == {
        "type": "urn:tidings:problem:event-id-reused",
        "title": "The event id belongs to another event",
        "status": 409,
        "detail": "Use another.",
        "instance": "/api/events/a%20b/%C3%BC%00",
    }


def test_a_problem_with_several_errors_says_so() -> None:
    errors = [{"detail": "a is missing.", "pointer": "#/a"}, {"detail": "b is missing.", "pointer": "#/b"}]
    problem = invalid(errors)
    assert problem.detail == "a is missing. (1 more in errors.)"
    assert orjson.loads(problem_response(problem, "/").body)["errors"] == errors


@pytest.mark.parametrize(
    "error",
    [
        NotAccepted("PostgreSQL is away"),
        ConnectionRefusedError(111, "Connect call failed ('10.0.0.1', 5432)"),
        TimeoutError(),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.AdminShutdownError("terminating connection"),
        asyncpg.InterfaceError("pool is closed"),
        asyncpg.TooManyConnectionsError("too many clients"),
        asyncpg.ReadOnlySQLTransactionError("read-only"),
        asyncpg.UndefinedTableError("no such table"),
        NoConnectionFree("QueuePool limit"),
        wrapped(asyncpg.ConnectionDoesNotExistError("closed"), invalidated=True),
        wrapped(asyncpg.CannotConnectNowError("starting up")),
        wrapped(asyncpg.UndefinedTableError("no such table")),
        wrapped(ConnectionResetError(104, "reset")),
    ],
)
async def test_postgresql_away_is_503_with_retry_after(error: Exception) -> None:
    response = await answer_to(error)
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert response.json()["type"] == "urn:tidings:problem:unavailable"
    assert "10.0.0.1" not in response.text


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("secret"), wrapped(asyncpg.UniqueViolationError("secret")), KeyError("secret")]
)
async def test_a_bug_is_500_and_shows_nothing_of_the_inside(error: Exception) -> None:
    response = await answer_to(error)
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:tidings:problem:internal-error"
    for word in ("secret", "Traceback", "Error", ".py"):
        assert word not in response.text


async def test_a_wrong_method_is_told_all_that_the_address_takes() -> None:
    response = await answer_to(ZeroDivisionError(), "POST")
    assert response.status_code == 405
    assert response.headers["allow"] == "DELETE, GET, HEAD, PUT"
    assert response.json()["type"] == "urn:tidings:problem:method-not-allowed"


async def test_other_http_errors_keep_their_status() -> None:
    response = await answer_to(HTTPException(418, "short and stout"))
    assert response.status_code == 418
    assert response.json() == {
        "type": "about:blank",
        "title": "I'm a Teapot",
        "status": 418,
        "detail": "short and stout",
        "instance": "/fail",
    }


def scope(*headers: tuple[bytes, bytes]) -> Scope:
    return {"type": "http", "headers": list(headers)}


JSON_TYPE = (b"content-type", b"application/json")


async def read_body(messages: list[Message], *headers: tuple[bytes, bytes], limit: int = 10) -> bytes:
    async def receive() -> Any:
        await asyncio.sleep(0)
        return messages.pop(0)

    return await read_json_body(scope(*headers), receive, limit=limit)


def part(body: bytes, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.mark.parametrize(
    ("messages", "body"),
    [
        ([part(b"0123456789")], b"0123456789"),
        ([part(b"01234", True), part(b"", True), part(b"56789")], b"0123456789"),
        ([part(b"01234", True), {"type": "http.request"}], b"01234"),
        ([{"type": "http.request"}], b""),
    ],
)
async def test_a_body_up_to_the_limit_is_read_in_any_number_of_parts(messages: list[Message], body: bytes) -> None:
    assert await read_body(messages, JSON_TYPE) == body


@pytest.mark.parametrize(
    ("messages", "unread"),
    [
        ([part(b"01234567890")], 0),
        ([part(b"012345", True), part(b"67890", True), part(b"")], 1),
    ],
)
async def test_a_body_over_the_limit_is_given_up_where_the_limit_is_passed(messages: list[Message], unread: int) -> None:
    with pytest.raises(Problem) as caught:
        await read_body(messages, JSON_TYPE)
    assert caught.value.kind.status == 413
    assert len(messages) == unread


async def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    messages = [part(b"")]
    with pytest.raises(Problem) as caught:
        await read_body(messages, JSON_TYPE, (b"content-length", b"11"))
    assert caught.value.kind.status == 413
    assert len(messages) == 1


async def test_a_client_that_leaves_in_mid_body_is_no_error_of_ours() -> None:
    with pytest.raises(ClientDisconnect):
        await read_body([part(b"01", True), {"type": "http.disconnect"}], JSON_TYPE)
    assert (await answer_to(ClientDisconnect())).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-type", b"")],
        [(b"content-type", b"text/plain")],
        [(b"content-type", b"application/x-www-form-urlencoded")],
        [(b"content-type", b"application/json; charset=latin-1")],
        [(b"content-type", b"application/jsonx")],
        [(b"content-type", b"application/json\xff")],
        [JSON_TYPE, (b"content-encoding", b"gzip")],
    ],
)
async def test_any_other_type_than_json_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Problem) as caught:
        await read_body([part(b"{}")], *headers)
    assert caught.value.kind.status == 415


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json; charset=utf-8",
        b'application/json;charset="UTF-8"',
        b"application/json; x=y",
    ],
)
async def test_json_is_taken_with_its_parameters(content_type: bytes) -> None:
    assert await read_body([part(b"{}")], (b"content-type", content_type)) == b"{}"
