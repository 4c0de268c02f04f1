"""The routes of people: who was told something lately, one user's page, and what that user wants."""

import asyncio
from datetime import UTC, datetime

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.settings import Settings
from app.store import audit
from app.store.preferences import get_preference, put_preference
from web import links, lookups, people_queries, search_queries
from web.actions import Act, post, transaction
from web.allowance import read_allowance
from web.away import POSTGRESQL, REDIS, Away, ask, status_of
from web.filters import Filter, read_filter, stored_text
from web.pages import unchanged
from web.people_page import people_page
from web.render import respond
from web.user import CHANNELS, user_page

SAY_WHY = "Nothing was changed: say why in a few words. It is kept with your name in the log of actions. Go back and repeat."


def routes(settings: Settings, engine: AsyncEngine, redis: Redis) -> list[Route]:
    async def people(_request: Request) -> Response:
        rows = await ask(POSTGRESQL, people_queries.people(engine))
        return respond(people_page(rows), status_of(rows))

    async def user(request: Request) -> Response:
        user_id = stored_text(request.query_params.get("id", ""))
        if not user_id:
            raise HTTPException(404)
        place = read_filter(dict(request.query_params), datetime.now(UTC)).filter
        wanted = Filter(user=user_id, before=place.before, after=place.after)
        known, rows, allowance = await asyncio.gather(
            ask(POSTGRESQL, lookups.user(engine, user_id)),
            ask(POSTGRESQL, search_queries.notifications(engine, wanted)),
            ask(REDIS, read_allowance(redis, settings, user_id)),
        )
        saved = request.query_params.get("saved") == "1"
        return respond(user_page(settings, wanted, known, rows, allowance, saved=saved), status_of(rows))

    async def preferences(act: Act) -> Response:
        user_id = act.form.get("id", "")
        if not user_id or user_id != stored_text(user_id) or not user_id.isprintable():
            return respond(unchanged("This form names no user, so nothing was changed."), 400)
        if not act.why:
            return respond(unchanged(SAY_WHY), 400)
        told = await ask(POSTGRESQL, _save(settings, act, user_id))
        if isinstance(told, Away):
            return respond(unchanged(f"{told.sentence} Look at the page again before you repeat it."), 503)
        return RedirectResponse(links.user(user_id, saved=1), 303)

    return [Route(links.PEOPLE, people), Route(links.USER, user), post(links.PREFERENCES, preferences)]


async def _save(settings: Settings, act: Act, user_id: str) -> None:
    """All three as the boxes say; counts from the next routed event on."""
    email, sms, push = (name in act.form for name in CHANNELS)
    async with transaction(settings) as connection:
        was = await get_preference(connection, user_id)
        await put_preference(connection, user_id, email, sms, push)
        before = [was.email_opt_in, was.sms_opt_in, was.push_opt_in] if was else [True, True, True]
        changed = {name: [old, new] for name, old, new in zip(CHANNELS, before, (email, sms, push), strict=True) if old != new}
        await audit.record(connection, act.entry("edit preferences", f"user {user_id}", changed=changed))
