"""`tidings redis`: one command to the configured Redis, its answer as redis-cli prints it."""

import sys
from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

ESCAPES = {0x5C: r"\\", 0x22: r"\"", 0x0A: r"\n", 0x0D: r"\r", 0x09: r"\t", 0x07: r"\a", 0x08: r"\b"}


class RedisCommandError(Exception):
    """Redis cannot be reached, or refuses the command. The message is one line."""


def run(url: str, command: Sequence[str]) -> None:
    """Send `command` and print the answer: for people on a terminal, plain values otherwise. Raises RedisCommandError."""
    answer = ask(url, command)
    if sys.stdout.isatty():
        print(for_people(answer))
    else:
        sys.stdout.buffer.write(plain(answer) + b"\n")
        sys.stdout.flush()


def ask(url: str, command: Sequence[str]) -> Any:
    """The answer as it came: bytes, int, None, and lists of them. A blocking command may take its time."""
    arguments = [argument.encode(errors="surrogateescape") for argument in command]
    with Redis.from_url(url, protocol=2, socket_timeout=None, socket_connect_timeout=5, retry=Retry(NoBackoff(), 0)) as client:
        try:
            connection = client.connection_pool.get_connection()
            connection.send_command(*arguments)
            return connection.read_response()
        except ResponseError as error:
            raise RedisCommandError(f"(error) {error}") from None
        except (RedisError, OSError) as error:
            raise RedisCommandError(f"Redis (setting REDIS_URL) cannot be used: {error}") from None


def for_people(answer: Any, indent: str = "") -> str:
    """As redis-cli prints it on a terminal: quoted strings, typed scalars, numbered lists."""
    if answer is None:
        return "(nil)"
    if isinstance(answer, int):
        return f"(integer) {answer}"
    if isinstance(answer, Exception):
        return f"(error) {answer}"
    if not isinstance(answer, list):
        return quoted(answer)
    if not answer:
        return "(empty array)"
    width = len(str(len(answer)))
    deeper = indent + " " * (width + 2)
    lines = [f"{number:>{width}}) {for_people(item, deeper)}" for number, item in enumerate(answer, 1)]
    return ("\n" + indent).join(lines)


def quoted(value: bytes | str) -> str:
    """The string between double quotes, every byte that is not printable ASCII escaped."""
    raw = value.encode(errors="surrogateescape") if isinstance(value, str) else value
    return '"' + "".join(ESCAPES.get(b) or (chr(b) if 0x20 <= b < 0x7F else f"\\x{b:02x}") for b in raw) + '"'


def plain(answer: Any) -> bytes:
    """As redis-cli writes it into a pipe: one value per line, bytes as they are."""
    if isinstance(answer, list):
        return b"\n".join(plain(item) for item in answer)
    if isinstance(answer, bytes):
        return answer
    return b"" if answer is None else str(answer).encode(errors="surrogateescape")
