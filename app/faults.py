"""Faults that the dashboard gives the simulated providers, so that a developer can watch what happens: it writes, consumers read.

One hash per channel, which expires by itself. One without an expiry is not obeyed: it would outlast whoever wrote it by hand.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

from redis.asyncio import Redis

from app.domain import Channel
from app.streams import fault_key

KEEP_S = 900


class Kind(StrEnum):
    """What is wrong with a provider; the amount that belongs to it."""

    SLOW = "slow"  # seconds a call takes
    FLAKY = "flaky"  # percent of the calls that fail
    DOWN = "down"  # none: nobody listens
    HANGING = "hanging"  # none: it takes the message and says nothing
    REJECTING = "rejecting"  # none: it refuses each message for good
    BUSY = "busy"  # seconds that it asks to wait: 429 with Retry-After


AMOUNTS: dict[Kind, tuple[float, float]] = {
    Kind.SLOW: (0.05, 300),
    Kind.FLAKY: (1, 100),
    Kind.DOWN: (0, 0),
    Kind.HANGING: (0, 0),
    Kind.REJECTING: (0, 0),
    Kind.BUSY: (1, 3600),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """`left_s`: how long it goes on, counted from when it was read."""

    kind: Kind
    amount: float = 0.0
    left_s: float = KEEP_S


def fault_of(kind: str, amount: str) -> Fault | None:
    """Pure: from text; None where there is no such fault, or the amount is not one for it."""
    try:
        known, number = Kind(kind), float(amount or "0")
    except ValueError:
        return None
    least, most = AMOUNTS[known]
    return Fault(known, number) if isfinite(number) and least <= number <= most else None


async def set_fault(redis: Redis, channel: Channel, fault: Fault) -> None:
    """From now on for `left_s`, in place of any other. Raises redis.RedisError."""
    key = fault_key(channel)
    async with redis.pipeline(transaction=True) as pipe:
        pipe.hset(key, mapping={"kind": fault.kind.value, "amount": f"{fault.amount:g}"})
        pipe.pexpire(key, round(fault.left_s * 1000))
        await pipe.execute()


async def clear_fault(redis: Redis, channel: Channel) -> None:
    """The provider is well again. Raises redis.RedisError."""
    await redis.delete(fault_key(channel))


async def read_faults(redis: Redis, channels: Iterable[Channel] = Channel) -> dict[Channel, Fault]:
    """The channels that have one. One round trip. Raises redis.RedisError."""
    asked = list(channels)
    async with redis.pipeline(transaction=False) as pipe:
        for channel in asked:
            pipe.hgetall(fault_key(channel))
            pipe.pttl(fault_key(channel))
        told = await pipe.execute()
    read = {channel: _read(*pair) for channel, pair in zip(asked, zip(told[::2], told[1::2], strict=True), strict=True)}
    return {channel: fault for channel, fault in read.items() if fault is not None}


def _read(fields: Mapping[bytes, bytes], left_ms: int) -> Fault | None:
    """None: none, or nothing of ours."""
    if left_ms <= 0:
        return None
    kind, amount = (fields.get(name, b"").decode("utf-8", "replace") for name in (b"kind", b"amount"))
    fault = fault_of(kind, amount)
    return None if fault is None else Fault(fault.kind, fault.amount, left_ms / 1000)
