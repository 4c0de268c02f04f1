"""What becomes of an entry once it was handled, and the one place where entries are acknowledged or put back, in batches."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeAlias

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app import streams
from app.cancelled import unless_cancelled
from app.domain import Outgoing
from app.streams import Entry
from consumers.clock import clock_s

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Its work is committed, or there is none: off the stream."""


class Published(NamedTuple):
    """`published_at` of a row; `asked_s`: the own clock before the transaction that may have set it."""

    at: datetime
    asked_s: float


@dataclass(frozen=True, slots=True)
class Back:
    """Not now: stays pending, and is reclaimed in `in_s` seconds.

    Handled: its delivery count starts anew. Not handled, since its row is in another's hand, or its channel was paused: this
    delivery is not counted. `published`: what the row says, for what is on no stream yet.
    """

    in_s: float
    handled: bool = True
    published: Published | None = None


@dataclass(frozen=True, slots=True)
class Publish:
    """It was on no stream, and is to be tried again: now it goes there. `asked_s` as of Published."""

    row: Outgoing
    asked_s: float


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing is known, or another consumer owns it: stays pending as it is; reclaim finds it after a whole window."""


@dataclass(frozen=True, slots=True)
class Bury:
    """No row explains it: to the dead stream, with the reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class CallOver:
    """Not yet a verdict: the call to the provider is over, so its slot is free. The verdict follows once its end is recorded."""


Verdict: TypeAlias = Acknowledge | Back | Publish | Leave | Bury
Settle: TypeAlias = Callable[[Entry, Verdict | CallOver], None]


async def settle_on_stream(
    redis: Redis,
    stream: str,
    consumer: str,
    reclaim_after_s: float,
    batch: list[tuple[Entry, Verdict]],
    publish_within_s: float,
    acknowledge: Callable[[tuple[str, list[bytes]]], Awaitable[None]] | None = None,
) -> RedisError | OSError | None:
    """Acknowledge, put back, publish and bury a batch. Raises nothing: what Redis did not do, reclaim and the relay repair.

    `acknowledge`: the call that the streams of a process share. Answers the last error.
    """
    errors = []
    done = [entry.id for entry, verdict in batch if isinstance(verdict, Acknowledge)]
    back = [(entry, verdict) for entry, verdict in batch if isinstance(verdict, Back)]
    waits = [(entry.id, max(0.0, reclaim_after_s - verdict.in_s), count_after(entry, verdict)) for entry, verdict in back]
    if done:
        errors.append(await _try(acknowledge((stream, done)) if acknowledge else streams.acknowledge(redis, stream, done)))
    if waits:
        errors.append(await _try(streams.put_back(redis, stream, consumer, waits)))
    late_s = clock_s() - publish_within_s
    rows = [verdict.row for _, verdict in batch if isinstance(verdict, Publish) and verdict.asked_s >= late_s]
    if rows:
        errors.append(await _try(streams.publish(redis, stream, rows)))
    for entry, verdict in batch:
        if isinstance(verdict, Bury):
            log.error("dead letter: no row explains the entry", stream=stream, entry=entry.id.decode(), reason=verdict.reason)
            errors.append(await _try(streams.bury(redis, stream, entry, verdict.reason)))
    return next((error for error in reversed(errors) if error is not None), None)


def count_after(entry: Entry, verdict: Back) -> int:
    """The delivery count that an entry is put back with: deliveries in a row that ended in silence."""
    return 0 if verdict.handled else max(0, entry.deliveries - 1)


async def _try(call: Awaitable[None]) -> RedisError | OSError | None:
    """Each by itself: what Redis refuses of one kind must not hold back the others."""
    try:
        await call
    except (RedisError, OSError) as error:  # TimeoutError is an OSError
        unless_cancelled(error)
        return error
    return None
