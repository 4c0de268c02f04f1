"""Where a part of Tidings is reached, and what to type there. Pure."""

import json
from datetime import datetime
from urllib.parse import urlsplit

from app.settings import Settings

DASHBOARD_PATH = "/admin/queues"
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 (recognised, not bound)


def http_url(host: str, port: int) -> str:
    """The address a client on this machine uses for a server bound to `host`."""
    host = WILDCARDS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def api_url(settings: Settings) -> str:
    return http_url(settings.api_host, settings.api_port)


def dashboard_url(settings: Settings) -> str:
    return http_url(settings.dashboard_host, settings.dashboard_port) + DASHBOARD_PATH


def redis_command(redis_url: str) -> str:
    """What to type to reach that Redis: redis-cli, or ours where the URL may hold a password (`?password=` too)."""
    url = urlsplit(redis_url)
    if url.password or url.query or url.scheme == "unix":
        return "tidings redis"
    if redis_url == f"redis://127.0.0.1:{url.port}":
        return f"redis-cli -p {url.port}"
    return f"redis-cli -u {redis_url}"


def sample_event(event_id: str, user_id: str, event_type: str, now: datetime) -> dict[str, object]:
    """The event of the examples, as JSON values. `now` has an offset."""
    return {
        "eventId": event_id,
        "eventType": event_type,
        "userId": user_id,
        "payload": {"orderAmount": 250, "items": ["Laptop", "Mouse"]},
        "timestamp": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
    }


def curl_command(api: str, event: dict[str, object]) -> str:
    """A line for the shell that posts the event (which holds no single quote)."""
    return f"curl -i {api}/api/events -H 'content-type: application/json' -d '{json.dumps(event)}'"
