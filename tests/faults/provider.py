"""A provider in a process of its own that counts what it really received, by idempotency key. It outlives every fault.

`python -m tests.faults.provider PORT`: POST /send takes a message as the webhook provider posts it, GET /calls tells all of them,
PUT /mode says how to behave from now on.
"""

import asyncio
import os
import signal
import sys
import time
import zlib
from dataclasses import asdict, dataclass
from typing import NamedTuple

import aiohttp
from aiohttp import web


class Call(NamedTuple):
    """One message received. `taken`: a person may have got it. `received_at` in s since 1970."""

    key: str
    channel: str
    attempt: int
    event_id: str
    received_at: float
    taken: bool


@dataclass(frozen=True, slots=True)
class Mode:
    """How it answers. `kind`: ok; status (not taken); hang; reset (taken, then the connection breaks); kill (`pid`, once).

    `share`: of the calls, the same ones each time; the others are answered ok. `latency_s` counts for ok.
    """

    kind: str = "ok"
    status: int = 503
    retry_after_s: float | None = None
    pid: int = 0
    share: float = 1.0
    latency_s: float = 0.03
    channel: str = ""


class Counting:
    """The server's state."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.mode = Mode()

    async def send(self, request: web.Request) -> web.StreamResponse:
        message, mode = await request.json(), self.mode
        chosen = zlib.crc32(f"{message['idempotencyKey']}/{message['attempt']}".encode()) < mode.share * 2**32
        kind = mode.kind if chosen and mode.channel in ("", message["channel"]) else "ok"
        event_id = message["eventId"]
        call = Call(
            message["idempotencyKey"], message["channel"], message["attempt"], event_id, time.time(), kind != "status"
        )  # fmt: skip
        self.calls.append(call)
        if kind == "status":
            headers = {} if mode.retry_after_s is None else {"Retry-After": f"{mode.retry_after_s:g}"}
            return web.Response(status=mode.status, text="as told", headers=headers)
        if kind == "kill":
            self.mode = Mode(latency_s=mode.latency_s)
            os.kill(mode.pid, signal.SIGKILL)
        if kind in ("kill", "hang"):
            await asyncio.Event().wait()  # until the caller, or this process, is gone
        if kind == "reset":
            assert request.transport is not None
            request.transport.abort()
        await asyncio.sleep(mode.latency_s)
        return web.json_response({"id": f"m-{len(self.calls)}"})

    async def told(self, request: web.Request) -> web.Response:
        self.mode = Mode(**await request.json())
        return web.Response()

    async def tell(self, request: web.Request) -> web.Response:
        return web.json_response(self.calls[int(request.query.get("from", 0)) :])


@dataclass(frozen=True, slots=True)
class ProviderClient:
    """The tests' side of it."""

    url: str
    session: aiohttp.ClientSession

    async def behave(self, mode: Mode) -> None:
        async with self.session.put(f"{self.url}/mode", json=asdict(mode)) as answer:
            assert answer.status == 200

    async def calls(self, first: int = 0) -> list[Call]:
        """Every message received, in order, from number `first` on."""
        async with self.session.get(f"{self.url}/calls", params={"from": first}) as answer:
            return [Call(*call) for call in await answer.json()]

    async def answers(self) -> bool:
        try:
            await self.calls(10**9)
        except aiohttp.ClientError:
            return False
        return True


def main() -> None:
    counting, app = Counting(), web.Application(client_max_size=2**20)
    app.add_routes([web.post("/send", counting.send), web.put("/mode", counting.told), web.get("/calls", counting.tell)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None, keepalive_timeout=30)


if __name__ == "__main__":
    main()
