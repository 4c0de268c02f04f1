"""The routes of lists: notifications, failures, retries."""

import asyncio
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.settings import Settings
from web import failure_queries, links, retry_queries, search_queries
from web.away import POSTGRESQL, ask, status_of
from web.failures import OVER, OVER_DEFAULT, failures
from web.filters import Filter, Several, read_filter
from web.listing import listing
from web.render import respond
from web.retries import retries

NEWEST_ROWS = 25


def routes(settings: Settings, engine: AsyncEngine) -> list[Route]:
    async def notifications(request: Request) -> Response:
        typed = dict(request.query_params)
        asked = read_filter(typed, datetime.now(UTC))
        rows = await ask(POSTGRESQL, search_queries.notifications(engine, asked.filter))
        return respond(listing(settings, asked, typed, rows), status_of(rows))

    async def failed(request: Request) -> Response:
        asked = request.query_params.get("over", "")
        over = asked if asked in OVER else OVER_DEFAULT
        rows, newest = await asyncio.gather(
            ask(POSTGRESQL, failure_queries.failures(engine, OVER[over])),
            ask(POSTGRESQL, search_queries.notifications(engine, Filter(Several.BAD), NEWEST_ROWS)),
        )
        return respond(failures(settings, over, rows, newest), status_of(rows))

    async def waiting(_request: Request) -> Response:
        rows = await ask(POSTGRESQL, retry_queries.retries(engine))
        return respond(retries(settings, rows), status_of(rows))

    return [
        Route(links.NOTIFICATIONS, notifications),
        Route(links.FAILURES, failed),
        Route(links.RETRIES, waiting),
    ]
