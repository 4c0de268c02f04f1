"""Raw ASGI: validate, wait for the shared insert and the shared XADD, 202. `python -m benchmarks.bare.api REDIS DATABASE PORT`"""

import asyncio
import gc
import sys
from typing import Any

import asyncpg
import orjson
import uvicorn
import uvloop
from pydantic import AwareDatetime, BaseModel
from starlette.types import Receive, Scope, Send

from benchmarks.bare import STREAM
from benchmarks.wire import Wire

INSERT = """
insert into event (event_id, type, user_id, payload) select * from unnest($1::text[], $2::text[], $3::text[], $4::json[])
on conflict do nothing returning id, event_id, user_id
"""


class Body(BaseModel):
    eventId: str  # noqa: N815
    eventType: str  # noqa: N815
    userId: str  # noqa: N815
    payload: dict[str, Any]
    timestamp: AwareDatetime


class Api:
    """Requests that come in while a batch is written share the next one."""

    def __init__(self, database: "asyncpg.Connection[asyncpg.Record]", wire: Wire) -> None:
        self._database, self._wire = database, wire
        self._waiting: list[tuple[Body, asyncio.Future[None]]] = []
        self._some = asyncio.Event()

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        text = message["body"]
        while message["more_body"]:
            message = await receive()
            text += message["body"]
        body, done = Body.model_validate_json(text), asyncio.get_running_loop().create_future()
        self._waiting.append((body, done))
        self._some.set()
        await done
        answer = orjson.dumps({"message": "Event accepted and queued for processing", "jobId": body.eventId})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def run(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            batch, self._waiting = self._waiting, []
            rows = [(b.eventId, b.eventType, b.userId, orjson.dumps(b.payload).decode()) for b, _ in batch]
            added = await self._database.fetch(INSERT, *map(list, zip(*rows, strict=True)))
            await self._wire.ask([("XADD", STREAM, "*", "event", row["id"], "user_id", row["user_id"]) for row in added])
            for _, done in batch:
                done.set_result(None)


async def serve(redis_url: str, database_url: str, port: int) -> None:
    async with Wire(redis_url) as wire, asyncio.TaskGroup() as duty:
        api = Api(await asyncpg.connect(database_url), wire)
        duty.create_task(api.run())
        config = uvicorn.Config(
            api, port=port, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False, server_header=False
        )
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2], int(sys.argv[3])))
