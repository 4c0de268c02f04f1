"""The routes of what is done to many notifications: ask first, begin, show the progress."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.replay import RATE_MAX, RATE_MIN, RATE_PER_S
from app.replay_options import read_instant
from app.settings import Settings
from web import links
from web.actions import Act, post, record
from web.away import POSTGRESQL, Away, ask
from web.confirm import confirm, job_page, jobs_page, order_words
from web.filters import query_of, read_filter, row_ids
from web.jobs import Job, Jobs
from web.operations import Order, read_order
from web.pages import unchanged
from web.render import respond
from web.search_queries import count

NOTHING = "Nothing was chosen that this can be done to. Go back, and tick some lines or change the filter."
SAY_WHY = "Say why in a few words: it is kept with your name in the log of actions."


def routes(settings: Settings, engine: AsyncEngine) -> list[Route]:
    jobs = Jobs(settings, engine)

    async def asking(request: Request) -> Response:
        asked, ids = dict(request.query_params), request.query_params.getlist("id")
        order = _order(asked, ids)
        if isinstance(order, str):
            return respond(unchanged(order), 400)
        counted = await ask(POSTGRESQL, count(engine, order.wanted))
        return respond(confirm(settings, order, counted), 503 if isinstance(counted, Away) else 200)

    async def begin(act: Act) -> Response:
        order, as_of, rate = _order(act.form, act.all("id")), _as_of(act.form), _rate(act.form)
        if isinstance(order, str) or as_of is None or rate is None:
            return respond(unchanged(order if isinstance(order, str) else "This form is not whole, so nothing was changed."), 400)
        if not act.why:
            counted = await ask(POSTGRESQL, count(engine, order.wanted, as_of))
            return respond(confirm(settings, order, counted, SAY_WHY), 422)
        job = _job(act, order, as_of, rate)
        if not order.wanted.ids:
            begun = await ask(POSTGRESQL, record(settings, replace(job.entry, action=f"begin: {job.entry.action}")))
            if isinstance(begun, Away):
                return respond(unchanged(f"{begun.sentence} Nothing was begun."), 503)
        jobs.start(job)
        return RedirectResponse(links.job(job.id), 303)

    async def one(request: Request) -> Response:
        job = jobs.find(request.path_params["job_id"])
        if job is None:
            raise HTTPException(404)
        return respond(job_page(job, datetime.now(UTC)))

    async def all_of_them(_request: Request) -> Response:
        return respond(jobs_page(jobs.newest, datetime.now(UTC)))

    return [
        Route(links.ACT, asking),
        post(links.ACT, begin),
        Route(links.JOBS, all_of_them),
        Route(links.JOBS + "/{job_id}", one),
    ]


def _order(asked: Mapping[str, str], ids: list[str]) -> Order | str:
    """What is to be done; or a sentence on why nothing is: a filter that is not understood whole is not acted on."""
    read = read_filter(asked, datetime.now(UTC), row_ids(ids))
    if read.faults:
        return f"Not understood: {'; '.join(read.faults)}. Nothing was changed."
    return read_order(asked.get("do", ""), read.filter) or NOTHING


def _job(act: Act, order: Order, as_of: datetime, rate: float) -> Job:
    counted = act.form.get("counted", "")
    expected = int(counted) if counted.isascii() and counted.isdigit() and len(counted) < 12 else 0
    detail = {"ids": list(order.wanted.ids)} if order.wanted.ids else {name: str(v) for name, v in query_of(order.wanted).items()}
    entry = act.entry(f"{order.operation} notifications", order_words(order.wanted), **detail)
    return Job(order, as_of, expected, "more" in act.form, entry, rate)


def _as_of(form: Mapping[str, str]) -> datetime | None:
    try:
        return read_instant(form.get("as_of", ""), datetime.now(UTC))
    except (ValueError, OverflowError):
        return None


def _rate(form: Mapping[str, str]) -> float | None:
    try:
        rate = float(form.get("rate", RATE_PER_S))
    except ValueError:
        return None
    return rate if RATE_MIN <= rate <= RATE_MAX else None
