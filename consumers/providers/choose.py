"""Which provider carries which channel, by the settings."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from app.domain import Channel
from app.settings import SIMULATED, Settings
from consumers.providers import Provider
from consumers.providers.simulated import Simulated


@asynccontextmanager
async def open_providers(settings: Settings, channels: Iterable[Channel]) -> AsyncIterator[dict[Channel, Provider]]:
    """One provider per channel, with its connections, until the block ends."""
    async with AsyncExitStack() as opened:
        yield {channel: await _open(settings, channel, opened) for channel in channels}


async def _open(settings: Settings, channel: Channel, opened: AsyncExitStack) -> Provider:
    policy = settings.channel_policy(channel)
    if policy.provider == SIMULATED:
        return Simulated(policy.simulated_latency_ms, policy.simulated_failure_rate, settings.simulated_seed)
    from consumers.providers.webhook import open_webhook  # its HTTP client costs 12 MB

    webhook = open_webhook(policy.provider, settings.webhook_token, policy.concurrency, settings.provider_limit_s / 2)
    return await opened.enter_async_context(webhook)
