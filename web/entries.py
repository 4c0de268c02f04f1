"""The raw entries of one event that are still on a stream: looked for near the time they were published. Read only, bounded."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.domain import Channel, EventStatus, Status
from app.streams import EVENTS, GROUP, channel_stream, no_group, row_field
from web.lookups import StoryRows

# An entry's id is Redis' time of the XADD, `published_at` PostgreSQL's of the transaction before it: two clocks, a little apart.
BEFORE, AFTER = timedelta(seconds=1.5), timedelta(seconds=6)
CHUNK, CHUNKS_MAX = 1_000, 4


class Wanted(NamedTuple):
    """A row that should have an entry."""

    stream: str
    row_id: int
    published_at: datetime


@dataclass(frozen=True, slots=True)
class Found:
    """An entry as it is. `consumer` None: nobody has read it yet. `idle_s`, `deliveries`: of the pending entry."""

    stream: str
    id: str
    fields: tuple[tuple[str, str], ...]
    consumer: str | None = None
    idle_s: float = 0.0
    deliveries: int = 0


def wanted_entries(rows: StoryRows) -> list[Wanted]:
    """Pure: the unfinished rows that are published. Those that are final or parked have no entry any more."""
    event = rows.event
    its = [Wanted(EVENTS, event.id, event.published_at)] if event.status == EventStatus.NEW and event.published_at else []
    open_ = [n for n in rows.notifications if n.channel in set(Channel) and not Status(n.status).final]
    return its + [Wanted(channel_stream(Channel(n.channel)), n.id, n.published_at) for n in open_ if n.published_at]


async def find_entries(redis: Redis, wanted: Sequence[Wanted]) -> list[Found]:
    """Those that are found. Raises redis.RedisError."""
    found = [await _find(redis, one) for one in wanted]
    return [entry for entry in found if entry is not None]


async def _find(redis: Redis, wanted: Wanted) -> Found | None:
    field, value = row_field(wanted.stream).encode(), str(wanted.row_id).encode()
    start, end = (str(_ms(wanted.published_at + by)) for by in (-BEFORE, AFTER))
    for _ in range(CHUNKS_MAX):
        entries: Any = await redis.xrange(wanted.stream, start, end, count=CHUNK)
        for entry_id, fields in entries:
            if fields.get(field) == value:
                return await _with_pending(redis, wanted.stream, entry_id, fields)
        if len(entries) < CHUNK:
            return None
        start = f"({_text(entries[-1][0])}"
    return None


async def _with_pending(redis: Redis, stream: str, entry_id: bytes, fields: dict[bytes, bytes]) -> Found:
    told = tuple((_text(name), _text(value)) for name, value in fields.items())
    try:
        pending: Any = await redis.xpending_range(stream, GROUP, entry_id, entry_id, 1)
    except ResponseError as error:
        if not no_group(error):
            raise
        pending = []
    if not pending:
        return Found(stream, _text(entry_id), told)
    [p] = pending
    return Found(
        stream, _text(entry_id), told, _text(p["consumer"]), p["time_since_delivered"] / 1000, p["times_delivered"]
    )  # fmt: skip


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
