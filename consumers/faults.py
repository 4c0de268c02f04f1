"""Keeps the simulated providers up to date on the faults they are made to have: one look a second, and none per message."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.cancelled import unless_cancelled
from app.domain import Channel
from app.faults import Fault, read_faults
from consumers.providers import Provider
from consumers.providers.simulated import Simulated

log = structlog.get_logger()

LOOK_EVERY_S = 1.0


async def follow_faults(redis: Redis, providers: Mapping[Channel, Provider]) -> None:
    """For ever; returns at once where no channel is simulated. Redis away: what was heard last goes on until its end."""
    simulated = {channel: provider for channel, provider in providers.items() if isinstance(provider, Simulated)}
    while simulated:
        with suppress(RedisError, OSError, TimeoutError):
            _hear(simulated, await read_faults(redis, simulated))
        unless_cancelled()
        await asyncio.sleep(LOOK_EVERY_S)


def _hear(simulated: Mapping[Channel, Simulated], told: Mapping[Channel, Fault]) -> None:
    for channel, provider in simulated.items():
        was, fault = provider.current.now(), told.get(channel)
        provider.current.hear(fault)
        if fault is None and was is not None:
            log.warning("the simulated provider is well again", channel=channel.value)
        elif fault is not None and (was is None or (was.kind, was.amount) != (fault.kind, fault.amount)):
            facts = {"fault": fault.kind.value, "amount": fault.amount, "for_s": round(fault.left_s)}
            log.warning("the simulated provider has a fault", channel=channel.value, **facts)
