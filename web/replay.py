"""The one thing the dashboard changes: it replays a row. A POST is taken only from a page of our own, by two proofs.

First proof: the browser says where the request comes from (Origin, Sec-Fetch-Site). Second: the hidden field holds what the
SameSite=Strict cookie holds, which no other site can read or set a form to.
"""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from app.resources import open_resources
from app.settings import Settings
from app.store.operate import replay_events, replay_notifications
from web import links

COOKIE = "tidings_form"
TOKEN_CHARS = 43  # 32 random bytes
BODY_MAX = 16_384
OWN_SITES = {"same-origin", "none"}  # "none": typed, or a reload; a page of another port is "same-site"
KINDS = ("notification", "event")


class NotOurs(Exception):
    """The request does not come from a page of this dashboard. The message is a sentence for the page."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What was asked for: the kind of row, and its id."""

    kind: str
    row_id: int


def token_of(request: Request) -> str:
    """The token this browser has, or a new one."""
    held = request.cookies.get(COOKIE, "")
    return held if len(held) == TOKEN_CHARS and held.isascii() else secrets.token_urlsafe(32)


def hand_out(response: Response, request: Request, token: str) -> Response:
    """The response, with the cookie where the browser does not have it."""
    if request.cookies.get(COOKIE) != token:
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, token, path=links.BASE, secure=secure, httponly=True, samesite="strict")
    return response


def check_ours(headers: Mapping[str, str], cookie: str, field: str) -> None:
    """Pure. Raises NotOurs where the request may be another site's doing."""
    if headers.get("sec-fetch-site", "none") not in OWN_SITES:
        raise NotOurs("This request came from another site, so nothing was changed.")
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        raise NotOurs("This request came from another site, so nothing was changed.")
    if not cookie or not hmac.compare_digest(_bytes(cookie), _bytes(field)):
        raise NotOurs(
            "The page was too old, or cookies are off, so nothing was changed. Go back, load the page again and repeat."
        )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def notice(asked: Mapping[str, str]) -> str:
    """Pure: the line that a page shows after the redirect; empty where there was none."""
    for outcome, sentence in _NOTICES.items():
        kind, _, number = asked.get(outcome, "").partition("-")
        if kind in KINDS and number.isascii() and number.isdigit() and len(number) < 20:
            return sentence.format(f"{kind} {number}")
    return ""


_NOTICES = {
    "replayed": "Replayed: {} is on its way again.",
    "not-replayed": "Nothing was replayed: {} does not wait for it any more. A second click, or somebody was faster.",
    "no-such": "Nothing was replayed: there is no {}.",
}


async def replay(settings: Settings, wanted: Replay) -> dict[str, str]:
    """Put one row back to be done; the query that tells the next page what happened. Raises away.FAILURES.

    Guarded in the statement: of two clicks at once, one moves it.
    """
    move = replay_notifications if wanted.kind == "notification" else replay_events
    async with open_resources(settings, "web replay", pool_size=1) as resources:  # rare: no pool is held for it
        answers = await move(resources.pool, [wanted.row_id])
    outcome = "no-such" if not answers else "replayed" if answers[0].moved else "not-replayed"
    return {outcome: f"{wanted.kind}-{wanted.row_id}"}
