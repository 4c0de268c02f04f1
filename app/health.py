"""`tidings health PART`: does a part on this machine do its work? For containers, where its exit status is the answer."""

import asyncio
import http.client
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from redis.exceptions import RedisError

from app import addresses
from app.resources import open_redis
from app.settings import Settings
from app.stream_stats import StreamStats, stream_stats

PARTS = ("api", "consumers", "web")


class Unhealthy(Exception):
    """A part does not do its work. The message is one line that says how one knows."""


def check(settings: Settings, part: str) -> str:
    """What is well, in a sentence. Raises Unhealthy.

    The API is ready to accept, the dashboard answers, a consumer of this host asked for work within the reclaim window.
    """
    if part == "api":
        return _answers(addresses.api_url(settings) + "/readyz", below=300)
    if part == "web":
        return _answers(addresses.http_url(settings.dashboard_host, settings.dashboard_port) + "/", below=500)
    if part == "consumers":
        return asyncio.run(_consumers(settings))
    raise Unhealthy(f"no part {part!r}: name one of {', '.join(PARTS)}")


def status_of(url: str) -> int | None:
    """What a GET is answered with; None: no answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2)  # no proxy of the environment
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def asked_s_ago(streams: Sequence[StreamStats], host: str) -> float | None:
    """Seconds since a consumer of `host` last asked for work on any stream; None: none is known. Names are HOST-PID-RANDOM."""
    return min((c.idle_s for s in streams for c in s.consumers if c.name.rsplit("-", 2)[0] == host), default=None)


def _answers(url: str, below: int) -> str:
    status = status_of(url)
    if status is None or status >= below:
        raise Unhealthy(f"{url} gave {'no answer' if status is None else status}")
    return f"{url} answered {status}"


async def _consumers(settings: Settings) -> str:
    host, redis = socket.gethostname(), open_redis(settings)
    try:
        asked_s = asked_s_ago(await stream_stats(redis), host)
    except (RedisError, OSError, TimeoutError) as error:
        raise Unhealthy(f"Redis (setting REDIS_URL) cannot be asked: {error}") from None
    finally:
        await redis.aclose()
    if asked_s is None or asked_s > settings.reclaim_after_s:
        since = "" if asked_s is None else f" for {asked_s:.0f} s"
        raise Unhealthy(f"no consumer on {host} asked for work{since}")
    return f"a consumer on {host} asked for work {asked_s:.1f} s ago"
