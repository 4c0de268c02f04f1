"""/api/notifications/{id}/replay and /cancel: what an operator does with one notification; replay.py has the rest."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.api import replay
from app.api.notifications import line_json
from app.api.problem import NOT_FOUND, WRONG_STATUS, Problem
from app.api.wire import json_answer, path_row_id
from app.resources import Resources
from app.store.history import notification_line
from app.store.operate import Operated, cancel_notifications, replay_notifications

if TYPE_CHECKING:
    from app.store.batch import Pool

Move = Callable[["Pool", Sequence[int]], Awaitable[list[Operated]]]
log = structlog.get_logger()

NONE = "There is no notification with this id."


def routes(resources: Resources, engine: AsyncEngine) -> list[Route]:
    again = partial(_operate, resources, engine, replay_notifications, 202, "Only FAILED and UNKNOWN ones can be replayed.")
    cancel = partial(_operate, resources, engine, cancel_notifications, 200, "Only PENDING ones can be cancelled.")
    return [
        *replay.routes(resources),
        Route("/api/notifications/{id}/replay", again, methods=["POST"], name="replay_notification"),
        Route("/api/notifications/{id}/cancel", cancel, methods=["POST"], name="cancel_notification"),
    ]


async def _operate(resources: Resources, engine: AsyncEngine, move: Move, status: int, rule: str, request: Request) -> Response:
    """The notification as it is after the move; 409 with its status where that does not allow the move."""
    row_id = path_row_id(request, "id")
    operated = await move(resources.pool, [row_id])
    if not operated:
        raise Problem(NOT_FOUND, NONE)
    if not operated[0].moved:
        raise Problem(WRONG_STATUS, f"The notification is {operated[0].status}. {rule}")
    log.info("notification moved on request", notification_id=row_id, status=operated[0].status)
    line = await notification_line(engine, row_id)
    if line is None:
        raise Problem(NOT_FOUND, NONE)
    return json_answer(line_json(line), status=status)
