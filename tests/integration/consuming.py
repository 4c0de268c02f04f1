"""The real consumer loop in this process, for tests that look at what it leaves."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from app import streams
from app.domain import Channel, Outgoing
from app.resources import Resources
from app.store.owed import clock
from consumers.providers import Provider
from consumers.providers.choose import open_providers
from consumers.work import work

DRAIN_WITHIN_S = 60


@asynccontextmanager
async def consuming(
    resources: Resources, provider: Provider | None = None, channels: Iterable[Channel] = Channel
) -> AsyncIterator[None]:
    """All duties of one consumer process while inside; drained on leaving. `provider`: for all its channels, not as set."""
    stopping = asyncio.Event()
    async with open_providers(resources.settings, channels) as providers:
        chosen = providers if provider is None else dict.fromkeys(channels, provider)
        working = asyncio.ensure_future(work(resources, chosen, stopping))
        try:
            yield
        finally:
            stopping.set()
            async with asyncio.timeout(DRAIN_WITHIN_S):
                await working


async def all_done(resources: Resources) -> bool:
    """Is every event routed, and every notification final?"""
    return bool(
        await resources.pool.fetchval(
            "select not exists (select from event where not done) and not exists (select from notification where not done)"
        )
    )


async def settled(resources: Resources) -> bool:
    """And nothing left on any stream?"""
    return not any([await resources.redis.xlen(stream) for stream in streams.WORK_STREAMS]) and await all_done(resources)


async def post(resources: Resources, *event_pks: int) -> None:
    now = await clock(resources.pool)
    await streams.publish(resources.redis, streams.EVENTS, [Outgoing(pk, f"e{pk}", "u", "T", now) for pk in event_pks])


async def reading(resources: Resources, number: int = len(streams.WORK_STREAMS)) -> bool:
    """Does the process wait for entries of all its streams?"""
    return bool((await resources.redis.info("clients"))["blocked_clients"] == number)


async def entries_added(resources: Resources) -> list[int]:
    """So many each stream has carried: that of events, then those of the channels."""
    return [(await resources.redis.xinfo_stream(stream))["entries-added"] for stream in streams.WORK_STREAMS]
