"""app/api/one_write.py against uvicorn's protocol as it is, with a transport that notes each write."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.api.one_write import OneWrite

HEAD = {"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"2")]}
BODY = {"type": "http.response.body", "body": b"ok"}
POST = b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 0\r\n\r\n"


class Noting(asyncio.Transport):
    """What was written, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def answers(app: Any, request: bytes = POST, protocol: type[HttpToolsProtocol] = OneWrite) -> Noting:
    """`request` comes in, and all is done that follows from it at once."""
    config, transport = uvicorn.Config(app, lifespan="off", log_config=None, ws="none"), Noting()
    config.load()
    made = protocol(config, ServerState(), {})
    made.connection_made(transport)
    made.data_received(request)
    for _ in range(10):
        await asyncio.sleep(0)
    return transport


def app_of(handle: Callable[[Receive, Send], Awaitable[None]]) -> Any:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await handle(receive, send)

    return app


async def whole(_receive: Receive, send: Send) -> None:
    await send(HEAD)
    await send(BODY)


async def test_an_answer_is_one_write_where_uvicorn_alone_makes_two() -> None:
    joined, apart = await answers(app_of(whole)), await answers(app_of(whole), protocol=HttpToolsProtocol)
    assert (len(joined.writes), len(apart.writes)) == (1, 2)
    assert joined.writes[0].startswith(b"HTTP/1.1 202 ")
    assert joined.writes[0].endswith(b"content-length: 2\r\n\r\nok")


async def test_each_of_several_requests_that_come_together_is_answered() -> None:
    transport = await answers(app_of(whole), 3 * POST)
    assert [write[:12] for write in transport.writes] == 3 * [b"HTTP/1.1 202"]


async def test_a_head_without_a_body_leaves_soon() -> None:
    transport = await answers(app_of(whole), POST.replace(b"POST", b"HEAD"))
    assert b"".join(transport.writes).endswith(b"content-length: 2\r\n\r\n")


async def test_a_head_whose_body_comes_late_leaves_before_it() -> None:
    later = asyncio.Event()

    async def slow(_receive: Receive, send: Send) -> None:
        await send(HEAD)
        await later.wait()
        await send(BODY)

    transport = await answers(app_of(slow))
    assert [write[-4:] for write in transport.writes] == [b"\r\n\r\n"]
    later.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert transport.writes[1:] == [b"ok"]


async def test_who_waits_for_100_continue_is_told_so() -> None:
    async def reading(receive: Receive, send: Send) -> None:
        await receive()
        await whole(receive, send)

    asks = POST.replace(b"content-length: 0", b"content-length: 2\r\nexpect: 100-continue")
    transport = await answers(app_of(reading), asks)
    assert transport.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]


async def test_a_connection_that_is_closed_after_its_answer_has_it_before() -> None:
    transport = await answers(app_of(whole), POST.replace(b"host", b"connection: close\r\nhost"))
    assert transport.closed
    assert transport.writes[0].endswith(b"ok")


async def test_a_head_is_written_before_its_connection_is_closed() -> None:
    async def fails(_receive: Receive, send: Send) -> None:
        await send(HEAD)
        raise RuntimeError("a fault of ours")

    transport = await answers(app_of(fails))
    assert transport.closed
    assert transport.writes[0].startswith(b"HTTP/1.1 202 ")
