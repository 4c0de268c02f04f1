"""One stream's entries, and who holds them: bounded commands only, whatever the stream's length."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.stream_stats import StreamStats, stream_stats
from app.streams import GROUP, no_group

ENTRIES_SHOWN = 25
FIELDS_SHOWN = 20
DELIVERIES_READ = 500  # pending entries whose delivery counts are looked at, the oldest ones


@dataclass(frozen=True, slots=True)
class Held:
    """Who a pending entry was delivered to, how long ago, and how often."""

    consumer: str
    idle_s: float
    deliveries: int


@dataclass(frozen=True, slots=True)
class Entry:
    """`held` None: not pending. `unread`: the group has not come to it yet."""

    id: str
    added_ms: int
    fields: tuple[tuple[bytes, bytes], ...]
    held: Held | None
    unread: bool


@dataclass(frozen=True, slots=True)
class StreamRows:
    """`deliveries`: the delivery count of each of the oldest pending entries. `next_after` None: the last page."""

    now: datetime
    stats: StreamStats
    entries: tuple[Entry, ...]
    deliveries: tuple[int, ...]
    first_page: bool
    next_after: str | None


async def read_stream(redis: Redis, stream: str, after: str | None, newest_first: bool, most: int = ENTRIES_SHOWN) -> StreamRows:
    """Entries after the one with the id `after` (in reading order), from the end that is asked for. Raises redis.RedisError."""
    stats = next(s for s in await stream_stats(redis) if s.stream == stream)
    async with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        if newest_first:
            pipe.xrevrange(stream, max=f"({after}" if after else "+", count=most + 1)
        else:
            pipe.xrange(stream, min=f"({after}" if after else "-", count=most + 1)
        pipe.xinfo_groups(stream)
        pipe.xpending_range(stream, GROUP, min="-", max="+", count=DELIVERIES_READ)
        (seconds, microseconds), found, groups, pending = await pipe.execute(raise_on_error=False)
    shown = list(_value(found) or ())[:most]
    held = await _held(redis, stream, [entry_id for entry_id, _ in shown]) if stats.group else {}
    last = next((g["last-delivered-id"] for g in _value(groups) or () if g["name"] == GROUP.encode()), b"0-0")
    return StreamRows(
        now=datetime.fromtimestamp(seconds + microseconds / 1e6, UTC),
        stats=stats,
        entries=tuple(_entry(entry_id, fields, held.get(entry_id), last) for entry_id, fields in shown),
        deliveries=tuple(p["times_delivered"] for p in _value(pending) or ()),
        first_page=after is None,
        next_after=shown[-1][0].decode() if len(_value(found) or ()) > most else None,
    )


async def _held(redis: Redis, stream: str, ids: Sequence[bytes]) -> dict[bytes, Held]:
    """Of these entries, those that are pending: each looked up by its id, since a range could be long."""
    async with redis.pipeline(transaction=False) as pipe:
        for entry_id in ids:
            pipe.xpending_range(stream, GROUP, min=entry_id, max=entry_id, count=1)
        answers = await pipe.execute(raise_on_error=False)
    return {p["message_id"]: _as_held(p) for answer in answers for p in _value(answer) or ()}


def _as_held(p: Any) -> Held:
    return Held(p["consumer"].decode("utf-8", "replace"), p["time_since_delivered"] / 1000, p["times_delivered"])


def _entry(entry_id: bytes, fields: Any, held: Held | None, last: bytes) -> Entry:
    pairs = tuple((fields or {}).items())
    return Entry(entry_id.decode(), parts(entry_id)[0], pairs, held, parts(entry_id) > parts(last))


def parts(entry_id: bytes | str) -> tuple[int, int]:
    """An id's milliseconds and sequence number."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    first, _, second = text.partition("-")
    return int(first), int(second or 0)


def _value(answer: Any) -> Any:
    """The answer, or None where the stream or its group is missing. Raises any other error."""
    if isinstance(answer, ResponseError) and no_group(answer):
        return None
    if isinstance(answer, BaseException):
        raise answer
    return answer
