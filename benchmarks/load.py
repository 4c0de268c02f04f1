"""The load: requests made before the clock starts, on kept connections, one under way on each. It costs little, and the table
says how much: it shares the machine with what it measures.

Closed: each connection sends its next request once it has the answer. Open: requests are due by a schedule, whatever the server
does, and one's latency counts from the instant when it was due; who waits for a free connection waits at the server's expense.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from random import Random
from selectors import SelectSelector
from typing import TypeAlias, cast
from urllib.parse import urlsplit

CONNECTIONS = 64


class LoadError(Exception):
    """A request was not answered as it must be; the message has what came instead."""


class Connection(asyncio.Protocol):
    """One kept connection; `on_answer(connection, number, error)` is called for each answer, with the connection free again."""

    def __init__(self, on_answer: "OnAnswer") -> None:
        self._on_answer = on_answer
        self._received = b""
        self._number = -1  # of the request under way

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, number: int, request: bytes) -> None:
        self._number = number
        if self._transport.is_closing():
            self._answered(LoadError("the server had closed the connection"))
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0 or len(self._received) < head_end + 4 + _content_length(self._received[:head_end]):
            return
        answer, self._received = self._received, b""
        self._answered(None if answer[9:12] == b"202" else LoadError(answer.decode(errors="replace")[:500]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._number >= 0:
            self._answered(LoadError(f"the server ended the connection: {exc}"))

    def close(self) -> None:
        self._number = -1
        self._transport.close()

    def _answered(self, error: LoadError | None) -> None:
        number, self._number = self._number, -1
        self._on_answer(self, number, error)


OnAnswer: TypeAlias = Callable[[Connection, int, LoadError | None], None]


def _content_length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)


async def closed_loop(address: str, requests: Sequence[bytes], connections: int = CONNECTIONS) -> None:
    """Returns once every request was answered 202. Raises LoadError."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    left, waiting = len(requests), iter(enumerate(requests))

    def answered(connection: Connection, _number: int, error: LoadError | None) -> None:
        nonlocal left
        left -= 1
        if error is not None or not left:
            _end(done, error)
        elif following := next(waiting, None):
            connection.send(*following)

    opened = await _open(address, min(connections, len(requests)), answered)
    for connection in opened:
        connection.send(*next(waiting))
    try:
        await done
    finally:
        _close(opened)


async def open_loop(address: str, requests: Sequence[bytes], due_s: Sequence[float]) -> tuple[list[float], list[float]]:
    """Sends request n at `due_s[n]` after the start; answers when each was due, and answered, in Unix time. Raises LoadError."""
    return await asyncio.to_thread(_punctual, address, requests, due_s)


def _punctual(address: str, requests: Sequence[bytes], due_s: Sequence[float]) -> tuple[list[float], list[float]]:
    """In a loop that waits by select(2): one on epoll, and uvloop, wake up to a millisecond late, or more."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(SelectSelector())) as runner:
        return runner.run(_open_loop(address, requests, due_s))


async def _open_loop(address: str, requests: Sequence[bytes], due_s: Sequence[float]) -> tuple[list[float], list[float]]:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    answered_at: list[float] = [0.0] * len(requests)
    late, left = deque[int](), len(requests)

    def answered(connection: Connection, number: int, error: LoadError | None) -> None:
        nonlocal left
        answered_at[number] = time.time()
        left -= 1
        if error is not None or not left:
            _end(done, error)
        elif late:
            send(connection, late.popleft())
        else:
            free.append(connection)

    def send(connection: Connection, number: int) -> None:
        connection.send(number, requests[number])

    opened = await _open(address, CONNECTIONS, answered)
    free = deque(opened)  # in turn: servers close those that are idle for seconds
    sent, began, began_at = 0, loop.time(), time.time()
    try:
        while sent < len(requests) and not done.done():
            while sent < len(requests) and due_s[sent] <= loop.time() - began:
                if free:
                    send(free.popleft(), sent)
                else:
                    late.append(sent)
                sent += 1
            if sent < len(requests):
                await asyncio.sleep(max(0.0, began + due_s[sent] - loop.time()))
        await done
    finally:
        _close(opened)
    return [began_at + due for due in due_s], answered_at


def arrivals(per_s: float, number: int, seed: int = 1) -> list[float]:
    """When `number` independent arrivals are due, in seconds from the start: exponential gaps, the same ones each time."""
    chance, at, due = Random(seed), 0.0, []
    for _ in range(number):
        at += chance.expovariate(per_s)
        due.append(at)
    return due


def post(path: str, body: bytes) -> bytes:
    """A whole request."""
    return (
        b"POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
        % (path.encode(), len(body), body)
    )  # fmt: skip


def event_json(number: int, users: int = 10_000) -> bytes:
    """The sample event under an id of its own."""
    return (
        b'{"eventId":"evt-%d","eventType":"ORDER_PLACED","userId":"user_%d",'
        b'"payload":{"orderAmount":250,"items":["Laptop","Mouse"]},"timestamp":"2026-03-31T16:30:00Z"}'
    ) % (number, number % users)


def posts(numbers: Iterable[int]) -> list[bytes]:
    """One request for each event."""
    return [post("/api/events", event_json(number)) for number in numbers]


def batch_posts(numbers: Sequence[int], size: int) -> list[bytes]:
    """The same events, `size` to a request."""
    parts = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    return [post("/api/events/batch", b'{"events":[%s]}' % b",".join(map(event_json, part))) for part in parts]


async def until_listening(address: str) -> None:
    """Returns once somebody takes connections there."""
    while True:
        try:
            _, writer = await asyncio.open_connection(*_place(address))
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return


async def _open(address: str, number: int, on_answer: OnAnswer) -> list[Connection]:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: Connection(on_answer), *_place(address)) for _ in range(number)]
    return [connection for _, connection in made]


def _place(address: str) -> tuple[str, int]:
    parts = urlsplit(address)
    return parts.hostname or "127.0.0.1", parts.port or 80


def _close(opened: Sequence[Connection]) -> None:
    for connection in opened:
        connection.close()


def _end(done: "asyncio.Future[None]", error: Exception | None) -> None:
    if not done.done():
        done.set_result(None) if error is None else done.set_exception(error)
