"""What a browser holds between two requests: a signed cookie.

Pure, but for chance; the clock comes in as `now_s`, seconds since 1970.
"""

import hashlib
import secrets
from dataclasses import dataclass, replace

from itsdangerous import BadData, URLSafeSerializer

from web.access import Role

RENEW_AFTER_S = 60  # a cookie is written again at most so often
COOKIE_MAX = 2_000  # characters


@dataclass(frozen=True, slots=True)
class Session:
    """`token` proves that a form is ours. `started_s` and `seen_s` say when the session and its last request were."""

    id: str
    name: str
    role: Role
    token: str
    started_s: int
    seen_s: int
    signed_in: bool  # by a password here: it holds without anybody else's word


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A session ends `idle_s` after its last request, and `whole_s` after its start."""

    idle_s: int
    whole_s: int


def new_session(name: str, role: Role, now_s: float, signed_in: bool = False) -> Session:
    """Nothing of a session before it is kept: neither its id nor its token."""
    return Session(secrets.token_urlsafe(16), name, role, secrets.token_urlsafe(32), int(now_s), int(now_s), signed_in)


def alive(session: Session, lifetime: Lifetime, now_s: float) -> bool:
    return now_s - session.seen_s < lifetime.idle_s and now_s - session.started_s < lifetime.whole_s


def seen(session: Session, now_s: float) -> Session:
    """The session after one more request; the very same one within RENEW_AFTER_S, so that no cookie need be written."""
    return session if now_s - session.seen_s < RENEW_AFTER_S else replace(session, seen_s=int(now_s))


class Signer:
    """Session <-> cookie. The key is made of `secrets_of`, so that whoever changes a password ends the sessions it opened."""

    def __init__(self, *secrets_of: str) -> None:
        key = hashlib.sha256("\0".join(secrets_of).encode()).digest()
        self._serializer = URLSafeSerializer(key, salt="tidings session", signer_kwargs={"digest_method": hashlib.sha256})

    def cookie(self, session: Session) -> str:
        """Always ASCII, whatever the name holds."""
        s = session
        return str(self._serializer.dumps([s.id, s.name, s.role, s.token, s.started_s, s.seen_s, s.signed_in]))

    def session(self, cookie: str) -> Session | None:
        """None: not ours, changed, or signed with another key."""
        try:
            session_id, name, role, token, started_s, seen_s, signed_in = self._serializer.loads(cookie[:COOKIE_MAX])
            return Session(session_id, name, Role(role), token, started_s, seen_s, signed_in)
        except (BadData, ValueError, TypeError):
            return None
