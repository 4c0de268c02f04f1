"""The real consumer loop in this process, for tests that look at what it leaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.domain import Channel
from app.resources import Resources
from consumers.providers import Provider
from consumers.providers.choose import open_providers
from consumers.work import work

DRAIN_WITHIN_S = 60


@asynccontextmanager
async def consuming(resources: Resources, provider: Provider | None = None) -> AsyncIterator[None]:
    """All duties of one consumer process while inside; drained on leaving. `provider`: for all channels, not as set."""
    stopping = asyncio.Event()
    async with open_providers(resources.settings, Channel) as providers:
        chosen = providers if provider is None else dict.fromkeys(Channel, provider)
        working = asyncio.ensure_future(work(resources, chosen, stopping))
        try:
            yield
        finally:
            stopping.set()
            async with asyncio.timeout(DRAIN_WITHIN_S):
                await working
