"""Answers of Redis as redis-cli prints them."""

from typing import Any

import pytest
from redis.exceptions import ResponseError

from app.redis_cli import for_people, plain

ANSWERS: dict[str, tuple[Any, str, bytes]] = {
    "a status": (b"PONG", '"PONG"', b"PONG"),
    "nothing": (None, "(nil)", b""),
    "a number": (3, "(integer) 3", b"3"),
    "bytes that are no text": (b'\xff\x00"\\\n', r'"\xff\x00\"\\\n"', b'\xff\x00"\\\n'),
    "an empty list": ([], "(empty array)", b""),
    "a list": ([b"a", 1], '1) "a"\n2) (integer) 1', b"a\n1"),
    "a list in a list": (
        [b"events", [[b"1-0", [b"event", b"7"]]]],
        '1) "events"\n2) 1) 1) "1-0"\n      2) 1) "event"\n         2) "7"',
        b"events\n1-0\nevent\n7",
    ),
    "a long list": ([1] * 10, "\n".join(f"{n:>2}) (integer) 1" for n in range(1, 11)), b"\n".join([b"1"] * 10)),
    "an error among others": ([ResponseError("NOGROUP"), 1], "1) (error) NOGROUP\n2) (integer) 1", b"NOGROUP\n1"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_on_a_terminal_and_in_a_pipe(name: str) -> None:
    answer, on_terminal, in_pipe = ANSWERS[name]
    assert for_people(answer) == on_terminal
    assert plain(answer) == in_pipe
