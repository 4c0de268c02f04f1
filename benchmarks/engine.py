"""The loop alone: stream -> consumers/consumer.py -> a handler that does nothing -> acknowledged. No PostgreSQL, one process.

`python -m benchmarks.engine REDIS_URL` consumes the events stream until it is killed.
"""

import asyncio
import gc
import sys
from collections.abc import Sequence
from typing import cast

import uvloop

from app.logs import configure
from app.resources import Resources, open_reader, open_redis
from app.settings import load_settings
from app.streams import EVENTS, Entry
from consumers.consumer import BATCH_MAX, LANES, Consumer
from consumers.database import Database
from consumers.settle import Acknowledge, Settle


class Nothing:
    """A handler that acknowledges what it is given."""

    async def __call__(self, entries: Sequence[Entry], settle: Settle) -> None:
        for entry in entries:
            settle(entry, Acknowledge())

    async def dead(self, entries: Sequence[Entry], settle: Settle) -> None:
        await self(entries, settle)


async def run(redis_url: str) -> None:
    settings = load_settings(_env_file=None, redis_url=redis_url)
    configure(settings, "engine")
    no_pool = cast("object", None)
    resources = Resources(settings, no_pool, no_pool, open_redis(settings), open_reader(settings))  # type: ignore[arg-type]
    await Consumer(resources, Database(), EVENTS, "engine", Nothing(), LANES * BATCH_MAX).run(asyncio.Event())


if __name__ == "__main__":
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # as consumers/__main__.py does
    uvloop.run(run(sys.argv[1]))
