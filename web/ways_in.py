"""How people may come in: by a password, by the header of a proxy that has signed them in, or, on loopback alone, just so."""

import hashlib
import hmac
import ipaddress
import unicodedata
from collections.abc import Mapping

from app.settings import Settings
from web.access import Role

NAME_MAX = 80  # characters
LOOPBACK_NAMES = ["localhost", "127.0.0.1", "::1", "[::1]"]


class OpenToAll(Exception):
    """The dashboard would be open to whoever reaches its address. The message is one line that says what to set."""


def refuse_if_open(settings: Settings) -> None:
    """Raises OpenToAll where others than this machine could come in without a sign-in."""
    if on_loopback(settings.dashboard_host) or by_password(settings) or settings.dashboard_proxy_header:
        return
    raise OpenToAll(
        f"DASHBOARD_HOST is {settings.dashboard_host!r}, which others can reach: set DASHBOARD_PASSWORD "
        "(or DASHBOARD_PROXY_HEADER, where a proxy signs people in), or leave DASHBOARD_HOST at 127.0.0.1"
    )


def on_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def by_password(settings: Settings) -> bool:
    return bool(settings.dashboard_password or settings.dashboard_viewer_password)


def without_sign_in(settings: Settings) -> bool:
    """Is everybody on this machine an operator?"""
    return not by_password(settings) and not settings.dashboard_proxy_header


def allowed_hosts(settings: Settings) -> list[str]:
    """The names by which it may be called. A page elsewhere whose name was made to point here (DNS rebinding) gets nothing.

    With a password such a page has no session; a header it could send from this very machine, and where nothing is asked, all.
    """
    if settings.dashboard_hosts:
        return [*LOOPBACK_NAMES, *settings.dashboard_hosts]
    exposed = without_sign_in(settings) or settings.dashboard_proxy_header
    return LOOPBACK_NAMES if exposed and on_loopback(settings.dashboard_host) else ["*"]


def role_by_password(settings: Settings, password: str) -> Role | None:
    """Whose password it is. Takes as long for a wrong one, however much of it is right."""
    right = {Role.OPERATOR: settings.dashboard_password, Role.VIEWER: settings.dashboard_viewer_password}
    matching = [role for role, wanted in right.items() if _same(wanted, password) and wanted]
    return matching[0] if matching else None


def by_proxy(settings: Settings, headers: Mapping[str, str]) -> tuple[str, Role] | None:
    """Whom the proxy has signed in; the caller sees to it that the request comes from the proxy. None: nobody."""
    name = clean_name(headers.get(settings.dashboard_proxy_header, "")) if settings.dashboard_proxy_header else ""
    if not name:
        return None
    told = headers.get(settings.dashboard_proxy_role_header, "") if settings.dashboard_proxy_role_header else None
    if told is None:
        return name, Role(settings.dashboard_proxy_role)
    # A role that is missing or unknown is the least one.
    return name, Role.OPERATOR if Role.OPERATOR in [part.strip().lower() for part in told.split(",")] else Role.VIEWER


def clean_name(name: str) -> str:
    """Fit for the log of actions: one line, printable, bounded; "" where nothing is left."""
    printable = (c for c in name if not unicodedata.category(c).startswith("C"))
    return " ".join("".join(printable).split())[:NAME_MAX]


def _same(wanted: str, given: str) -> bool:
    """In constant time, lengths included."""
    digests = [hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (wanted, given)]
    return hmac.compare_digest(*digests)
