"""What the streams carry, read without changing anything: pages of entries and of pending ones, and the group's own numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.streams import GROUP, WORK_STREAMS, bucket_key, instant_of, limit_key, no_group, row_field, row_id_of

PAGE = 1000
SCANS_MAX = 100  # steps of SCAN: Redis may be shared, and most of its keys not ours

EntryId = tuple[int, int]
START: EntryId = (0, 0)


class Seen(NamedTuple):
    """An entry as it lies on its stream. `row_id` and `published_at` None: not readable."""

    id: EntryId
    row_id: int | None
    published_at: datetime | None


class Pending(NamedTuple):
    """A pending entry. `idle_s`: since it was last delivered or claimed."""

    id: EntryId
    consumer: str
    idle_s: float
    deliveries: int


@dataclass(frozen=True, slots=True)
class Group:
    """One stream and its group at one moment. `lag` as Redis tells it, None: it does not know. No group: all is unread."""

    length: int
    lag: int | None
    pending: int
    read_to: EntryId
    last: EntryId  # the newest entry, or where the group is, though it was trimmed
    exists: bool


async def groups(redis: Redis) -> dict[str, Group]:
    """The work streams as of one moment (MULTI). Raises redis.RedisError."""
    async with redis.pipeline(transaction=True) as pipe:
        for stream in WORK_STREAMS:
            pipe.xlen(stream)
            pipe.xinfo_groups(stream)
            pipe.xrevrange(stream, count=1)
        answers: list[Any] = await pipe.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, Exception) and not no_group(answer):
            raise answer
    return {stream: _group(*answers[3 * i : 3 * i + 3]) for i, stream in enumerate(WORK_STREAMS)}


async def entries_page(redis: Redis, stream: str, after: EntryId, last: EntryId) -> list[Seen]:
    """Up to PAGE entries after one, oldest first, none later than `last`."""
    field = row_field(stream).encode()
    found: Any = await redis.xrange(stream, min=f"({_text(after)}", max=_text(last), count=PAGE)
    return [
        Seen(entry_id(entry), row_id_of(fields.get(field)), instant_of(fields.get(b"published_at"))) for entry, fields in found
    ]


async def pending_page(redis: Redis, stream: str, after: EntryId, last: EntryId) -> list[Pending]:
    """The same for pending entries; [] where the group is missing."""
    try:
        return _pending(await redis.xpending_range(stream, GROUP, f"({_text(after)}", _text(last), PAGE))
    except ResponseError as error:
        if no_group(error):
            return []
        raise


async def look_again(redis: Redis, stream: str, ids: Sequence[EntryId]) -> dict[EntryId, tuple[bool, Pending | None]]:
    """Of each entry, at one moment (MULTI): is it on the stream, and is it pending?"""
    if not ids:
        return {}
    async with redis.pipeline(transaction=True) as pipe:
        for one in ids:
            pipe.xrange(stream, _text(one), _text(one))
            pipe.xpending_range(stream, GROUP, _text(one), _text(one), 1)
        answers: list[Any] = await pipe.execute(raise_on_error=False)
    pending = [[] if isinstance(a, Exception) else _pending(a) for a in answers[1::2]]
    there = [bool(a) and not isinstance(a, Exception) for a in answers[::2]]
    return {one: (here, found[0] if found else None) for one, here, found in zip(ids, there, pending, strict=True)}


async def kept_for_ever(redis: Redis, most: int) -> list[str]:
    """Names of buckets and limits that never expire, up to `most`. Walks a bounded part of the keys."""
    kept: list[str] = []
    cursor = 0
    for _ in range(SCANS_MAX):
        answer: Any = await redis.scan(cursor, match="tidings:*", count=PAGE)
        cursor, keys = answer
        kept += await _without_expiry(redis, [key for key in keys if key.startswith(EXPIRING)])
        if not cursor or len(kept) > most:
            break
    return kept


EXPIRING = (bucket_key("").encode(), limit_key("").encode())


def entry_id(told: bytes) -> EntryId:
    """Ids compare as numbers, not as text."""
    milliseconds, _, number = told.partition(b"-")
    return int(milliseconds), int(number)


async def _without_expiry(redis: Redis, keys: Sequence[bytes]) -> list[str]:
    async with redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.ttl(key)
        times: list[int] = await pipe.execute() if keys else []
    return [key.decode("utf-8", "replace") for key, left_s in zip(keys, times, strict=True) if left_s == -1]


def _group(length: int, told: Any, newest: Any) -> Group:
    known = () if isinstance(told, Exception) else told
    group = next((g for g in known if g["name"] == GROUP.encode()), None)
    last = entry_id(newest[0][0]) if newest else START
    if group is None:
        return Group(length, length, 0, START, last, False)
    read_to = entry_id(group["last-delivered-id"])
    return Group(length, group["lag"], group["pending"], read_to, max(last, read_to), True)


def _pending(found: Iterable[Any]) -> list[Pending]:
    return [
        Pending(
            entry_id(p["message_id"]),
            p["consumer"].decode("utf-8", "replace"),
            p["time_since_delivered"] / 1000,
            p["times_delivered"],
        )
        for p in found
    ]


def _text(one: EntryId) -> str:
    return f"{one[0]}-{one[1]}"
