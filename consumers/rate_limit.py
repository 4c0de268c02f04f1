"""How often one user may be told something: a token bucket in Redis, one call for a batch, one token per event."""

import asyncio
from collections.abc import Sequence

import structlog
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from app.cancelled import unless_cancelled
from app.lua import TOKEN_BUCKET
from app.settings import Settings
from app.streams import SCRIPT_MAX, bucket_key
from app.trouble import Trouble

log = structlog.get_logger()

REFUSED = -1.0
AGAIN_AFTER_S = 0.25  # pause after Redis failed


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


class RateLimit:
    """`charge` for who can wait: repeated while Redis is away, since the bucket remembers what it charged."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis, self._settings = redis, settings
        self._fails = Trouble(log, "rate limit is applied again")

    async def charge(self, events: Sequence[tuple[int, str]]) -> list[float]:
        """An answer for each. What Redis refuses goes unlimited."""
        while True:
            try:
                charged = await charge(self._redis, self._settings, events) if events else []
                self._fails.over()
                return charged
            except ResponseError as error:
                return await self._refused(events, error)
            except (RedisError, OSError, TimeoutError) as error:
                unless_cancelled(error)
                self._fails.say("rate limit not asked: Redis is away", error, events=len(events))
                await asyncio.sleep(AGAIN_AFTER_S)

    async def _refused(self, events: Sequence[tuple[int, str]], error: ResponseError) -> list[float]:
        """Out of memory: nobody is limited, since only routing empties what fills it. Otherwise the bad bucket alone is not."""
        if isinstance(error, ReadOnlyError):  # a replica, until the client finds the new primary
            await asyncio.sleep(AGAIN_AFTER_S)
            return await self.charge(events)
        if isinstance(error, OutOfMemoryError) or len(events) == 1:
            self._fails.say("rate limit not applied: Redis refuses", error, events=len(events))
            return [0.0] * len(events)
        half = len(events) // 2
        return [*await self.charge(events[:half]), *await self.charge(events[half:])]
