"""The dashboard's handlers: parse, ask both servers at once, build the page, answer. They only read."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from app.domain import Channel, Status
from app.settings import Settings
from app.stream_stats import stream_stats
from web import counts, links, lookups, pages, queries
from web.away import POSTGRESQL, REDIS, Away, ask
from web.overview import overview
from web.parts import limit_words
from web.queries import Filter
from web.render import SecureHeaders, respond
from web.story import story

NEWEST_ROWS = 25
ID_MAX = 255  # characters of an event or user id
KEY_MAX = 2**63 - 1


def build_app(settings: Settings, engine: AsyncEngine, redis: Redis) -> ASGIApp:
    """The dashboard as an ASGI app. The caller opens and closes what it is given."""
    dashboard = Dashboard(settings, engine, redis)
    routes = [
        Route("/", dashboard.home),
        Route(links.BASE, dashboard.overview),
        Route(links.NOTIFICATIONS, dashboard.notifications),
        Route(links.BASE + "/events/{event_pk}", dashboard.event),
        Route(links.SEARCH, dashboard.search),
        Mount(links.STATIC, StaticFiles(packages=[("web", "static")])),
    ]
    return SecureHeaders(Starlette(routes=routes, exception_handlers={HTTPException: refused, Exception: broken}))


@dataclass(frozen=True, slots=True)
class Dashboard:
    """The handlers, with what they ask. 503 where PostgreSQL, which has the history, is away; 200 where only Redis is."""

    settings: Settings
    engine: AsyncEngine
    redis: Redis

    async def home(self, _request: Request) -> Response:
        return RedirectResponse(links.BASE)

    async def overview(self, _request: Request) -> Response:
        streams, owed, counted, newest, failed = await asyncio.gather(
            ask(REDIS, stream_stats(self.redis)),
            ask(POSTGRESQL, counts.owed(self.engine)),
            ask(POSTGRESQL, counts.counts(self.engine)),
            ask(POSTGRESQL, queries.notifications(self.engine, Filter(), NEWEST_ROWS)),
            ask(POSTGRESQL, lookups.failed_events(self.engine)),
        )
        now = datetime.now(UTC) if isinstance(owed, Away) else owed.now
        page = overview(self.settings, now, streams, owed, counted, newest, failed)
        return respond(page, 503 if isinstance(owed, Away) else 200)

    async def notifications(self, request: Request) -> Response:
        wanted = parse_filter(dict(request.query_params))
        rows, user = await asyncio.gather(
            ask(POSTGRESQL, queries.notifications(self.engine, wanted)),
            ask(POSTGRESQL, self._user(wanted.user)),
        )
        return respond(pages.listing(self.settings, wanted, rows, user), 503 if isinstance(rows, Away) else 200)

    async def event(self, request: Request) -> Response:
        event_pk = row_id(request.path_params["event_pk"])
        rows = None if event_pk is None else await ask(POSTGRESQL, lookups.story(self.engine, event_pk))
        if rows is None:
            raise HTTPException(404)
        if isinstance(rows, Away):
            return respond(pages.cannot_read(rows), 503)
        return respond(story(rows, limit_words(self.settings)))

    async def search(self, request: Request) -> Response:
        """To the story of the event, or to the list of the user, with this id; a page of its own where that is not one."""
        text = stored_text(request.query_params.get("q", "")).strip()
        if not text:
            return RedirectResponse(links.BASE, 303)
        events, is_user = await asyncio.gather(
            ask(POSTGRESQL, lookups.events_by_id(self.engine, text)),
            ask(POSTGRESQL, lookups.user_exists(self.engine, text)),
        )
        if isinstance(events, Away):
            return respond(pages.cannot_read(events), 503)
        if isinstance(is_user, Away):
            return respond(pages.cannot_read(is_user), 503)
        if len(events.events) + is_user == 1:
            return RedirectResponse(links.notifications(user=text) if is_user else links.story(events.events[0].id), 303)
        page = pages.found(text, events, is_user, limit_words(self.settings))
        return respond(page, 200 if events.events else 404)

    async def _user(self, user_id: str | None) -> lookups.UserRows | None:
        return None if user_id is None else await lookups.user(self.engine, user_id)


def parse_filter(asked: Mapping[str, str]) -> Filter:
    """From a query string. What cannot be understood counts as not asked."""
    status, channel = asked.get("status", ""), asked.get("channel", "")
    return Filter(
        status=Status(status) if status in set(Status) else None,
        channel=Channel(channel) if channel in set(Channel) else None,
        user=stored_text(asked.get("user", "")) or None,
        before=row_id(asked.get("before", "")),
    )


def stored_text(asked: str) -> str:
    """What could be an id: PostgreSQL's text has no NUL, and ids are at most ID_MAX characters."""
    return asked.replace("\0", "")[:ID_MAX]


def row_id(asked: str) -> int | None:
    """The number of a row, None where it cannot be one."""
    number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) <= len(str(KEY_MAX)) else KEY_MAX + 1
    return number if number <= KEY_MAX else None


async def refused(_request: Request, error: Exception) -> Response:
    """404, 405 and the like, in the look of the other pages."""
    status = error.status_code if isinstance(error, HTTPException) else 400
    headers = getattr(error, "headers", None) or {}
    response = respond(pages.refused(status), status)
    response.headers.update(headers)
    return response


async def broken(_request: Request, _error: Exception) -> Response:
    """500 without a traceback; the log has it."""
    return respond(pages.broken(), 500)
