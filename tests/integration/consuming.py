"""The real consumer loop in this process, for tests that look at what it leaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.domain import Channel
from app.resources import Resources
from consumers.work import work


@asynccontextmanager
async def consuming(resources: Resources) -> AsyncIterator[None]:
    """All duties of one consumer process while inside; drained on leaving."""
    stopping = asyncio.Event()
    working = asyncio.ensure_future(work(resources, Channel, stopping))
    try:
        yield
    finally:
        stopping.set()
        await working
