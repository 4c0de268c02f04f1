"""The pages that move: overview and streams, the charts' values, and the stream of server-sent events that keeps pages fresh.

A message is encoded once per look and topic: `page` says how it is, and has the parts of the page that changed; `tick` says that
nothing did.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import orjson
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from sse_starlette import EventSourceResponse
from sse_starlette.sse import SendTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.settings import Settings
from web import links
from web.away import REDIS, Away, ask
from web.chart_cache import ChartCache
from web.charts import all_json
from web.collector import Collector, Encode
from web.overview import judged, lately_part, now_part, overview
from web.rate_queries import SPANS, Span
from web.render import fragment, respond
from web.snapshot import Snapshot
from web.stream_queries import read_stream
from web.streams import known_stream, stream_page, streams, streams_part

SEND_WITHIN_S = 10.0  # who takes nothing for so long is let go; the page connects again by itself
PING_S = 15
ENTRY_ID = re.compile(r"\d{1,20}-\d{1,20}")  # both halves are 64 bit numbers


def encoders(settings: Settings) -> dict[str, Encode]:
    """What each topic's listeners are told."""

    def parts_of(topic: str, seen: Snapshot) -> dict[str, str]:
        if topic == "overview":
            now, lately = now_part(settings, seen), lately_part(settings, seen.lately)
            return {"now": fragment("overview_now.html", part=now), "lately": fragment("overview_lately.html", part=lately)}
        if topic == "streams":
            return {"streams": fragment("streams_part.html", part=streams_part(settings, seen))}
        return {}

    def encoder(topic: str) -> Encode:
        return lambda seen: message(settings, seen, parts_of(topic, seen))

    return {topic: encoder(topic) for topic in ("health", "overview", "streams")}


def message(settings: Settings, seen: Snapshot, parts: Mapping[str, str]) -> bytes:
    """One event as it goes over the wire."""
    how, _ = judged(settings, seen)
    told = {"level": how.level.name.lower(), "headline": how.headline, "parts": parts}
    return b"event: page\ndata: " + orjson.dumps(told) + b"\n\n"


def new_collector(settings: Settings, engine: AsyncEngine, redis: Redis) -> Collector:
    return Collector(engine, redis, encoders(settings))


def routes(settings: Settings, engine: AsyncEngine, redis: Redis, collector: Collector) -> list[Route]:
    pages = LivePages(settings, redis, collector, ChartCache(engine))
    return [
        Route(links.BASE, pages.overview),
        Route(links.STREAMS, pages.streams),
        Route(links.STREAMS + "/{name}", pages.stream),
        Route(links.RATES, pages.rates),
        Route(links.LIVE, pages.live),
    ]


@dataclass(frozen=True, slots=True)
class LivePages:
    settings: Settings
    redis: Redis
    collector: Collector
    charts: ChartCache

    async def overview(self, request: Request) -> Response:
        span = span_of(request.query_params.get("range", ""))
        seen, drawn = await self.collector.current(), await self.charts.of(span)
        page = overview(self.settings, seen, span, drawn)
        return respond(page, 503 if isinstance(seen.now.owed, Away) else 200)

    async def streams(self, _request: Request) -> Response:
        seen = await self.collector.current()
        return respond(streams(self.settings, seen), 503 if isinstance(seen.now.streams, Away) else 200)

    async def stream(self, request: Request) -> Response:
        key = known_stream(request.path_params["name"])
        if key is None:
            raise HTTPException(404)
        newest_first, after = request.query_params.get("order") == "newest", entry_id(request.query_params.get("after", ""))
        seen = await self.collector.current()
        rows = await ask(REDIS, read_stream(self.redis, key, after, newest_first))
        return respond(stream_page(self.settings, seen, rows, key, newest_first), 503 if isinstance(rows, Away) else 200)

    async def rates(self, request: Request) -> Response:
        """The charts' values, for pages that have been open for a while."""
        drawn = await self.charts.of(span_of(request.query_params.get("range", "")))
        body = b"{}" if isinstance(drawn, Away) else all_json(drawn)
        status = 503 if isinstance(drawn, Away) else 200
        return Response(body, status, {"Cache-Control": "no-store"}, "application/json")

    async def live(self, request: Request) -> Response:
        topic = request.query_params.get("topic", "health")
        if topic not in self.collector.topics:
            raise HTTPException(404)
        if self.collector.full:
            raise HTTPException(503, headers={"Retry-After": "30"})
        return Events(self._told(topic), ping=PING_S, send_timeout=SEND_WITHIN_S, cleanup_timeout=1.0)

    async def _told(self, topic: str) -> AsyncIterator[bytes]:
        yield b"retry: 2000\n\n"
        async for told in self.collector.listen(topic):
            yield told


class Events(EventSourceResponse):
    """Lets go who is too slow, or gone, without a word in the log."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(SendTimeoutError, OSError):
            await super().__call__(scope, receive, send)


def span_of(asked: str) -> Span:
    """The range with this name; the shortest where there is none."""
    return next((span for span in SPANS if span.name == asked), SPANS[0])


def entry_id(asked: str) -> str | None:
    """The id of a stream's entry, None where it cannot be one that others come after, or before."""
    if not ENTRY_ID.fullmatch(asked) or not asked.isascii():
        return None
    first, second = (int(part) for part in asked.split("-"))
    return asked if 0 < first < 2**63 and second < 2**63 else None
