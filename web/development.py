"""The two pages for development: the mailbox shows what the simulated providers sent, the fault panel makes them fail."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.domain import Channel
from app.faults import Fault, clear_fault, fault_of, read_faults, set_fault
from app.pauses import read_pauses
from app.settings import SIMULATED, Settings
from web import links, mailbox_queries, pages
from web.actions import Act, post, record
from web.away import POSTGRESQL, REDIS, Away, ask, status_of
from web.fault_words import what
from web.faults import fault_panel
from web.filters import row_id, stored_text
from web.hold_queries import holds
from web.mailbox import mailbox
from web.mailbox_queries import MailFilter
from web.paused import halted
from web.render import respond

WELL = "none"


def routes(settings: Settings, engine: AsyncEngine, redis: Redis) -> list[Route]:
    """Their addresses."""
    development = Development(settings, engine, redis)
    return [
        Route(links.MAILBOX, development.mailbox),
        Route(links.FAULTS, development.faults),
        post(links.FAULT, development.change),
    ]


@dataclass(frozen=True, slots=True)
class Development:
    """The handlers, with what they ask."""

    settings: Settings
    engine: AsyncEngine
    redis: Redis

    async def mailbox(self, request: Request) -> Response:
        wanted = parse_mail(request.query_params)
        rows, faults = await asyncio.gather(
            ask(POSTGRESQL, mailbox_queries.mailbox(self.engine, wanted)), ask(REDIS, read_faults(self.redis))
        )
        return respond(mailbox(self.settings, wanted, rows, faults, datetime.now(UTC)), status_of(rows))

    async def faults(self, request: Request) -> Response:
        faults, rows, pauses, held = await asyncio.gather(
            ask(REDIS, read_faults(self.redis)),
            ask(POSTGRESQL, mailbox_queries.calls(self.engine)),
            ask(REDIS, read_pauses(self.redis)),
            ask(POSTGRESQL, holds(self.engine)),
        )
        page = fault_panel(self.settings, datetime.now(UTC), faults, rows, halted(pauses, held), notice(request.query_params))
        return respond(page, status_of(faults))

    async def change(self, act: Act) -> Response:
        """Set or clear one channel's fault, then back to the panel, which says what happened."""
        wanted = parse_fault(act.form)
        if wanted is None or self.settings.channel_policy(wanted[0]).provider != SIMULATED:
            return respond(pages.unchanged("This form names no simulated channel, or no fault that there is."), 400)
        channel, fault = wanted
        entry = act.entry("set fault", channel, fault=what(fault)) if fault else act.entry("clear fault", channel)
        told = await ask(POSTGRESQL, record(self.settings, entry))
        if not isinstance(told, Away):
            told = await ask(REDIS, set_fault(self.redis, channel, fault) if fault else clear_fault(self.redis, channel))
        if isinstance(told, Away):
            return respond(pages.unchanged(f"{told.sentence} Look at the panel again before you repeat it."), 503)
        return RedirectResponse(links.faults(channel=channel, set=act.form["fault"]), 303)


def parse_mail(asked: Mapping[str, str]) -> MailFilter:
    """From a query string. What cannot be understood counts as not asked."""
    channel = asked.get("channel", "")
    return MailFilter(
        user=stored_text(asked.get("user", "")).strip() or None,
        channel=Channel(channel) if channel in set(Channel) else None,
        before=row_id(asked.get("before", "")),
    )


def parse_fault(form: Mapping[str, str]) -> tuple[Channel, Fault | None] | None:
    """The channel and its new fault (None: none any more); None where the form makes no sense."""
    channel, told = form.get("channel", ""), form.get("fault", "")
    if channel not in set(Channel):
        return None
    kind, _, amount = told.partition(":")
    fault = fault_of(kind, amount)
    return (Channel(channel), fault) if fault is not None or told == WELL else None


def notice(asked: Mapping[str, str]) -> str:
    """The line that the panel shows after a click; empty where there was none."""
    wanted = parse_fault({"channel": asked.get("channel", ""), "fault": asked.get("set", "")})
    if wanted is None:
        return ""
    channel, fault = wanted
    became = "is well again" if fault is None else f"is made {what(fault)}"
    return f"{channel} {became}: the consumers follow within about a second."
