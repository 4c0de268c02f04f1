"""The sessions of the dashboard: which one a browser has, the cookie that carries it, and those that were signed out."""

import secrets
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response

from app.settings import Settings
from web import links
from web.session import Lifetime, Session, Signer, alive

ENDED_MAX = 10_000


class Sessions:
    """Cookies hold them; only the ids of those that were signed out are kept here, until they would have ended anyway."""

    def __init__(self, settings: Settings, now: Callable[[], float] = time.time) -> None:
        secret = settings.dashboard_secret or secrets.token_urlsafe(32)
        # Whoever changes a password ends the sessions that it opened.
        self._signer = Signer(secret, settings.dashboard_password, settings.dashboard_viewer_password)
        self._lifetime = Lifetime(round(60 * settings.dashboard_session_idle_min), round(3600 * settings.dashboard_session_h))
        self._name = f"tidings_{settings.dashboard_port}"  # a browser sends a cookie to every port of a host
        self._ended: dict[str, float] = {}
        self.now = now

    def held(self, connection: HTTPConnection) -> Session | None:
        """The session that this browser has; None: none, or it is over."""
        session = self._signer.session(connection.cookies.get(self._name, ""))
        return session if session is not None and self.holds(session) else None

    def holds(self, session: Session) -> bool:
        """Is it not over yet?"""
        return session.id not in self._ended and alive(session, self._lifetime, self.now())

    def end(self, session: Session) -> None:
        """Its cookie counts no more, wherever it was copied to."""
        now_s = self.now()
        if len(self._ended) >= ENDED_MAX:
            self._ended = {one: until_s for one, until_s in self._ended.items() if until_s > now_s}
        self._ended[session.id] = session.started_s + self._lifetime.whole_s

    def hand_out(self, headers: MutableHeaders, session: Session, secure: bool) -> None:
        """Puts the cookie on a response, whose headers these are."""
        response = Response()
        response.set_cookie(
            self._name, self._signer.cookie(session), path=links.BASE, secure=secure, httponly=True, samesite="lax"
        )
        self._append(headers, response.headers)

    def take_back(self, headers: MutableHeaders) -> None:
        """Tells the browser to forget the cookie."""
        response = Response()
        response.delete_cookie(self._name, path=links.BASE, httponly=True, samesite="lax")
        self._append(headers, response.headers)

    @staticmethod
    def _append(headers: MutableHeaders, made: Headers) -> None:
        headers.append("set-cookie", made["set-cookie"])
