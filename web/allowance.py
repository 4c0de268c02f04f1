"""How many more events one user may be told of now: read from the bucket of app/lua/token_bucket.lua."""

import shlex
from dataclasses import dataclass
from math import ceil

from redis.asyncio import Redis

from app.settings import Settings
from app.streams import bucket_key
from web.words import duration, plural


@dataclass(frozen=True, slots=True)
class Allowance:
    """Tokens left of the capacity. `next_s`: until one more is there; `full_s`: until all are; both 0 where the bucket is full.

    `reserved_s`: until the latest time that policy defer has promised; 0: none.
    """

    left: int
    capacity: int
    next_s: float = 0.0
    full_s: float = 0.0
    reserved_s: float = 0.0


async def read_allowance(redis: Redis, settings: Settings, user_id: str) -> Allowance:
    """One round trip; a bucket that does not exist is full. Raises redis.RedisError."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.time()
        pipe.zmscore(bucket_key(user_id), ["full_at", "reserved"])
        (seconds, microseconds), (full_at, reserved) = await pipe.execute()
    now_us = seconds * 1_000_000 + microseconds
    return allowance(settings.rate_limit_per_user, settings.rate_limit_every_us, full_at or 0, reserved or 0, now_us)


def allowance(capacity: int, every_us: int, full_at_us: float, reserved_us: float, now_us: int) -> Allowance:
    """Pure: the script's arithmetic. A token is there once the bucket is full within capacity - 1 tokens' time."""
    missing_us = max(0, int(full_at_us) - now_us)
    left = max(0, capacity - ceil(missing_us / every_us))
    next_us = missing_us - (capacity - left - 1) * every_us if missing_us else 0
    return Allowance(left, capacity, next_us / 1e6, missing_us / 1e6, max(0, int(reserved_us) - now_us) / 1e6)


def allowance_words(a: Allowance, settings: Settings) -> str:
    """A sentence on what the rate limit allows now."""
    rule = f"{plural(a.capacity, 'event')} in {duration(settings.rate_limit_window_s)}"
    if not a.full_s:
        return f"All {a.capacity} tokens are left (limit: {rule})." if a.capacity > 1 else f"Its token is left (limit: {rule})."
    when = f"the next comes in {duration(a.next_s)}"
    rest = f", all are back in {duration(a.full_s)}" if a.full_s > a.next_s else ""
    promised = f" The latest event waits for its time, {duration(a.reserved_s)} from now." if a.reserved_s else ""
    return f"{a.left} of {a.capacity} tokens left: {when}{rest} (limit: {rule}).{promised}"


def allowance_command(cli: str, user_id: str) -> str:
    """What gives the two numbers; `cli` reaches the server."""
    return f"{cli} ZMSCORE {shlex.quote(bucket_key(user_id))} full_at reserved"
