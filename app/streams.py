"""Every name on the wire, and what is done with a stream: publish, read, acknowledge, put back, reclaim, watermark.

`{0}` is the partition: everything that one script or transaction touches shares a cluster slot. Entries are flat and readable; an
entry points to its row (`event` or `notification`) and carries `published_at`, PostgreSQL's time in the transaction before
the XADD; that of an event may say which `case` it is (app/store/hot_route.py).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.domain import Channel, Outgoing
from app.lua import ACKNOWLEDGE, FORGET_CONSUMERS, PUBLISH, RECLAIM, SET_IDLE, WATERMARK

GROUP = "tidings"
EVENTS = "tidings:{0}:events"
DEAD = "tidings:{0}:dead"
DEAD_MAX = 10_000  # the dead stream is a record, not work: it may lose its oldest
CASE_PLACES = (b"user_id", b"case")  # the third field of an entry, and the sixth
CASE_DIGITS_MAX = 6
SCRIPT_MAX = 500  # entries of one stream that a script call touches


@cache
def channel_stream(channel: Channel) -> str:
    """The stream of one channel's notifications."""
    return f"tidings:{{0}}:{channel.lower()}"


def bucket_key(user_id: str) -> str:
    """The rate limit bucket of one user."""
    return f"tidings:{{0}}:bucket:{user_id}"


def limit_key(channel: str) -> str:
    """The rate limit of one channel."""
    return f"tidings:{{0}}:limit:{channel.lower()}"


def breaker_key(channel: str) -> str:
    """Who has paused one channel."""
    return f"tidings:{{0}}:breaker:{channel.lower()}"


def fault_key(channel: str) -> str:
    """What is made to be wrong with the simulated provider of one channel."""
    return f"tidings:{{0}}:fault:{channel.lower()}"


CHANNEL_OF: dict[str, Channel] = {channel_stream(channel): channel for channel in Channel}
WORK_STREAMS: tuple[str, ...] = (EVENTS, *CHANNEL_OF)


class Entry(NamedTuple):
    """An entry in hand. `row_id` is None where the entry cannot be read; `deliveries` counts this one."""

    id: bytes
    row_id: int | None
    deliveries: int
    fields: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """One call of reclaim. `cursor` is b"0-0" when the circle is closed; `lost` were pending without an entry."""

    cursor: bytes
    entries: list[Entry]
    lost: list[bytes]
    server_time_us: int
    last_id: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The oldest entry that the group still carries. `entry_id` None: none. `published_at` None: it has no readable one."""

    entry_id: bytes | None
    published_at: datetime | None
    forgotten: int


def row_field(stream: str) -> str:
    """The field that holds the row's id: `event` on the events stream, `notification` on the others."""
    return "event" if stream == EVENTS else "notification"


def told_case(entry: Entry) -> tuple[str, int] | None:
    """The user and the case of an event, where its entry has the case."""
    fields = entry.fields
    if fields[4::6] != CASE_PLACES or not fields[11].isdigit() or len(fields[11]) > CASE_DIGITS_MAX:
        return None
    return fields[5].decode(errors="replace"), int(fields[11])


def added_s(entry: Entry) -> float:
    """When it was added, by Redis' clock: seconds since 1970."""
    return int(entry.id.partition(b"-")[0]) / 1000


async def publish(redis: Redis, stream: str, rows: Sequence[Outgoing]) -> None:
    """XADD one entry per row, 500 a call. Raises redis.RedisError; some may have been added: the relay finds the rest."""
    if len(rows) == 1:  # by itself: through the script it takes Redis a third longer
        await redis.execute_command(b"XADD", stream, "*", *_fields(row_field(stream), rows[0]))  # type: ignore[no-untyped-call]
    else:
        await publish_all(redis, {stream: rows})


def _fields(name: str, row: Outgoing) -> tuple[str | int, ...]:
    """As the script writes them."""
    case = () if row.case is None else ("case", row.case)
    return (
        name, row.row_id, "event_id", row.event_id, "user_id", row.user_id, "event_type", row.event_type,
        "published_at", row.published_at.isoformat(), *case,
    )  # fmt: skip


async def publish_all(redis: Redis, rows: Mapping[str, Sequence[Outgoing]]) -> None:
    """The same for several streams, whose rows are of one kind."""
    flat = [(stream, row) for stream, its in rows.items() for row in its]
    for start in range(0, len(flat), SCRIPT_MAX):
        part = flat[start : start + SCRIPT_MAX]
        counts = Counter(stream for stream, _ in part)
        args: list[str | int] = [row_field(part[0][0]), *counts.values()]
        written, text = None, ""
        for _, (row_id, event_id, user_id, event_type, published_at, case) in part:
            if published_at != written:  # as a rule one transaction's, so one time: writing it costs more than all the rest
                written, text = published_at, published_at.isoformat()
            args += (row_id, event_id, user_id, event_type, text, "" if case is None else case)
        await PUBLISH(redis, list(counts), args)


async def create_group(redis: Redis, stream: str) -> None:
    """The group at 0, and the stream where it is missing: what was added before the group existed is delivered too."""
    try:
        await redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


async def forget_consumers(redis: Redis, stream: str, silent_s: float) -> int:
    """Remove consumers that have nothing pending and were silent for so long; answers how many. The group must exist."""
    removed: int = await FORGET_CONSUMERS(redis, [stream], [GROUP, round(silent_s * 1000)])
    return removed


async def read(reader: Redis, stream: str, consumer: str, count: int, block_ms: int | None) -> list[Entry]:
    """Up to `count` entries never delivered before; waits up to `block_ms` (None: not at all) for the first."""
    block = () if block_ms is None else ("BLOCK", max(1, block_ms))
    # As bytes, redis-py does not know the command: its own way to make dicts of the answer costs three times as much.
    command = (b"XREADGROUP", "GROUP", GROUP, consumer, "COUNT", count, *block, "STREAMS", stream, ">")
    answer = await reader.execute_command(*command)  # type: ignore[no-untyped-call]
    field = row_field(stream).encode()
    return [_entry(entry_id, fields, 1, field) for _, entries in _pairs(answer or {}) for entry_id, fields in entries]


def _pairs(answer: Any) -> Iterable[Any]:
    """A map of RESP3, which is a list of pairs in RESP2 (`?protocol=2`)."""
    return answer.items() if isinstance(answer, dict) else answer


def _entry(entry_id: bytes, fields: Sequence[bytes], deliveries: int, field: bytes) -> Entry:
    """`fields`: name, value, name, value. Ours begins with the row's id."""
    row = fields[1] if fields[0] == field else dict(zip(fields[::2], fields[1::2], strict=True)).get(field)
    return Entry(entry_id, row_id_of(row), deliveries, tuple(fields))


async def acknowledge(redis: Redis, stream: str, ids: Sequence[bytes]) -> None:
    """XACK and XDEL in one step: so XLEN is the backlog, and the oldest entry the oldest work. At most 500."""
    await acknowledge_all(redis, [(stream, ids)])


async def acknowledge_all(redis: Redis, ids: Sequence[tuple[str, Sequence[bytes]]]) -> None:
    """The same for several streams, 500 of each, in one step for all."""
    counts = [len(its) for _, its in ids]
    await ACKNOWLEDGE(redis, [stream for stream, _ in ids], [GROUP, *counts, *(i for _, its in ids for i in its)])


async def bury(redis: Redis, stream: str, entry: Entry, reason: str) -> None:
    """An entry that no row explains: to the dead stream with its reason, and off its own, in one MULTI."""
    fields = {_text(k): v for k, v in zip(entry.fields[::2], entry.fields[1::2], strict=True)}
    record: dict[Any, Any] = {
        **fields,
        "reason": reason,
        "stream": stream,
        "entry": _text(entry.id),
        "deliveries": entry.deliveries,
    }
    async with redis.pipeline(transaction=True) as pipe:
        pipe.xadd(DEAD, record, maxlen=DEAD_MAX, approximate=True)
        pipe.xack(stream, GROUP, entry.id)
        pipe.xdel(stream, entry.id)
        await pipe.execute()


async def discard_dead(redis: Redis, ids: Sequence[str]) -> int:
    """Drop these entries of the dead stream; how many were there."""
    return int(await redis.xdel(DEAD, *ids))


async def discard_dead_up_to(redis: Redis, newest: str) -> int:
    """Drop this entry of the dead stream and all before it: what came later stays. How many that were."""
    milliseconds, _, number = newest.partition("-")
    return int(await redis.xtrim(DEAD, minid=f"{milliseconds}-{int(number) + 1}", approximate=False))


async def put_back(redis: Redis, stream: str, consumer: str, entries: Iterable[tuple[bytes, float, int]]) -> None:
    """Leave entries pending: (id, idle time in s, delivery count). Each is reclaimed once its idle time passes the window."""
    args: list[Any] = [part for entry_id, idle_s, count in entries for part in (entry_id, max(0, round(idle_s * 1000)), count)]
    for start in range(0, len(args), 3 * SCRIPT_MAX):
        await SET_IDLE(redis, [stream], [GROUP, consumer, *args[start : start + 3 * SCRIPT_MAX]])


async def has(redis: Redis, stream: str, consumer: str, entry_id: bytes) -> bool:
    """Is the entry pending, in the hands of `consumer`?"""
    return bool(await redis.xpending_range(stream, GROUP, entry_id, entry_id, 1, consumer))


async def reclaim(redis: Redis, stream: str, consumer: str, min_idle_s: float, cursor: bytes, count: int) -> Reclaimed:
    """One step of XAUTOCLAIM, with delivery counts. It scans ten times `count` and may find nothing with a cursor left."""
    args: list[str | bytes | int] = [GROUP, consumer, round(min_idle_s * 1000), cursor, min(count, SCRIPT_MAX)]
    next_cursor, found, lost, time_us, last_id = await RECLAIM(redis, [stream], args)
    field = row_field(stream).encode()
    entries = [_entry(entry_id, fields, deliveries, field) for entry_id, fields, deliveries in found]
    return Reclaimed(next_cursor, entries, lost, time_us, last_id)


async def head(redis: Redis, stream: str) -> Head:
    """The watermark's entry; removes up to 500 entries that the group forgot (neither pending nor unread)."""
    entry_id, published_at, forgotten = await WATERMARK(redis, [stream], [GROUP, SCRIPT_MAX])
    return Head(entry_id or None, instant_of(published_at), forgotten)


def no_group(error: Exception) -> bool:
    """Is this the answer for a stream or group that is gone (FLUSHALL, DEL, failover)?"""
    return isinstance(error, ResponseError) and ("NOGROUP" in str(error) or "no such key" in str(error))


def row_id_of(value: bytes | None) -> int | None:
    """A row's id as an entry carries it; None: not readable."""
    digits = value or b""
    return int(digits) if digits.isdigit() and len(digits) <= 18 else None


def instant_of(value: bytes | None) -> datetime | None:
    """`published_at` as an entry carries it; None: not readable, or without an offset."""
    try:
        instant = datetime.fromisoformat(_text(value)) if value else None
    except ValueError:
        return None
    return instant if instant is not None and instant.tzinfo is not None else None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
