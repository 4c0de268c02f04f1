"""What every handler needs of HTTP: the body and its type, ids from the path, values from the query, JSON as the answer."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope

from app.api.problem import NOT_FOUND, TOO_LARGE, WRONG_TYPE, Problem, invalid

JSON = "application/json"
BODY_MAX_BYTES = 256 * 1024
ID_MAX_CHARACTERS = 255
ROW_ID_MAX = 2**63 - 1
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


async def read_json_body(scope: Scope, receive: Receive, types: tuple[str, ...] = (JSON,), limit: int = BODY_MAX_BYTES) -> bytes:
    """The body, sent as one of `types`. Raises Problem 415 and 413, and ClientDisconnect.

    What is over `limit` is not kept; uvicorn reads the rest off the connection, so that the client gets to see the answer.
    """
    headers: dict[bytes, bytes] = dict(scope["headers"])
    _check_type(headers, types)
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        return body
    return await _read_parts(message, receive, limit)


async def _read_parts(message: Any, receive: Receive, limit: int) -> bytes:
    body = bytearray()
    while message["type"] == "http.request":
        body += message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        if not message.get("more_body"):
            return bytes(body)
        message = await receive()
    raise ClientDisconnect


def _too_large(limit: int) -> Problem:
    return Problem(TOO_LARGE, f"The body may have {limit:,} bytes at most.")


def _check_type(headers: Mapping[bytes, bytes], types: tuple[str, ...]) -> None:
    if b"content-encoding" in headers:
        raise Problem(WRONG_TYPE, "Send the body without Content-Encoding.", headers={"Accept-Encoding": "identity"})
    sent = headers.get(b"content-type", b"").decode("latin-1")
    if sent in types:
        return
    essence, *parameters = (part.strip().lower() for part in sent.split(";"))
    charsets = [p.removeprefix("charset=").strip('"') for p in parameters if p.startswith("charset=")]
    if essence not in types or any(charset != "utf-8" for charset in charsets):
        wanted = " or ".join(types)
        raise Problem(
            WRONG_TYPE, f"Send the body as {wanted} in UTF-8 (header Content-Type).", headers={"Accept": ", ".join(types)}
        )


def path_id(request: Request, name: str) -> str:
    """The id `name` of the path, decoded. Raises Problem 422 where no such id can exist."""
    return _fit_id(request.path_params[name], _camel(name))


def path_row_id(request: Request, name: str) -> int:
    """The row id `name` of the path. Raises Problem 404 where it is no number that a row can have."""
    value = request.path_params[name]
    if re.fullmatch(r"[0-9]{1,19}", value) and int(value) <= ROW_ID_MAX:
        return int(value)
    raise Problem(NOT_FOUND, "There is nothing with this id: an id here is a number.")


def query_id(request: Request, name: str, default: str) -> str:
    value = request.query_params.get(name)
    return default if not value else _fit_id(value, name)


def query_choice(request: Request, name: str, choices: type[StrEnum]) -> str | None:
    """The query parameter `name`, one of `choices`; None where it is missing. Raises Problem 422."""
    value = request.query_params.get(name)
    if value is None or value in list(choices):
        return value
    raise _bad_parameter(name, f"must be one of {', '.join(choices)}")


def query_number(request: Request, name: str, default: int | None, largest: int) -> int | None:
    """The query parameter `name`, a whole number from 1 to `largest`. Raises Problem 422."""
    value = request.query_params.get(name)
    if value is None:
        return default
    if re.fullmatch(r"[0-9]{1,19}", value) and 1 <= int(value) <= largest:
        return int(value)
    raise _bad_parameter(name, f"must be a whole number from 1 to {largest}")


def json_answer(value: Any, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    """`value` as JSON, instants in UTC with a Z."""
    return Response(orjson.dumps(value, option=orjson.OPT_UTC_Z), status, headers, JSON)


def _fit_id(value: str, name: str) -> str:
    if not value or len(value) > ID_MAX_CHARACTERS or CONTROL.search(value):
        raise _bad_parameter(name, f"must have 1 to {ID_MAX_CHARACTERS} characters, and no control characters")
    return value


def _bad_parameter(name: str, rule: str) -> Problem:
    return invalid([{"detail": f"{name} {rule}.", "parameter": name}])


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
