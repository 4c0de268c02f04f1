"""The routes of dead letters: the page, one of them to edit, and what is done to events and to entries of the dead stream."""

import asyncio
import json
import re

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.settings import Settings
from app.store import audit
from app.store.dead import Before, discard_events, discard_notifications, edit_event, edit_notification
from app.store.operate import replay_events, replay_notifications
from app.streams import discard_dead, discard_dead_up_to
from web import links
from web.actions import Act, post, record, transaction
from web.away import POSTGRESQL, REDIS, Away, ask, status_of
from web.dead_edit import PAYLOAD_MAX_BYTES, Content, Dead, NotFit, check, dead_edit, read_content, stored
from web.dead_letters import dead_letters, notice
from web.dead_queries import dead_entries, find_dead
from web.dead_queries import dead_letters as dead_rows
from web.filters import row_id, row_ids
from web.pages import cannot_read, unchanged
from web.render import respond

ENTRY_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}", re.ASCII)
ENTRIES_MAX = 200
FORM_MAX = 4 * PAYLOAD_MAX_BYTES  # urlencoded
SAY_WHY = "Nothing was changed: say why in a few words. It is kept with your name in the log of actions."
NOTHING = "Nothing was chosen, so nothing was changed. Go back and tick some lines."


def routes(settings: Settings, engine: AsyncEngine, redis: Redis) -> list[Route]:
    async def page(request: Request) -> Response:
        rows, entries = await asyncio.gather(ask(POSTGRESQL, dead_rows(engine)), ask(REDIS, dead_entries(redis)))
        return respond(dead_letters(settings, rows, entries, notice(dict(request.query_params))), status_of(rows))

    async def one(request: Request) -> Response:
        dead = await _find(engine, request)
        return respond(cannot_read(dead), 503) if isinstance(dead, Away) else respond(dead_edit(settings, dead))

    async def act_on_one(act: Act) -> Response:
        dead = await _find(engine, act.request)
        if isinstance(dead, Away):
            return respond(cannot_read(dead), 503)
        content = read_content(act.form, dead)
        if not act.why:
            return respond(dead_edit(settings, dead, content, SAY_WHY), 422)
        try:
            told = await ask(POSTGRESQL, _do(settings, act, dead, content))
        except NotFit as fault:
            return respond(dead_edit(settings, dead, content, f"Nothing was changed. {fault}"), 422)
        return _answer(told)

    async def act_on_events(act: Act) -> Response:
        ids, do = row_ids(act.all("id")), act.form.get("do")
        if not act.why or not ids or do not in ("replay", "discard"):
            return respond(unchanged(NOTHING if act.why else SAY_WHY), 400)
        return _answer(await ask(POSTGRESQL, _do_events(settings, act, list(ids), do)))

    async def act_on_entries(act: Act) -> Response:
        chosen = act.form.get("up_to", "") if act.form.get("do") == "older" else ""
        ids = [chosen] if chosen else act.all("entry")[:ENTRIES_MAX]
        if not act.why or not ids or not all(ENTRY_ID.fullmatch(entry_id) for entry_id in ids):
            return respond(unchanged(NOTHING if act.why else SAY_WHY), 400)
        entry = act.entry("discard dead entries", f"up to {chosen}" if chosen else f"{len(ids)} of the dead stream", entries=ids)
        begun = await ask(POSTGRESQL, record(settings, entry))
        if isinstance(begun, Away):
            return respond(unchanged(f"{begun.sentence} Nothing was changed."), 503)
        dropped = await ask(REDIS, discard_dead_up_to(redis, chosen) if chosen else discard_dead(redis, ids))
        if isinstance(dropped, Away):
            return respond(unchanged(f"{dropped.sentence} Look at the page again before you repeat it."), 503)
        return RedirectResponse(links.dead_letters(dropped=dropped), 303)

    return [
        Route(links.DEAD_LETTERS, page),
        post(links.DEAD_EVENTS, act_on_events),
        post(links.DEAD_ENTRIES, act_on_entries),
        Route(links.DEAD_LETTERS + "/{kind}/{id}", one),
        post(links.DEAD_LETTERS + "/{kind}/{id}", act_on_one, FORM_MAX),
    ]


async def _find(engine: AsyncEngine, request: Request) -> Dead | Away:
    """Raises HTTPException 404 where there is no such row."""
    kind, number = request.path_params["kind"], row_id(request.path_params["id"])
    if kind not in ("event", "notification") or number is None:
        raise HTTPException(404)
    dead = await ask(POSTGRESQL, find_dead(engine, kind, number))
    if dead is None:
        raise HTTPException(404)
    return dead


async def _do(settings: Settings, act: Act, dead: Dead, content: Content) -> dict[str, int]:
    """What the button says; the query of the page that is shown next. Raises NotFit."""
    do, kind = act.form.get("do"), "notification" if dead.notification else "event"
    row = dead.notification or dead.event
    if do == "edit":
        return {"edited": int(await _edit(settings, act, dead, content))}
    if do not in ("replay", "discard"):
        raise NotFit("This form says nothing that can be done.")
    async with transaction(settings) as connection:
        if do == "discard":
            discard = discard_notifications if dead.notification else discard_events
            moved = len(await discard(connection, [row.id], act.why))
        else:
            replay = replay_notifications if dead.notification else replay_events
            moved = sum(one.moved for one in await replay(connection, [row.id])) if dead.is_dead else 0
        if moved:
            await audit.record(connection, act.entry(do, f"{kind} {row.id}", count=moved))
    return {"discarded" if do == "discard" else "replayed": moved}


async def _edit(settings: Settings, act: Act, dead: Dead, content: Content) -> bool:
    """Was it changed, and sent on its way? Raises NotFit."""
    payload, was = check(content), stored(dead)
    changed = payload != json.loads(dead.payload_json) or content.type != was.type
    told = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    async with transaction(settings) as connection:
        before: Before | None
        if dead.notification:
            target = f"notification {dead.notification.id}"
            before = await edit_notification(
                connection, dead.notification.id, content.type, told, content.address, content=changed
            )
        else:
            target = f"event {dead.event.id}"
            before = await edit_event(connection, dead.event.id, content.type, told)
        if before is None:
            return False
        kept = {"type": before.type, "payload": json.loads(before.payload_json), "address": before.address}
        await audit.record(connection, act.entry("edit and replay", target, count=1, before=kept))
    return True


async def _do_events(settings: Settings, act: Act, ids: list[int], do: str) -> dict[str, int]:
    async with transaction(settings) as connection:
        if do == "discard":
            moved = await discard_events(connection, ids, act.why)
        else:
            moved = [one.id for one in await replay_events(connection, ids) if one.moved]
        await audit.record(connection, act.entry(f"{do} events", f"{len(ids)} chosen", count=len(moved), ids=moved))
    return {"discarded" if do == "discard" else "replayed": len(moved)}


def _answer(told: dict[str, int] | Away) -> Response:
    if isinstance(told, Away):
        return respond(unchanged(f"{told.sentence} Look at the page again before you repeat it."), 503)
    return RedirectResponse(links.dead_letters(**told), 303)
