"""Which channels are paused because their provider does not answer: consumers tell Redis, the API and the dashboard read.

One hash per channel, a field per consumer. Times in it are the Redis server's; who reads ignores what was not told again.
"""

from dataclasses import dataclass
from typing import Any

import orjson
from redis.asyncio import Redis

from app.domain import Channel
from app.streams import breaker_key

KEEP_S = 60
STALE_S = 15.0
REASON_MAX = 500  # characters


@dataclass(frozen=True, slots=True)
class Pause:
    """One consumer has paused one channel. All times are seconds before or after the moment it was told, or read."""

    consumer: str
    reason: str
    since_s: float
    probe_in_s: float
    probe_every_s: float


async def tell_pause(redis: Redis, channel: Channel, pause: Pause) -> None:
    """Again every few seconds: it counts for 15. Fields of consumers that are gone are swept away. Raises redis.RedisError."""
    key = breaker_key(channel)
    async with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.hgetall(key)
        time, told = await pipe.execute()
    now_s = _seconds(time)
    gone = [name for name, value in told.items() if _read(name, value, now_s) is None]
    record = {
        "told": now_s,
        "since": now_s - pause.since_s,
        "nextProbe": now_s + pause.probe_in_s,
        "probeEveryS": pause.probe_every_s,
        "reason": pause.reason[:REASON_MAX],
    }
    async with redis.pipeline(transaction=True) as pipe:
        if gone:
            pipe.hdel(key, *gone)
        pipe.hset(key, pause.consumer, orjson.dumps(record).decode())
        pipe.expire(key, KEEP_S)
        await pipe.execute()


async def withdraw_pause(redis: Redis, channel: Channel, consumer: str) -> None:
    """The consumer sends again, or leaves. Raises redis.RedisError."""
    await redis.hdel(breaker_key(channel), consumer)


async def read_pauses(redis: Redis) -> dict[Channel, list[Pause]]:
    """The channels that are paused, each with its consumers that say so, longest first. Raises redis.RedisError."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        for channel in Channel:
            pipe.hgetall(breaker_key(channel))
        time, *told = await pipe.execute()
    now_s = _seconds(time)
    found = {
        channel: [pause for name, value in fields.items() if (pause := _read(name, value, now_s)) is not None]
        for channel, fields in zip(Channel, told, strict=True)
    }
    return {channel: sorted(pauses, key=lambda p: -p.since_s) for channel, pauses in found.items() if pauses}


def _seconds(time: tuple[int, int]) -> float:
    seconds, microseconds = time
    return seconds + microseconds / 1e6


def _read(name: bytes, value: bytes, now_s: float) -> Pause | None:
    """None: stale, or nothing of ours."""
    try:
        told: Any = orjson.loads(value)
        if now_s - told["told"] > STALE_S:
            return None
        return Pause(
            name.decode("utf-8", "replace"),
            str(told["reason"]),
            max(0.0, now_s - told["since"]),
            max(0.0, told["nextProbe"] - now_s),
            float(told["probeEveryS"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
