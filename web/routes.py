"""The dashboard's handlers: parse, ask both servers at once, build the page, answer. GET only reads, actions.py guards POST."""

import asyncio
from dataclasses import dataclass, field

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from app.pauses import read_pauses
from app.settings import Settings
from web import audit, bulk, dead, development, engine_routes, links, lists, live, lookups, pages, people, sign_in
from web.away import POSTGRESQL, REDIS, Away, ask, status_of
from web.collector import Collector
from web.consistency import compare, consistency
from web.entries import find_entries, wanted_entries
from web.filters import row_id, stored_text
from web.gate import Gate
from web.hold_queries import holds
from web.live import new_collector
from web.parts import limit_words
from web.paused import halted
from web.proxied import Proxied
from web.render import SecureHeaders, respond
from web.sessions import Sessions
from web.story import story
from web.ways_in import allowed_hosts


def build_app(settings: Settings, engine: AsyncEngine, redis: Redis, collector: Collector | None = None) -> ASGIApp:
    """The dashboard as an ASGI app. The caller opens and closes what it is given."""
    dashboard, sessions = Dashboard(settings, engine, redis), Sessions(settings)
    collector = collector or new_collector(settings, engine, redis)
    routes = [
        Route("/", dashboard.home),
        *live.routes(settings, engine, redis, collector),
        Route(links.CONSISTENCY, dashboard.consistency),
        *audit.routes(engine),
        *sign_in.routes(settings, sessions),
        *engine_routes.routes(settings, engine, redis),
        *lists.routes(settings, engine),
        *bulk.routes(settings, engine),
        *dead.routes(settings, engine, redis),
        *people.routes(settings, engine, redis),
        Route(links.BASE + "/events/{event_pk}", dashboard.event),
        Route(links.SEARCH, dashboard.search),
        *development.routes(settings, engine, redis),
        Mount(links.STATIC, StaticFiles(packages=[("web", "static")])),
    ]
    inside = Starlette(routes=routes, exception_handlers={HTTPException: refused, Exception: broken})
    called_right = TrustedHostMiddleware(Gate(inside, settings, sessions), allowed_hosts(settings), www_redirect=False)
    return SecureHeaders(Proxied(called_right, settings))


@dataclass(frozen=True, slots=True)
class Dashboard:
    """The handlers, with what they ask. 503 where PostgreSQL, which has the history, is away; 200 where only Redis is."""

    settings: Settings
    engine: AsyncEngine
    redis: Redis
    comparing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def home(self, _request: Request) -> Response:
        return RedirectResponse(links.BASE)

    async def consistency(self, _request: Request) -> Response:
        """One comparison at a time, however many ask: it costs seconds."""
        async with self.comparing:
            facts = await compare(self.settings, self.redis)
        return respond(consistency(self.settings, facts), status_of(facts))

    async def event(self, request: Request) -> Response:
        event_pk = row_id(request.path_params["event_pk"])
        rows = None if event_pk is None else await ask(POSTGRESQL, lookups.story(self.engine, event_pk))
        if rows is None:
            raise HTTPException(404)
        if isinstance(rows, Away):
            return respond(pages.cannot_read(rows), 503)
        found, pauses, held = await asyncio.gather(
            ask(REDIS, find_entries(self.redis, wanted_entries(rows))),
            ask(REDIS, read_pauses(self.redis)),
            ask(POSTGRESQL, holds(self.engine)),
        )
        return respond(story(self.settings, rows, found, halted(pauses, held)))

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
            return RedirectResponse(links.user(text) if is_user else links.story(events.events[0].id), 303)
        page = pages.found(text, events, is_user, limit_words(self.settings))
        return respond(page, 200 if events.events else 404)


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
