"""The breaker of one channel in this process: judges each call's result, holds the consumer back, and tells the others."""

import asyncio
import time
from contextlib import suppress

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.cancelled import unless_cancelled
from app.domain import Channel, Outcome
from app.pauses import Pause, tell_pause, withdraw_pause
from app.settings import Settings
from consumers.breaker import FIRST_WAIT_S, LONGEST_WAIT_S, Breaker
from consumers.pause import sleep_or_stop
from consumers.retry import Result

log = structlog.get_logger()

LOOK_EVERY_S = 0.1  # how soon a consumer that waits notices that it shall stop
TELL_EVERY_S = 3.0
LEAVE_WITHIN_S = 1.0
ANSWERS = frozenset({Outcome.SENT, Outcome.REJECTED})


class Circuit:
    """Open: the consumer takes one entry at a time, to probe. Held (by an operator, consumers/held.py): it takes none.

    `consumer`: its name, for those who read the state in Redis.
    """

    def __init__(self, settings: Settings, channel: Channel, consumer: str) -> None:
        self._channel, self._consumer, self._window_s = channel, consumer, settings.reclaim_after_s
        first_s, longest_s = min(FIRST_WAIT_S, self._window_s / 8), min(LONGEST_WAIT_S, self._window_s / 4)
        self.breaker = Breaker(settings.breaker_after, first_s, longest_s)
        self._closed, self._changed = asyncio.Event(), asyncio.Event()
        self.held = False

    def heard(self, result: Result, attempt: int, tries: int) -> float | None:
        """Notes what a call came to. Seconds until the next probe where the failure is the provider's, None where it is not.

        Who opens the circuit a second time (its attempts are more than its tries) has itself to blame: a message that alone is
        answered 401 would otherwise go on for ever.
        """
        now_s = time.monotonic()
        if result.outcome in ANSWERS:
            self._answered(now_s)
            return None
        opened = self.breaker.failed(now_s, result.error or "no reason given", result.retry_after_s, result.bad_credentials)
        if opened:
            self._opened()
        if not self.breaker.is_open or (opened and attempt > tries):
            return None
        return min(max(0.0, self.breaker.probe_s - now_s), self._window_s / 2)

    def room(self, free: int, in_hand: int) -> int:
        """How many of `free` entries may be taken, with `in_hand` in hand already."""
        return 0 if self.holds(in_hand) else min(free, 1) if self.breaker.is_open else free

    def holds(self, in_hand: int) -> bool:
        """May nothing be taken now, with `in_hand` in hand?"""
        return self.held or (self.breaker.is_open and (in_hand > 0 or not self.breaker.may_probe(time.monotonic())))

    def closed(self) -> bool:
        """Is nothing held back?"""
        return not (self.held or self.breaker.is_open)

    async def pause(self) -> None:
        """For who is held: returns after a moment, and at once when the circuit closes."""
        await (asyncio.sleep(LOOK_EVERY_S) if self.held else sleep_or_stop(LOOK_EVERY_S, self._closed))

    async def run(self, redis: Redis) -> None:
        """Tells Redis while the circuit is open, for ever; what Redis does not take is told again. Cancel it to end it."""
        told = False
        try:
            while True:
                await sleep_or_stop(TELL_EVERY_S if told or self.breaker.is_open else None, self._changed)
                self._changed.clear()
                told = await self._tell(redis, told)
                unless_cancelled()
        finally:
            if told:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LEAVE_WITHIN_S):
                        await self._withdraw(redis)

    async def _tell(self, redis: Redis, told: bool) -> bool:
        """Whether Redis may hold a state of ours afterwards."""
        if self.breaker.opened_s is None:
            return told and not await self._withdraw(redis)
        now_s = time.monotonic()
        pause = Pause(
            self._consumer,
            self.breaker.reason,
            since_s=now_s - self.breaker.opened_s,
            probe_in_s=max(0.0, self.breaker.probe_s - now_s),
            probe_every_s=self.breaker.wait_s,
        )
        with suppress(RedisError, OSError, TimeoutError):
            await tell_pause(redis, self._channel, pause)
        return True

    async def _withdraw(self, redis: Redis) -> bool:
        with suppress(RedisError, OSError, TimeoutError):
            await withdraw_pause(redis, self._channel, self._consumer)
            return True
        return False

    def _opened(self) -> None:
        self._closed.clear()
        self._changed.set()
        b = self.breaker
        log.error("channel paused", channel=self._channel.value, reason=b.reason, failures=b.failures, probe_after_s=b.wait_s)

    def _answered(self, now_s: float) -> None:
        opened_s = self.breaker.opened_s
        if self.breaker.answered(now_s):
            self._closed.set()
            self._changed.set()
            paused_s = round(now_s - (opened_s or now_s), 1)
            log.warning("channel resumed: its provider answers", channel=self._channel.value, paused_s=paused_s)
