"""What every stream holds at one moment: length, lag, pending, age of the oldest entry, and its consumers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.streams import DEAD, GROUP, WORK_STREAMS, no_group

STREAMS: tuple[str, ...] = (*WORK_STREAMS, DEAD)


@dataclass(frozen=True, slots=True)
class ConsumerStats:
    """One consumer of one stream. `idle_s`: since it last asked; `inactive_s`: since it last got an entry, None: never."""

    name: str
    pending: int
    idle_s: float
    inactive_s: float | None


@dataclass(frozen=True, slots=True)
class StreamStats:
    """One stream. A stream that does not exist has length 0; where the group is missing nothing is pending and all is to be read.

    `lag` None: cannot be known. `oldest_s` since the oldest entry was added, `oldest_unread_s` since the oldest that nobody has
    read yet; None: no such entry. The dead stream has no group, so its lag says nothing.
    """

    stream: str
    length: int
    lag: int | None
    pending: int
    oldest_s: float | None
    oldest_unread_s: float | None
    group: bool
    consumers: tuple[ConsumerStats, ...]


async def stream_stats(redis: Redis) -> list[StreamStats]:
    """The work streams, then the dead stream, as of one moment (MULTI). Its cost does not grow with the backlog.

    A second round trip only where entries are unread: an old entry may be waiting for a retry, a new one for a reader.
    Raises redis.RedisError where Redis is away.
    """
    async with redis.pipeline(transaction=True) as pipe:
        pipe.time()
        for stream in STREAMS:
            pipe.xlen(stream)
            pipe.xinfo_groups(stream)
            pipe.xinfo_consumers(stream, GROUP)
            pipe.xrange(stream, count=1)
        answers = await pipe.execute(raise_on_error=False)
    now_ms = _milliseconds(_value(answers[0]))
    told = [_told(stream, [_value(a) for a in answers[4 * i + 1 : 4 * i + 5]]) for i, stream in enumerate(STREAMS)]
    unread = await _first_unread(redis, [t for t in told if t.group and t.lag != 0])
    return [_stream(t, unread.get(t.stream), now_ms) for t in told]


@dataclass(frozen=True, slots=True)
class _Told:
    """What Redis said of one stream. `group` None: there is none."""

    stream: str
    length: int
    group: Any
    consumers: Any
    oldest_id: bytes | None

    @property
    def lag(self) -> int | None:
        return known_lag(self.length, self.group["pending"], self.group["lag"]) if self.group else self.length


def _told(stream: str, answers: Sequence[Any]) -> _Told:
    length, groups, consumers, first = answers
    group = next((g for g in groups or () if g["name"] == GROUP.encode()), None)
    return _Told(stream, length, group, consumers or (), first[0][0] if first else None)


async def _first_unread(redis: Redis, behind: Sequence[_Told]) -> dict[str, bytes]:
    """Per stream the id of the first entry after the last one delivered; a stream that was read up meanwhile is left out."""
    if not behind:
        return {}
    async with redis.pipeline(transaction=False) as pipe:
        for told in behind:
            pipe.xrange(told.stream, min=b"(" + told.group["last-delivered-id"], count=1)
        answers = await pipe.execute()
    return {told.stream: found[0][0] for told, found in zip(behind, answers, strict=True) if found}


def _stream(told: _Told, unread_id: bytes | None, now_ms: float) -> StreamStats:
    first_unread = unread_id if told.group else told.oldest_id
    return StreamStats(
        stream=told.stream,
        length=told.length,
        lag=told.lag,
        pending=told.group["pending"] if told.group else 0,
        oldest_s=None if told.oldest_id is None else age_s(told.oldest_id, now_ms),
        oldest_unread_s=None if first_unread is None else age_s(first_unread, now_ms),
        group=told.group is not None,
        consumers=tuple(_consumer(c) for c in told.consumers),
    )


def known_lag(length: int, pending: int, told: int | None) -> int | None:
    """Entries the group has not read. Acknowledged entries are deleted, so whatever is not pending is unread.

    `told` is XINFO's lag: null after XDEL of an unread entry, above the length after XTRIM. None: pending entries have lost
    their bodies, so neither number can be trusted.
    """
    if told is not None and told <= length:
        return told
    return length - pending if length >= pending else None


def age_s(entry_id: bytes, now_ms: float) -> float:
    """Since an entry was added, from its id against Redis' clock; 0 where that clock was set back."""
    return max(0.0, (now_ms - int(entry_id.partition(b"-")[0])) / 1000)


def _consumer(told: Any) -> ConsumerStats:
    inactive_ms = told.get("inactive", -1)  # -1: never; not told before Redis 7.2
    name = told["name"].decode("utf-8", "replace")
    return ConsumerStats(name, told["pending"], told["idle"] / 1000, inactive_ms / 1000 if inactive_ms >= 0 else None)


def _milliseconds(time: tuple[int, int]) -> float:
    seconds, microseconds = time
    return seconds * 1000 + microseconds / 1000


def _value(answer: Any) -> Any:
    """The answer, or None where the stream or its group is missing. Raises any other error."""
    if isinstance(answer, ResponseError) and no_group(answer):
        return None
    if isinstance(answer, BaseException):
        raise answer
    return answer
