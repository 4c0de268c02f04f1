"""What is configured, as a page may show it: every setting with its value, no secret. Pure.

Secret is what the settings do not show in their own repr: of an address the host is shown, of anything else that it is set.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from app.settings import SIMULATED, Settings

HIDDEN = "•••"
HARMLESS_QUERY = frozenset({"sslmode", "db", "protocol"})


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One setting, by its name in the environment. `default`: it is what it would be if nobody had set it."""

    name: str
    value: str
    default: bool


def configured(settings: Settings) -> tuple[SettingLine, ...]:
    """All settings, in their order."""
    return tuple(
        SettingLine(
            name.upper(), _shown(settings, name, getattr(settings, name), field.repr), getattr(settings, name) == field.default
        )
        for name, field in Settings.model_fields.items()
    )


def hidden_url(address: str) -> str:
    """The address without what lets one in: password, query, and the path of a webhook, which often is its secret."""
    try:
        url = urlsplit(address)
        host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or ""
        port = f":{url.port}" if url.port else ""
    except ValueError:
        return HIDDEN
    if not url.scheme:
        return HIDDEN
    return f"{url.scheme}://{_user(url)}{host}{port}{_path(url)}{_query(url)}"


def _user(url: SplitResult) -> str:
    if url.username is None and url.password is None:
        return ""
    if url.scheme in ("http", "https"):
        return f"{HIDDEN}@"
    return f"{url.username or ''}{f':{HIDDEN}' if url.password else ''}@"


def _path(url: SplitResult) -> str:
    return f"/{HIDDEN}" if url.scheme in ("http", "https") and url.path.strip("/") else url.path


def _query(url: SplitResult) -> str:
    told = parse_qsl(url.query, keep_blank_values=True)
    shown = "&".join(f"{name}={value if name in HARMLESS_QUERY else HIDDEN}" for name, value in told)
    return f"?{shown}" if shown else (f"?{HIDDEN}" if url.query else "")


def _shown(settings: Settings, name: str, value: Any, may_be_shown: bool) -> str:
    if name == "provider_timeout_s" and value is None:
        return f"{settings.provider_limit_s:g} (five twelfths of RECLAIM_AFTER_S)"
    if may_be_shown:
        return _text(value)
    if not value:
        return "not set"
    text = str(value)
    return text if text == SIMULATED else hidden_url(text) if "://" in text else f"set, {HIDDEN}"


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(_text(part) for part in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
