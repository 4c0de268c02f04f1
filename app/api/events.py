"""/api/events: POST hands an event to accept, GET tells its whole story."""

from functools import partial
from typing import Any
from urllib.parse import quote

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from app.accept import Accepted, Acceptor
from app.api.batch import PostBatch
from app.api.problem import NOT_FOUND, Problem, answer_error, refusal
from app.api.schemas import EventBody, read
from app.api.wire import json_answer, path_id, query_id, read_json_body
from app.domain import Event
from app.store.history import AttemptStory, EventStory, NotificationStory, event_story

PATH = "/api/events"
MESSAGE = "Event accepted and queued for processing"


def routes(acceptor: Acceptor, engine: AsyncEngine) -> list[Route]:
    return [
        Route(PATH, PostEvent(acceptor), methods=["POST"], name="post_event"),
        Route("/api/events/batch", PostBatch(acceptor), methods=["POST"], name="post_batch"),
        Route("/api/events/{event_id:path}", partial(get_event, engine), name="get_event"),
    ]


class HotRoute:
    """Takes POST /api/events past the router and its layers, which cost a quarter of the request; `inside` has the others."""

    def __init__(self, post: "PostEvent", inside: Starlette) -> None:
        self._post, self._inside = post, inside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._inside(scope, receive, send)
            return
        try:
            await self._post(scope, receive, send)
        except Exception as error:
            await answer_error(error, scope, receive, send)


class PostEvent:
    """POST /api/events, the one hot route: plain ASGI, without the cost of request and response objects."""

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        event = read(EventBody, await read_json_body(scope, receive)).event()
        accepted = await self._acceptor.accept(event)
        for message in _answer(event, accepted):
            await send(message)


def _answer(event: Event, accepted: Accepted) -> tuple[Message, Message]:
    """The 202 as ASGI messages. Raises Problem where the event was not accepted."""
    if (problem := refusal(accepted)) is not None:
        raise problem
    body = orjson.dumps({"message": MESSAGE, "jobId": event.event_id, "duplicate": accepted is Accepted.DUPLICATE})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"location", f"/api/events/{quote(event.event_id, safe='')}".encode()),
    ]
    return {"type": "http.response.start", "status": 202, "headers": headers}, {"type": "http.response.body", "body": body}


async def get_event(engine: AsyncEngine, request: Request) -> Response:
    """GET /api/events/{eventId}?source=: the event, the decision per channel, its notifications and all their attempts."""
    event_id, source = path_id(request, "event_id"), query_id(request, "source", "")
    story = await event_story(engine, source, event_id)
    if story is None:
        raise Problem(NOT_FOUND, "There is no event with this id.")
    return json_answer(_event_json(story))


def _event_json(story: EventStory) -> dict[str, Any]:
    return {
        "eventId": story.event_id,
        "source": story.source,
        "eventType": story.type,
        "userId": story.user_id,
        "payload": orjson.Fragment(story.payload_json),
        "timestamp": story.occurred_at,
        "status": story.status,
        "reason": story.reason,
        "error": story.error,
        "channels": story.channels,
        "sendAt": story.send_at,
        "expiresAt": story.expires_at,
        "createdAt": story.created_at,
        "updatedAt": story.updated_at,
        "decisions": story.decisions,
        "notifications": [_notification_json(notification) for notification in story.notifications],
    }


def _notification_json(story: NotificationStory) -> dict[str, Any]:
    due = {} if story.due_at is None else {"dueAt": story.due_at}
    return {
        "id": story.id,
        "channel": story.channel,
        "status": story.status,
        "reason": story.reason,
        "error": story.error,
        "tries": story.tries,
        "possibleDuplicate": story.possible_duplicate,
        **due,
        "createdAt": story.created_at,
        "updatedAt": story.updated_at,
        "attempts": [_attempt_json(attempt) for attempt in story.attempts],
    }


def _attempt_json(story: AttemptStory) -> dict[str, Any]:
    return {
        "number": story.number,
        "provider": story.provider,
        "consumer": story.consumer,
        "startedAt": story.started_at,
        "durationMs": story.duration_ms,
        "outcome": story.outcome,
        "error": story.error,
        "possibleDuplicate": story.possible_duplicate,
    }
