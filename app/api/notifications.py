"""/api/notifications: one user's history, newest first, page by page."""

from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.api.wire import ROW_ID_MAX, json_answer, path_id, query_choice, query_number
from app.domain import Channel, Status
from app.store.history import NotificationLine, user_notifications

LIMIT, LIMIT_MAX = 50, 200


def routes(engine: AsyncEngine) -> list[Route]:
    return [Route("/api/notifications/{user_id:path}", partial(list_notifications, engine), name="list_notifications")]


async def list_notifications(engine: AsyncEngine, request: Request) -> Response:
    """GET /api/notifications/{userId}?status=&channel=&limit=&before=: an array; `Link: rel="next"` leads to older ones."""
    user_id = path_id(request, "user_id")
    status = query_choice(request, "status", Status)
    channel = query_choice(request, "channel", Channel)
    limit = query_number(request, "limit", LIMIT, LIMIT_MAX) or LIMIT
    before_id = query_number(request, "before", None, ROW_ID_MAX)
    lines = await user_notifications(engine, user_id, status, channel, before_id, limit + 1)
    shown = lines[:limit]
    more = len(lines) > limit
    link = {"Link": _next_link(user_id, status, channel, limit, shown[-1].id)} if more else None
    return json_answer([line_json(line) for line in shown], link)


def _next_link(user_id: str, status: str | None, channel: str | None, limit: int, before_id: int) -> str:
    """RFC 8288; the target is relative, so that it holds behind any proxy."""
    asked = {"status": status, "channel": channel, "limit": limit, "before": before_id}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    return f'</api/notifications/{quote(user_id, safe="")}?{query}>; rel="next"'


def line_json(line: NotificationLine) -> dict[str, Any]:
    """A notification as lists show it."""
    return {
        "id": line.id,
        "eventId": line.event_id,
        "eventType": line.event_type,
        "userId": line.user_id,
        "channel": line.channel,
        "status": line.status,
        "payload": orjson.Fragment(line.payload_json),
        "reason": line.reason,
        "error": line.error,
        "attempts": line.attempts,
        "createdAt": line.created_at,
        "updatedAt": line.updated_at,
    }
