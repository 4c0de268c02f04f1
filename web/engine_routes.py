"""The routes of settings and engine, and of pausing a channel by hand. However many ask, one look every few seconds."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.doctor.gather import gather_facts
from app.domain import Channel
from app.pauses import read_pauses
from app.settings import Settings
from app.store import audit
from app.store.hold import hold, release
from web import links
from web.actions import Act, post, transaction
from web.away import POSTGRESQL, REDIS, Away, ask
from web.engine import Examined, engine_page
from web.engine_queries import postgres_engine, redis_engine
from web.hold_queries import holds
from web.pages import unchanged
from web.render import respond

KEPT_S = 5.0
NO_CHANNEL = "This form names no channel."
SAY_WHY = "Say why the channel is paused: whoever finds it so will want to know. Nothing was changed."

_NOTICES = {
    "paused": "{} is paused: within two seconds nothing more is taken from its stream. What waits keeps its tries.",
    "was-paused": "{} had been paused already, and stays as it was.",
    "resumed": "{} goes on: what has waited is sent.",
    "was-going": "{} was not paused by hand.",
}


def routes(settings: Settings, engine: AsyncEngine, redis: Redis) -> list[Route]:
    pages = EnginePages(settings, engine, redis)
    return [
        Route(links.ENGINE, pages.show),
        post(links.PAUSE, pages.pause),
        post(links.RESUME, pages.resume),
    ]


@dataclass(slots=True)
class EnginePages:
    settings: Settings
    engine: AsyncEngine
    redis: Redis
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    seen: Examined | None = None
    seen_s: float = float("-inf")

    async def show(self, request: Request) -> Response:
        seen, held, pauses = await asyncio.gather(
            self._examined(), ask(POSTGRESQL, holds(self.engine)), ask(REDIS, read_pauses(self.redis))
        )
        return respond(engine_page(self.settings, seen, held, pauses, notice(request.query_params)))

    async def pause(self, act: Act) -> Response:
        """A pause without a reason is a riddle for whoever comes next."""
        channel = channel_of(act.form)
        if channel is None or not act.why:
            return respond(unchanged(NO_CHANNEL if channel is None else SAY_WHY), 422)
        return _done(channel, await ask(POSTGRESQL, self._pause(act, channel)))

    async def resume(self, act: Act) -> Response:
        channel = channel_of(act.form)
        if channel is None:
            return respond(unchanged(NO_CHANNEL), 422)
        return _done(channel, await ask(POSTGRESQL, self._resume(act, channel)))

    async def _pause(self, act: Act, channel: Channel) -> str:
        async with transaction(self.settings) as connection:
            if not await hold(connection, channel, act.who.name, act.why):
                return "was-paused"
            await audit.record(connection, act.entry("pause", channel))
        return "paused"

    async def _resume(self, act: Act, channel: Channel) -> str:
        async with transaction(self.settings) as connection:
            if not await release(connection, channel):
                return "was-going"
            await audit.record(connection, act.entry("resume", channel))
        return "resumed"

    async def _examined(self) -> Examined:
        """The last look, where it is not older than KEPT_S; else a new one, which those who ask meanwhile share."""
        async with self.looking:
            if self.seen is None or time.monotonic() - self.seen_s > KEPT_S:
                facts, postgres, told = await asyncio.gather(
                    ask("The check", gather_facts(self.settings)),
                    ask(POSTGRESQL, postgres_engine(self.engine)),
                    ask(REDIS, redis_engine(self.redis)),
                )
                self.seen, self.seen_s = Examined(datetime.now(UTC), facts, postgres, told), time.monotonic()
            return self.seen


def channel_of(form: Mapping[str, str]) -> Channel | None:
    """The channel that a form names; None where it names none."""
    asked = form.get("channel", "")
    return Channel(asked) if asked in set(Channel) else None


def notice(asked: Mapping[str, str]) -> str:
    """Pure: the line that the page shows after an action; empty where there was none."""
    told = ((outcome, asked.get(outcome, "")) for outcome in _NOTICES)
    return next((_NOTICES[outcome].format(channel) for outcome, channel in told if channel in set(Channel)), "")


def _done(channel: Channel, told: str | Away) -> Response:
    if isinstance(told, Away):
        return respond(unchanged(f"{told.sentence} Look at the engine's page before you repeat it."), 503)
    return RedirectResponse(links.engine(**{told: channel}), 303)
