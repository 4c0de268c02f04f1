"""From a page's record to a response: every value escaped, every response under a strict content policy."""

from typing import TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web import links
from web.access import access
from web.audit_page import AuditPage
from web.confirm import Confirm, JobPage, JobsPage
from web.consistency import Consistency
from web.dead_edit import DeadEdit
from web.dead_letters import DeadLetters
from web.engine import EnginePage
from web.failures import Failures
from web.faults import FaultPanel
from web.listing import ListPage
from web.mailbox import Mailbox
from web.overview import Overview
from web.pages import Message as MessagePage
from web.people_page import PeoplePage
from web.retries import Retries
from web.sign_in_page import SignInPage
from web.story import Story
from web.streams import StreamPage, Streams
from web.user import UserPage

Page: TypeAlias = (
    Overview
    | Streams
    | StreamPage
    | ListPage
    | Retries
    | Failures
    | DeadLetters
    | Consistency
    | UserPage
    | Story
    | AuditPage
    | MessagePage
    | Mailbox
    | FaultPanel
    | Confirm
    | PeoplePage
    | DeadEdit
    | JobPage
    | JobsPage
    | SignInPage
    | EnginePage
)

TEMPLATES: dict[type, str] = {
    Overview: "overview.html",
    ListPage: "notifications.html",
    Confirm: "confirm.html",
    JobPage: "job.html",
    JobsPage: "jobs.html",
    Streams: "streams.html",
    StreamPage: "stream.html",
    Retries: "retries.html",
    Failures: "failures.html",
    DeadLetters: "dead_letters.html",
    DeadEdit: "dead_edit.html",
    Consistency: "consistency.html",
    UserPage: "user.html",
    PeoplePage: "people.html",
    Story: "story.html",
    AuditPage: "audit.html",
    SignInPage: "sign_in.html",
    EnginePage: "engine.html",
    MessagePage: "message.html",
    Mailbox: "mailbox.html",
    FaultPanel: "faults.html",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer a form of ours would come with `Origin: null`
    "Cross-Origin-Opener-Policy": "same-origin",
}

_environment = Environment(
    loader=PackageLoader("web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_environment.globals.update(
    base=links.BASE,
    notifications=links.NOTIFICATIONS,
    search=links.SEARCH,
    static=links.STATIC,
    live=links.LIVE,
    rates=links.RATES,
    pages=links.PAGES,
    sign_out=links.SIGN_OUT,
    engine=links.ENGINE,
    access=access,
)
_environment.globals.update(mailbox=links.MAILBOX, fault_panel=links.FAULTS)


def html(page: Page) -> str:
    """The whole document."""
    return _environment.get_template(TEMPLATES[type(page)]).render(page=page)


def fragment(template: str, part: object) -> str:
    """A part of a page."""
    return _environment.get_template(template).render(part=part)


def respond(page: Page, status: int = 200) -> Response:
    """The page, never to be cached."""
    body = html(page).encode("utf-8", "replace")
    return Response(body, status, {"Cache-Control": "no-store"}, "text/html; charset=utf-8")


class SecureHeaders:
    """Puts HEADERS on every response of the app inside, error pages and files included."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, with_headers)
