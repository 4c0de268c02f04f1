"""How often one user may be told something: a token bucket in Redis, one call for a batch, one token per event."""

from collections.abc import Sequence

from redis.asyncio import Redis

from app.lua import TOKEN_BUCKET
from app.settings import Settings
from app.streams import SCRIPT_MAX, bucket_key

REFUSED = -1.0


async def charge(redis: Redis, settings: Settings, events: Sequence[tuple[int, str]]) -> list[float]:
    """For each (event id, user): 0 go now; REFUSED; or, with policy defer, seconds until the time reserved for it.

    An event that was charged before gets the same answer again. Raises redis.RedisError.
    """
    remember_us = round(3e6 * settings.reclaim_after_s)
    first = [settings.rate_limit_per_user, settings.rate_limit_every_us, remember_us, int(settings.rate_limit_policy == "defer")]
    answers: list[float] = []
    for start in range(0, len(events), SCRIPT_MAX):
        part = events[start : start + SCRIPT_MAX]
        waits_us = await TOKEN_BUCKET(redis, [bucket_key(user) for _, user in part], [*first, *(event for event, _ in part)])
        answers += [REFUSED if wait < 0 else wait / 1e6 for wait in waits_us]
    return answers
