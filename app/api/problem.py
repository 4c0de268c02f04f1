"""Every error answer: RFC 9457 problem details as application/problem+json. Handlers raise Problem; no traceback ever leaves."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast
from urllib.parse import quote

import asyncpg
import orjson
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ExceptionHandler, Receive, Scope, Send

from app.accept import Accepted, NotAccepted
from app.store.batch import AWAY

RETRY_AFTER_S = 5
# Beyond RFC 3986's unreserved: what a fragment or a path may hold as it is.
URI_SAFE = "/!$&'()*+,;=:@"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem. `slug` None: nothing to say beyond the status (type about:blank)."""

    status: int
    slug: str | None
    title: str


MALFORMED = Kind(400, "malformed-json", "The body is not JSON")
BAD_KEY = Kind(400, "idempotency-key-invalid", "The idempotency key is not valid")
NOT_FOUND = Kind(404, "not-found", "Not found")
WRONG_METHOD = Kind(405, "method-not-allowed", "Method not allowed")
ID_REUSED = Kind(409, "event-id-reused", "The event id belongs to another event")
WRONG_STATUS = Kind(409, "status-conflict", "The status does not allow this")
TOO_LARGE = Kind(413, "body-too-large", "The body is too large")
WRONG_TYPE = Kind(415, "unsupported-media-type", "Unsupported media type")
INVALID = Kind(422, "validation", "The request is not valid")
KEY_REUSED = Kind(422, "idempotency-key-reused", "The idempotency key belongs to another request")
INTERNAL = Kind(500, "internal-error", "Internal error")
UNAVAILABLE = Kind(503, "unavailable", "Temporarily unavailable")


class Problem(Exception):
    """An answer that is a problem. `errors`: one {"detail", "pointer" | "parameter"} per thing that is wrong."""

    def __init__(
        self, kind: Kind, detail: str, errors: Sequence[Mapping[str, str]] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.errors = errors
        self.headers = headers


def invalid(errors: Sequence[Mapping[str, str]]) -> Problem:
    """The 422 for `errors`; its detail is the first one's, and how many more there are."""
    more = f" ({len(errors) - 1} more in errors.)" if len(errors) > 1 else ""
    return Problem(INVALID, errors[0]["detail"] + more, errors)


def unavailable(detail: str) -> Problem:
    return Problem(UNAVAILABLE, detail, headers={"Retry-After": str(RETRY_AFTER_S)})


def pointer(path: Sequence[str | int]) -> str:
    """The JSON pointer to `path` as a URI fragment (RFC 6901, sections 3 and 6): ("a/b", 0) is `#/a~1b/0`."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return "#" + "".join(f"/{quote(step, safe=URI_SAFE + '?')}" for step in steps)


def refusal(accepted: Accepted) -> Problem | None:
    """The problem of an event that was not accepted; None where it was, now or before."""
    if accepted is Accepted.CONFLICT:
        return Problem(ID_REUSED, "Another event with this eventId was accepted before. Send a new event under an id of its own.")
    return Problem(INVALID, "PostgreSQL cannot store this event.") if accepted is Accepted.REFUSED else None


def problem_json(problem: Problem) -> dict[str, object]:
    """The problem's members, without `instance`."""
    kind = problem.kind
    body: dict[str, object] = {
        "type": f"urn:tidings:problem:{kind.slug}" if kind.slug else "about:blank",
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail,
    }
    return {**body, "errors": list(problem.errors)} if problem.errors else body


def problem_response(problem: Problem, path: str) -> Response:
    """`path` is the decoded path of the request: the problem's `instance`."""
    body = {**problem_json(problem), "instance": quote(path, safe=URI_SAFE)}
    return Response(orjson.dumps(body), problem.kind.status, problem.headers, "application/problem+json")


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(error, request.scope["path"])


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem_response(_from_http_exception(request, error), request.scope["path"])


def _from_http_exception(request: Request, error: HTTPException) -> Problem:
    if error.status_code == WRONG_METHOD.status:
        allowed = ", ".join(sorted(_allowed_methods(request)))
        return Problem(WRONG_METHOD, f"{request.method} is not possible here: use {allowed}.", headers={"Allow": allowed})
    if error.status_code == NOT_FOUND.status:
        return Problem(NOT_FOUND, "There is nothing at this address. GET / tells what there is.")
    phrase = HTTPStatus(error.status_code).phrase
    return Problem(Kind(error.status_code, None, phrase), error.detail, headers=error.headers)


def _allowed_methods(request: Request) -> set[str]:
    """Of all routes on this path: starlette's own Allow names those of the first alone."""
    matching = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return {method for route in matching for method in getattr(route, "methods", None) or ()}


async def _on_away(request: Request, _error: Exception) -> Response:
    return problem_response(unavailable("PostgreSQL is away. Send the request again a little later."), request.scope["path"])


async def _on_not_accepted(request: Request, error: Exception) -> Response:
    detail = f"Not known to be stored: {error}. Send the request again a little later; with the same id nothing is sent twice."
    return problem_response(unavailable(detail), request.scope["path"])


async def _on_no_tables(request: Request, _error: Exception) -> Response:
    return problem_response(unavailable("The tables are missing or old: run `tidings schema apply`."), request.scope["path"])


async def _on_sqlalchemy(request: Request, error: Exception) -> Response:
    """SQLAlchemy wraps asyncpg's error twice: its own, the adapter's, and asyncpg's as the cause of that."""
    assert isinstance(error, DBAPIError)
    cause = error.orig.__cause__ if error.orig else None
    if isinstance(cause, NO_TABLES):
        return await _on_no_tables(request, error)
    if error.connection_invalidated or isinstance(cause, AWAY):
        return await _on_away(request, error)
    raise error


async def _on_disconnect(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # the client left in the middle of its body: nobody reads this


async def _on_bug(request: Request, _error: Exception) -> Response:
    """starlette raises the error again once this is sent, and uvicorn logs it."""
    problem = Problem(INTERNAL, "Something went wrong here, not in the request. The log of the API has the details.")
    return problem_response(problem, request.scope["path"])


NO_TABLES = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)
HANDLERS: dict[type[Exception], ExceptionHandler] = {
    Problem: _on_problem,
    HTTPException: _on_http_exception,
    NotAccepted: _on_not_accepted,
    **dict.fromkeys((*AWAY, NoConnectionFree), _on_away),
    **dict.fromkeys(NO_TABLES, _on_no_tables),
    DBAPIError: _on_sqlalchemy,
    ClientDisconnect: _on_disconnect,
    Exception: _on_bug,
}


async def answer_error(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """For a route past starlette, what starlette does. Raises `error` again where no handler but the last is for it."""
    kind = next(kind for kind in type(error).__mro__ if kind in HANDLERS)
    answer = cast(Callable[[Request, Exception], Awaitable[Response]], HANDLERS[kind])
    await (await answer(Request(scope), error))(scope, receive, send)
    if kind is Exception:
        raise error
