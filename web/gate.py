"""The first thing a request meets: who asks? Sets `access()` for all behind it, keeps the session's cookie, turns others away."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.settings import Settings
from web import links
from web.access import NOBODY, Access, Role, accessed_by
from web.pages import not_signed_in
from web.proxied import FROM_PROXY
from web.render import respond
from web.session import Session, new_session, seen
from web.sessions import Sessions
from web.ways_in import by_password, by_proxy, without_sign_in

LOCAL = "local"  # the name of whoever asks a dashboard that is open to this machine alone
OWN_SESSION = "tidings.session"  # in the scope: the session of who asks


class Gate:
    """Lets in who has a session, or needs none; everybody sees the sign-in page and the files beside the pages."""

    def __init__(self, app: ASGIApp, settings: Settings, sessions: Sessions) -> None:
        self._app, self._settings, self._sessions = app, settings, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(links.BASE):
            await self._app(scope, receive, send)
            return
        held = self._sessions.held(HTTPConnection(scope))
        session = self._session(scope, held)
        if session is None and scope["path"] != links.SIGN_IN:
            with accessed_by(NOBODY):
                await self._turned_away(Request(scope))(scope, receive, send)
            return
        scope[OWN_SESSION] = session
        keeps = session is not None and session is not held
        with accessed_by(NOBODY if session is None else self._access(session)):
            if session is not None:
                send = self._ending(self._keeping(scope, send, session) if keeps else send, session)
            await self._app(scope, receive, send)

    def _session(self, scope: Scope, held: Session | None) -> Session | None:
        """Of who asks: the one they hold, or a new one where they need not sign in here. None: they have to."""
        told = self._told(scope)
        if told is not None and (held is None or (held.name, held.role) != told):
            return new_session(*told, self._sessions.now())
        if held is None or not (told or held.signed_in):
            return None
        return seen(held, self._sessions.now()) if _is_a_person(Headers(scope=scope)) else held

    def _told(self, scope: Scope) -> tuple[str, Role] | None:
        """Who asks, where that is known without a sign-in here."""
        if without_sign_in(self._settings):
            return LOCAL, Role.OPERATOR
        return by_proxy(self._settings, Headers(scope=scope)) if scope[FROM_PROXY] else None

    def _access(self, session: Session) -> Access:
        return Access(session.name, session.role, session.token, self._settings.dashboard_read_only, session.signed_in)

    def _turned_away(self, request: Request) -> Response:
        """To the sign-in page and back, where a person follows a link; 401 for what scripts ask for, and for a form."""
        if not by_password(self._settings):
            return respond(not_signed_in("Come in through the proxy that signs people in: this request did not."), 403)
        if request.method in ("GET", "HEAD") and request.headers.get("sec-fetch-mode", "navigate") == "navigate":
            path, query = request.url.path, request.url.query
            return RedirectResponse(links.sign_in(f"{path}?{query}" if query else path), 303, {"cache-control": "no-store"})
        answer = respond(not_signed_in("The session is over. Nothing was changed.", links.SIGN_IN), 401)
        answer.headers["www-authenticate"] = "Cookie"
        return answer

    def _ending(self, send: Send, session: Session) -> Send:
        """`send` for an answer that goes on for hours (server-sent events): it ends with its session; the page asks again."""
        over = False

        async def ending(message: Message) -> None:
            nonlocal over
            if over:
                return
            over = bool(message.get("more_body")) and not self._sessions.holds(session)
            await send({"type": "http.response.body", "body": b"", "more_body": False} if over else message)

        return ending

    def _keeping(self, scope: Scope, send: Send, session: Session) -> Send:
        """`send` that hands the cookie out with the response, unless that has one of its own."""

        async def keeping(message: Message) -> None:
            if message["type"] == "http.response.start" and "set-cookie" not in Headers(raw=message["headers"]):
                self._sessions.hand_out(MutableHeaders(scope=message), session, scope["scheme"] == "https")
            await send(message)

        return keeping


def _is_a_person(headers: Headers) -> bool:
    """Not a page that refreshes itself: a screen that nobody touches does not keep its session."""
    return headers.get("sec-fetch-mode", "navigate") == "navigate"
