"""Sign-in by a name and a password, and sign-out. The name is for the log of actions; the password decides the role."""

from math import ceil

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.settings import Settings
from web import links
from web.access import Role, access
from web.actions import Refused, check_site, check_token, read_form
from web.gate import OWN_SESSION
from web.pages import unchanged
from web.render import respond
from web.session import Session, new_session
from web.sessions import Sessions
from web.sign_in_page import sign_in_page
from web.throttle import Throttle
from web.ways_in import by_password, clean_name, role_by_password

log = structlog.get_logger()

FORM_MAX = 8_192  # bytes
WRONG = "That is not a password of this dashboard."
NO_NAME = "Your name is needed: what you do is kept under it in the audit log."


def routes(settings: Settings, sessions: Sessions) -> list[Route]:
    throttle = Throttle()

    async def show(request: Request) -> Response:
        back = links.own_path(request.query_params.get("next", ""))
        if access().name or not by_password(settings):
            return RedirectResponse(back, 303)
        return respond(sign_in_page(back))

    async def sign_in(request: Request) -> Response:
        try:
            check_site(request.headers)
            form = dict(await read_form(request, FORM_MAX))
        except Refused as why:
            return respond(unchanged(str(why)), why.status)
        return _answer(request, form)

    def _answer(request: Request, form: dict[str, str]) -> Response:
        back, name = links.own_path(form.get("next", "")), clean_name(form.get("name", ""))
        address, now_s = request.client.host if request.client else "", sessions.now()
        wait_s = throttle.wait_s(address, now_s)
        if wait_s > 0:
            answer = respond(sign_in_page(back, name, f"Too many wrong passwords: wait {ceil(wait_s / 60)} min."), 429)
            answer.headers["retry-after"] = str(ceil(wait_s))
            return answer
        if not name:
            return respond(sign_in_page(back, problem=NO_NAME), 422)
        role = role_by_password(settings, form.get("password", ""))
        if role is None:
            throttle.wrong(address, now_s)
            log.warning("sign-in refused", address=address)  # not the name: it may be a password in the wrong field
            return respond(sign_in_page(back, name, WRONG), 403)
        if role is Role.OPERATOR:  # a viewer's own password must not buy further guesses at the operators'
            throttle.right(address)
        log.info("signed in", name=name, role=role.value, address=address)
        return _welcome(request, back, new_session(name, role, now_s, signed_in=True))

    def _welcome(request: Request, back: str, session: Session) -> Response:
        """The session that was is over: whoever planted it has nothing."""
        if (before := request.scope[OWN_SESSION]) is not None:
            sessions.end(before)
        answer = RedirectResponse(back, 303, {"cache-control": "no-store"})
        sessions.hand_out(answer.headers, session, request.url.scheme == "https")
        return answer

    async def sign_out(request: Request) -> Response:
        try:
            check_site(request.headers)
            check_token(access().token, dict(await read_form(request, FORM_MAX)).get("token", ""))
        except Refused as why:
            return respond(unchanged(str(why)), why.status)
        sessions.end(request.scope[OWN_SESSION])
        answer = RedirectResponse(links.SIGN_IN, 303, {"cache-control": "no-store"})
        sessions.take_back(answer.headers)
        return answer

    return [
        Route(links.SIGN_IN, show),
        Route(links.SIGN_IN, sign_in, methods=["POST"], name="sign in"),
        Route(links.SIGN_OUT, sign_out, methods=["POST"]),
    ]
