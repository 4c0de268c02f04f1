"""POST /api/events/batch: up to a thousand events in one request, each answered for itself; one bad event spoils no other."""

import json
from typing import Annotated, Any

import orjson
from pydantic import Field, ValidationError
from starlette.types import Receive, Scope, Send

from app.accept import Accepted, Acceptor
from app.api.problem import Problem, problem_json, refusal
from app.api.schemas import Body, EventBody, read
from app.api.wire import read_json_body
from app.domain import Event

EVENTS_MAX = 1000
BATCH_MAX_BYTES = 8 * 2**20


class BatchBody(Body):
    """The events are judged one by one, after this."""

    events: Annotated[list[Any], Field(min_length=1, max_length=EVENTS_MAX)]


class GoodBatch(Body):
    """A batch without a fault: one look at the whole body instead of one at each event."""

    events: Annotated[list[EventBody], Field(min_length=1, max_length=EVENTS_MAX)]


class PostBatch:
    """Plain ASGI, as the route for one event. 202 whatever becomes of each; 503 where PostgreSQL is away: post it all again."""

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked, judged = read_batch(await read_json_body(scope, receive, limit=BATCH_MAX_BYTES))
        events = [event for event in judged if isinstance(event, Event)]
        accepted = iter(await self._acceptor.accept_all(events))
        results = [
            result(index, one, next(accepted) if isinstance(one, Event) else one, asked[index] if asked else None)
            for index, one in enumerate(judged)
        ]
        body = orjson.dumps({"results": results})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def read_batch(body: bytes) -> tuple[list[Any], list[Event | Problem]]:
    """Each event, or what is wrong with it; and where something is, all as they were posted. Raises Problem: it is no batch."""
    try:
        return [], [one.event() for one in GoodBatch.model_validate_json(body).events]
    except ValidationError:
        asked = read(BatchBody, body).events
        return asked, [judge(one) for one in asked]


def judge(asked: Any) -> Event | Problem:
    """One member of the batch, judged as if it had come alone."""
    try:
        text = orjson.dumps(asked)
    except TypeError:  # a number beyond 64 bits: read() names it
        text = json.dumps(asked).encode()
    try:
        return read(EventBody, text).event()
    except Problem as problem:
        return problem


def result(index: int, one: Event | Problem, became: Accepted | Problem, asked: Any) -> dict[str, object]:
    """The answer for one event: accepted, duplicate, or rejected with the problem it would have been answered with alone."""
    if isinstance(one, Event) and (became is Accepted.NEW or became is Accepted.DUPLICATE):
        return {"index": index, "eventId": one.event_id, "status": became}
    problem = refusal(became) if isinstance(became, Accepted) else became
    told = one.event_id if isinstance(one, Event) else asked.get("eventId") if isinstance(asked, dict) else None
    assert problem is not None
    told_id = told if isinstance(told, str) else None
    return {"index": index, "eventId": told_id, "status": "rejected", "error": problem_json(problem)}
