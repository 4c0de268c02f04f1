"""The guard of everything the dashboard changes. How to add an action:

    def routes(settings: Settings) -> list[Route]:
        async def discard(act: Act) -> Response:
            async with transaction(settings) as connection:             # PostgreSQL: the action and its record, or neither
                moved = await some_store_function(connection, ...)
                await audit.record(connection, act.entry("discard", "notification 7", count=len(moved), reason="rejected"))
            return RedirectResponse(links.FAILURES, 303)                # the page that is shown next says what happened
        return [post(links.DISCARD, discard)]

- `post` makes the route. The handler is called only where the request may change something: 405 in read-only mode, 403 for a
  viewer, 403 where the request may be another site's doing or its token is not the session's, 413 for a form over `body_max`.
  Nothing else may register a POST (but sign-in and sign-out).
- `act.form` has the last value of each field, `act.all(name)` all of them (the boxes of a selection). It is other people's text.
- The template: `{% from "macros.html" import proof, why_field %}`, then in the form `{{ proof() }}` (the hidden token) and
  `{{ why_field() }}` (the text that becomes `act.why`, the reason in the log), all of it inside `{% if access().may_act %}`.
- `act.entry(action, target, count, **detail)` is the line for the log: who and why are filled in. `action` is a verb of few words
  ("replay", "cancel", "edit preferences"), `target` what it was done to, `count` how many rows moved, `detail` small JSON.
- Where the action is not PostgreSQL's (a key in Redis), record first: `await record(settings, act.entry(...))`, then act.
- PostgreSQL may be away: call through `web.away.ask`.
- By script (fetch): send the form urlencoded, with `token`.
"""

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from app.resources import open_resources
from app.settings import Settings
from app.store import audit
from app.store.batch import clean
from web.access import Access, Role, access
from web.pages import unchanged
from web.render import respond

if TYPE_CHECKING:
    from app.store.batch import Connection

BODY_MAX = 65_536
FIELDS_MAX = 2_000
WHY_MAX = 500  # characters
OWN_SITES = {"same-origin", "none"}  # "none": typed, or a reload; a page of another port is "same-site"
THEIRS = "This request came from another site, so nothing was changed."
TOO_OLD = "The page was too old, or cookies are off, so nothing was changed. Go back, load the page again and repeat."


class Refused(Exception):
    """The request changes nothing. The message is a sentence for the page."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True)
class Act:
    """A request that may change something: who asks, what they filled in, and why they do it."""

    request: Request
    who: Access
    fields: tuple[tuple[str, str], ...]

    @property
    def form(self) -> dict[str, str]:
        """The last value of each field."""
        return dict(self.fields)

    def all(self, name: str) -> list[str]:
        """Every value of one field, in order."""
        return [value for field, value in self.fields if field == name]

    @property
    def why(self) -> str:
        """What the person wrote as the reason; may be empty."""
        return (clean(self.form.get("why", "")) or "").strip()[:WHY_MAX]

    def entry(self, action: str, target: str = "", count: int | None = None, **detail: object) -> audit.Entry:
        """The line for the log of actions."""
        return audit.Entry(self.who.name, self.who.role, action, target, count, self.why, detail or None)


Handler = Callable[[Act], Awaitable[Response]]


def post(path: str, handler: Handler, body_max: int = BODY_MAX) -> Route:
    """A route that changes something, behind the guard."""

    async def guarded(request: Request) -> Response:
        try:
            act = await admitted(request, body_max)
        except Refused as why:
            headers = {"allow": ""} if why.status == 405 else {}  # RFC 9110, 10.2.1: switched off by configuration
            answer = respond(unchanged(str(why)), why.status)
            answer.headers.update(headers)
            return answer
        return await handler(act)

    return Route(path, guarded, methods=["POST"], name=path)


async def admitted(request: Request, body_max: int = BODY_MAX) -> Act:
    """The act that this request asks for. Raises Refused."""
    who = access()
    if who.read_only:
        raise Refused(405, "The dashboard is in read-only mode (DASHBOARD_READ_ONLY): nothing can be changed here.")
    if who.role is not Role.OPERATOR:
        raise Refused(403, "A viewer sees everything and changes nothing. Sign in as operator.")
    check_site(request.headers)
    act = Act(request, who, await read_form(request, body_max))
    check_token(who.token, act.form.get("token", ""))
    return act


def check_site(headers: Mapping[str, str]) -> None:
    """Pure. Raises Refused where the browser says that another site asks: by Sec-Fetch-Site, else by Origin."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    foreign = origin is not None and origin.partition("://")[2] != headers.get("host")
    if foreign if site is None else site not in OWN_SITES:
        raise Refused(403, THEIRS)


def check_token(held: str, sent: str) -> None:
    """Pure. Raises Refused where the form was not handed out to this session."""
    if not held or not hmac.compare_digest(held.encode(), sent.encode("utf-8", "replace")):
        raise Refused(403, TOO_OLD)


async def read_form(request: Request, body_max: int) -> tuple[tuple[str, str], ...]:
    """The fields of an urlencoded form; none where the body is something else. Raises Refused where it is too big."""
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > body_max:
                raise Refused(413, f"The form is bigger than {body_max:,} bytes, so nothing was changed.")
    except ClientDisconnect:
        raise Refused(400, "The form did not arrive as a whole, so nothing was changed.") from None
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return ()
    try:
        return tuple(parse_qsl(body.decode("latin-1"), keep_blank_values=True, max_num_fields=FIELDS_MAX))
    except ValueError:
        raise Refused(413, f"The form has more than {FIELDS_MAX:,} fields, so nothing was changed.") from None


@asynccontextmanager
async def transaction(settings: Settings) -> AsyncIterator["Connection"]:
    """A connection of PostgreSQL in a transaction: committed at the end, undone by an exception. Raises away.FAILURES."""
    async with (
        open_resources(settings, "web action", pool_size=1) as resources,  # actions are rare: no pool is held for them
        resources.pool.acquire() as connection,
        connection.transaction(),
    ):
        yield connection


async def record(settings: Settings, entry: audit.Entry) -> None:
    """Keeps a line of the log at once: before an action that is not PostgreSQL's. Raises away.FAILURES."""
    async with transaction(settings) as connection:
        await audit.record(connection, entry)
