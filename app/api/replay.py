"""POST /api/notifications/replay: what failed, by filter, after a look at how many that is; POST /api/events/{eventId}/replay."""

from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import quote

import orjson
import structlog
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.api.problem import NOT_FOUND, WRONG_STATUS, Kind, Problem, invalid, problem_response, unavailable
from app.api.schemas import Body, Id, Instant, read
from app.api.wire import json_answer, path_id, query_id, read_json_body
from app.domain import Channel, EventStatus, Reason, Status
from app.replay import RATE_MAX, RATE_MIN, RATE_PER_S, Plan, Progress, act, plan
from app.resources import Resources
from app.store.operate import replay_events
from app.store.replay import COUNT_WITHIN_S, CountTooSlow, Wanted, find_event

log = structlog.get_logger()

LIMIT_MAX = 10_000
EXPECTED_MAX = 1_000_000_000
MORE_MATCH = Kind(409, "more-match", "More match than expected")
LOOK_FIRST = (
    'expected is missing: ask with "dryRun": true first, and send the number that it answers; then no more than that is replayed.'
)


def _one_of(*choices: StrEnum, needed: bool = False) -> BeforeValidator:
    def check(value: object) -> object:
        if value in choices or (value is None and not needed):
            return value
        raise PydanticCustomError("choice", "must be one of {choices}", {"choices": ", ".join(choices)})

    return BeforeValidator(check)


def _number(low: float, high: float, *, whole: bool = True) -> BeforeValidator:
    def check(value: Any) -> Any:
        if value is None or (type(value) in ((int,) if whole else (int, float)) and low <= value <= high):
            return value
        kind = "a whole number" if whole else "a number"
        raise PydanticCustomError(
            "number", "must be {kind} from {low} to {high}", {"kind": kind, "low": low, "high": f"{high:,.0f}"}
        )

    return BeforeValidator(check)


class ReplayBody(Body):
    """The body of POST /api/notifications/replay. `since` and `until` (exclusive) are about when a notification ended."""

    status: Annotated[Literal[Status.FAILED, Status.UNKNOWN], _one_of(Status.FAILED, Status.UNKNOWN, needed=True)]
    channel: Annotated[Channel | None, _one_of(*Channel)] = None
    reason: Annotated[Reason | None, _one_of(*Reason)] = None
    user_id: Id | None = None
    event_type: Id | None = None
    since: Instant | None = None
    until: Instant | None = None
    limit: Annotated[int | None, _number(1, LIMIT_MAX)] = None
    rate_per_s: Annotated[float | None, _number(RATE_MIN, RATE_MAX, whole=False)] = None
    dry_run: bool = False
    expected: Annotated[int | None, _number(0, EXPECTED_MAX)] = None

    def wanted(self) -> Wanted:
        """Raises Problem 422 where the members do not fit together."""
        if not self.dry_run and self.expected is None:
            raise invalid([{"detail": LOOK_FIRST, "pointer": "#/expected"}])
        if self.since and self.until and self.since >= self.until:
            raise invalid([{"detail": "until must be later than since.", "pointer": "#/until"}])
        return Wanted(
            status=self.status,
            channel=self.channel,
            reason=self.reason,
            user_id=self.user_id,
            event_type=self.event_type,
            since=self.since,
            until=self.until,
        )


def routes(resources: Resources) -> list[Route]:
    return [
        Route("/api/notifications/replay", partial(replay_wanted, resources), methods=["POST"], name="replay_notifications"),
        Route("/api/events/{event_id:path}/replay", partial(replay_event, resources), methods=["POST"], name="replay_event"),
    ]


async def replay_wanted(resources: Resources, request: Request) -> Response:
    """`dryRun`: 200 and the count. Otherwise 202; 409 with the count, and nothing replayed, where more match than `expected`."""
    body = read(ReplayBody, await read_json_body(request.scope, request.receive))
    planned = await _planned(resources, body.wanted())
    if body.expected is None or body.dry_run:
        return json_answer(_count_json(planned))
    if planned.matching > body.expected:
        return _more_match(request, planned, body.expected)
    limit = min(body.limit or LIMIT_MAX, body.expected)
    told = [progress async for progress in act(resources.pool, planned, body.rate_per_s or RATE_PER_S, limit)]
    done = told[-1] if told else Progress(0, None)
    log.info("notifications replayed on request", status=body.status, replayed=done.replayed)
    remaining = max(0, planned.matching - done.replayed)
    return json_answer({"replayed": done.replayed, "remaining": remaining, "lastDueAt": done.last_due_at}, status=202)


async def replay_event(resources: Resources, request: Request) -> Response:
    """POST /api/events/{eventId}/replay?source=: a FAILED event is routed again; 409 where it is not FAILED."""
    event_id, source = path_id(request, "event_id"), query_id(request, "source", "")
    found = await find_event(resources.pool, source, event_id)
    operated = await replay_events(resources.pool, [found.id]) if found else []
    if not operated:
        raise Problem(NOT_FOUND, "There is no event with this id.")
    if not operated[0].moved:
        hint = " Its notifications are replayed one by one." if operated[0].status is EventStatus.ROUTED else ""
        raise Problem(WRONG_STATUS, f"The event is {operated[0].status}. Only FAILED ones can be replayed.{hint}")
    log.info("event replayed on request", event_id=event_id)
    of_source = f"?source={quote(source, safe='')}" if source else ""
    location = {"Location": f"/api/events/{quote(event_id, safe='')}{of_source}"}
    return json_answer({"eventId": event_id, "source": source, "status": operated[0].status}, location, 202)


async def _planned(resources: Resources, wanted: Wanted) -> Plan:
    try:
        return await plan(resources.pool, wanted)
    except CountTooSlow:
        raise unavailable(
            f"Counting took more than {COUNT_WITHIN_S} s, so nothing was done. Narrow the filter, best by userId."
        ) from None


def _count_json(planned: Plan) -> dict[str, Any]:
    """`more`: there are more than that, uncounted."""
    by_channel: dict[str, int] = {}
    by_reason: dict[str, int] = {}
    for channel, reason, rows, _doubtful in planned.counts:
        by_channel[channel or ""] = by_channel.get(channel or "", 0) + rows
        by_reason[reason] = by_reason.get(reason, 0) + rows
    return {
        "matching": planned.matching,
        "more": planned.more,
        "mayHaveBeenSent": planned.doubtful,
        "byChannel": by_channel,
        "byReason": by_reason,
    }


def _more_match(request: Request, planned: Plan, expected: int) -> Response:
    """The problem, and the count as `dryRun` answers it."""
    detail = f"{planned.matching} match, {expected} were expected, so nothing was replayed. Look again, and send the new number."
    problem = problem_response(Problem(MORE_MATCH, detail), request.scope["path"])
    body = orjson.dumps({**orjson.loads(problem.body), **_count_json(planned)})
    return Response(body, problem.status_code, media_type=problem.media_type)
