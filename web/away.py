"""Asks a server with a time limit; an answer that does not come becomes a sentence for the page, never a traceback."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

import asyncpg
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from app.resources import Unreachable

ANSWER_LIMIT_S = 3.0
FAILURES = (Unreachable, RedisError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
POSTGRESQL, REDIS = "PostgreSQL", "Redis"
T = TypeVar("T")

_SQLSTATES = {
    "57014": "took too long over a query",
    "57P03": "is starting up",
    "53300": "has no connection left",
    "42P01": "has no Tidings tables yet: run `tidings schema apply`",
    "42703": "has older Tidings tables: run `tidings schema apply`",
    "3D000": "has no such database: run `tidings schema apply`",
    "28P01": "refused the password in DATABASE_URL",
}


@dataclass(frozen=True, slots=True)
class Away:
    """A server that could not be asked; `sentence` names it and says how it failed."""

    server: str
    sentence: str


async def ask(server: str, question: Awaitable[T]) -> T | Away:
    """The answer, or Away where the server cannot be reached, refuses, or takes longer than ANSWER_LIMIT_S."""
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            return await question
    except FAILURES as error:
        return Away(server, f"{server} {how_it_failed(error)}.")


def status_of(answer: object) -> int:
    """Of the page that shows the answer: 503 where there is none."""
    return 503 if isinstance(answer, Away) else 200


def how_it_failed(error: BaseException) -> str:
    """Pure: the rest of a sentence that starts with the server's name."""
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None) or getattr(error, "sqlstate", None)
    if state in _SQLSTATES:
        return _SQLSTATES[state]
    if isinstance(cause, TimeoutError):
        return f"did not answer within {ANSWER_LIMIT_S:g} s"
    if "Timeout" in type(cause).__name__:
        return "did not answer in time"  # the client's own limit (REDIS_TIMEOUT_S) was the shorter one
    if state is not None or type(cause).__name__ in ("ResponseError", "AuthenticationError"):
        return f"refused: {_first_line(cause)}"
    return "cannot be reached"


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
