"""Answers that come all at once, or that nobody has asked for, and a connection that was gone at once: who waits is told."""

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

from redis.exceptions import ConnectionError, ReadOnlyError

from app.redis_client import Line


def opened(*, gone: bool = False) -> Line:
    connection: Any = SimpleNamespace(_writer=SimpleNamespace(transport=Mock(is_closing=lambda: gone)))
    return Line(connection, 5.0)


async def error_of(answer: "asyncio.Future[Any]") -> type:
    await asyncio.wait([answer])
    return type(answer.exception())


async def test_several_are_told_at_once_that_it_leads_to_a_replica() -> None:
    line = opened()
    answers = [line.call((b"PING",)) for _ in range(3)]
    line.data_received(3 * b"-READONLY You can't write against a read only replica.\r\n")
    assert [await error_of(answer) for answer in answers] == 3 * [ReadOnlyError]
    assert line.closed


async def test_an_answer_that_nobody_has_asked_for_ends_it() -> None:
    line = opened()
    line.data_received(b"+PONG\r\n")
    assert await error_of(line.call((b"PING",))) is ConnectionError


async def test_one_that_was_gone_before_it_was_ours() -> None:
    assert await error_of(opened(gone=True).call((b"PING",))) is ConnectionError
