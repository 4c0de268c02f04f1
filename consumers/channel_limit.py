"""How fast one channel may be sent, over all processes: tokens are asked for before reading, and what is not used is kept."""

import asyncio
from math import ceil

from redis.asyncio import Redis

from app.lua import CHANNEL_TOKENS
from app.streams import limit_key

BURST_SHARE = 20  # a full bucket holds a twentieth of a second's tokens
PAUSE_MAX_S = 0.5


class ChannelLimit:
    """At most `per_s` in a second, and a burst of a twentieth more."""

    def __init__(self, redis: Redis, channel: str, per_s: int) -> None:
        self._redis, self._channel = redis, channel
        self._burst, self._every_us = max(1, per_s // BURST_SHARE), ceil(1e6 / per_s)
        self._kept = 0

    async def allowed(self, wanted: int) -> int:
        """How many of `wanted` (at least 1) may be begun; waits a little where it is none. Raises redis.RedisError.

        Never more than a burst: tokens kept from idle turns of the loop would otherwise add up to a flood.
        """
        wanted = min(wanted, self._burst)
        if self._kept < wanted:
            granted, wait_us = await self._ask(wanted - self._kept)
            self._kept += granted
            if not self._kept:
                await asyncio.sleep(min(PAUSE_MAX_S, wait_us / 1e6))
        return min(self._kept, wanted)

    def used(self, count: int) -> None:
        """So many were begun."""
        self._kept = max(0, self._kept - count)

    async def _ask(self, wanted: int) -> tuple[int, int]:
        args = [self._burst, self._every_us, wanted]
        granted, wait_us = await CHANNEL_TOKENS(self._redis, [limit_key(self._channel)], args)
        return granted, wait_us
