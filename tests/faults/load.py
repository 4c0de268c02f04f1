"""A steady load: events at a fixed rate, each posted again until it is answered 202, as a client should."""

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp

AGAIN_AFTER_S = 0.2  # where nobody answers
RETRY_AFTER_MAX_S = 1.0
BUSY_USERS = 3  # they get an event in ten together, so that the limit per user has something to do


@dataclass(slots=True)
class Load:
    """`accepted`: event id -> when it was answered 202, in s since 1970."""

    api_url: str
    session: aiohttp.ClientSession
    rate_per_s: float = 40
    accepted: dict[str, float] = field(default_factory=dict)
    refused: int = 0
    _posting: set[asyncio.Task[None]] = field(default_factory=set)
    _number: int = 0
    _run: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._run = asyncio.create_task(self._go(), name="load")

    async def stop(self, within_s: float = 15) -> None:
        """No more new events; returns once each one posted was answered 202."""
        assert self._run is not None
        self._run.cancel()
        async with asyncio.timeout(within_s):
            await asyncio.gather(*self._posting)

    async def _go(self) -> None:
        next_at = time.monotonic()
        while True:
            self._post(self.event())
            next_at = max(next_at + 1 / self.rate_per_s, time.monotonic() - 0.5)  # what a standstill missed is not made up for
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))

    def event(self) -> dict[str, Any]:
        self._number += 1
        number = self._number
        user = f"busy-{number // 10 % BUSY_USERS}" if number % 10 == 0 else f"user-{number}"
        instant = "2026-03-31T16:30:00Z"
        return {"eventId": f"evt-{number}", "eventType": "T", "userId": user, "payload": {"n": number}, "timestamp": instant}

    def _post(self, body: dict[str, Any]) -> None:
        task = asyncio.create_task(self.post(body))
        self._posting.add(task)
        task.add_done_callback(self._posting.discard)

    async def post(self, body: dict[str, Any]) -> None:
        """Until it is answered 202. What else it is answered must be worth a repetition."""
        while True:
            try:
                async with self.session.post(f"{self.api_url}/api/events", json=body) as answer:
                    if answer.status == 202:
                        self.accepted[body["eventId"]] = time.time()
                        return
                    assert answer.status == 503, f"{answer.status}: {await answer.text()}"
                    wait_s = min(float(answer.headers["Retry-After"]), RETRY_AFTER_MAX_S)
            except (aiohttp.ClientError, TimeoutError):
                wait_s = AGAIN_AFTER_S
            self.refused += 1
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.5))
