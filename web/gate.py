"""The first thing a request meets: who asks? Sets `access()` for all behind it, and keeps the session's cookie."""

import secrets
import time
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.settings import Settings
from web import links
from web.access import Access, Role, accessed_by
from web.session import Lifetime, Session, Signer, alive, new_session, seen

LOCAL = "local"  # the name of whoever asks a dashboard that is open to this machine alone


class Gate:
    """On loopback, without a password: everybody is the operator `local`, each browser with a session of its own."""

    def __init__(self, app: ASGIApp, settings: Settings, now: Callable[[], float] = time.time) -> None:
        self._app, self._settings, self._now = app, settings, now
        self._signer = Signer(settings.dashboard_secret or secrets.token_urlsafe(32))
        self._lifetime = Lifetime(idle_s=3600, whole_s=12 * 3600)
        self._cookie = f"tidings_{settings.dashboard_port}"  # a browser sends a cookie to every port of a host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(links.BASE):
            await self._app(scope, receive, send)
            return
        held = self._held(scope)
        session = new_session(LOCAL, Role.OPERATOR, self._now()) if held is None else seen(held, self._now())
        keep = send if session is held else self._keeping(scope, send, session)
        with accessed_by(Access(session.name, session.role, session.token, self._settings.dashboard_read_only)):
            await self._app(scope, receive, keep)

    def _held(self, scope: Scope) -> Session | None:
        """The session that this browser has; None: none, or it is over."""
        cookie = HTTPConnection(scope).cookies.get(self._cookie, "")
        session = self._signer.session(cookie)
        return session if session is not None and alive(session, self._lifetime, self._now()) else None

    def _keeping(self, scope: Scope, send: Send, session: Session) -> Send:
        """`send` that hands the cookie out with the response."""

        async def keeping(message: Message) -> None:
            if message["type"] == "http.response.start":
                response = Response()
                response.set_cookie(
                    self._cookie,
                    self._signer.cookie(session),
                    path=links.BASE,
                    secure=scope["scheme"] == "https",
                    httponly=True,
                    samesite="lax",
                )
                MutableHeaders(scope=message).append("set-cookie", response.headers["set-cookie"])
            await send(message)

        return keeping
