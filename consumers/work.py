"""The duties of one consumer process, and its end: the first SIGTERM drains, the second, or the end of the time allowed, cuts."""

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import structlog

from app import streams
from app.batches import Shared
from app.domain import Channel
from app.resources import Resources, open_resources
from app.settings import Settings
from app.store.hot import claim_due
from app.store.notifications import Claim
from app.streams import EVENTS, channel_stream
from app.tallying import tallying
from consumers.alone import Alone
from consumers.at_once import AtOnce
from consumers.channel_limit import ChannelLimit
from consumers.circuit import Circuit
from consumers.consumer import BATCH_MAX, LANES, SPARE, Consumer
from consumers.database import Database
from consumers.deliver import Deliver
from consumers.faults import follow_faults
from consumers.held import Held
from consumers.providers import Provider
from consumers.providers.choose import open_providers
from consumers.record import Recorder
from consumers.relay import Relay
from consumers.retention import Retention
from consumers.route import Route
from consumers.sending import Sending
from consumers.watch import Watch, watched_loop

log = structlog.get_logger()

PACE_S = 0.001  # of routing: several API processes publish more often than it pays to look
ACKNOWLEDGE_LINGER_S = 0.01  # what is not yet acknowledged holds no slot, and delivered again it is found to be final


def consumer_name() -> str:
    """New at every start: a name that is used again would hide the work its former owner left pending."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def limit_for(resources: Resources, channel: Channel) -> ChannelLimit | None:
    per_s = resources.settings.channel_policy(channel).max_per_s
    return ChannelLimit(resources.redis, channel, per_s) if per_s else None


def claiming(resources: Resources, consumer: str) -> Callable[[list[Sequence[int]]], Awaitable[list[list[Claim]]]]:
    """The short claim for several channels at once; an answer for each."""

    async def claim(asks: list[Sequence[int]]) -> list[list[Claim]]:
        claims = await claim_due(resources.hot, [i for ids in asks for i in ids], consumer, resources.settings.lease_s)
        by_id = {c.id: c for c in claims}
        return [[by_id[i] for i in ids if i in by_id] for ids in asks]

    return claim


def acknowledging(resources: Resources) -> Callable[[list[tuple[str, list[bytes]]]], Awaitable[list[None]]]:
    """The acknowledgements of several streams at once."""

    async def acknowledge(asks: list[tuple[str, list[bytes]]]) -> list[None]:
        await streams.acknowledge_all(resources.redis, asks)
        return [None] * len(asks)

    return acknowledge


async def work(resources: Resources, providers: Mapping[Channel, Provider], stopping: asyncio.Event) -> None:
    """All duties, until `stopping` is set and what is in hand is done. A duty that fails ends all, and this raises."""
    settings, name, database = resources.settings, consumer_name(), Database()
    circuits = {c: Circuit(settings, c, name) for c in providers}
    held = Held(resources, circuits)
    recorder, claims = Recorder(resources, database), Shared(claiming(resources, name))
    sending = Sending(resources, database, recorder, name)
    acks = Shared(acknowledging(resources), ACKNOWLEDGE_LINGER_S)
    delivers = {
        c: Deliver(resources, database, c, provider, name, circuits[c], claims, recorder) for c, provider in providers.items()
    }
    alone, relay, retention = Alone(), Relay(resources, database), Retention(resources, database)
    channels = {
        c: (
            Consumer(
                resources,
                database,
                channel_stream(c),
                name,
                deliver,
                settings.channel_policy(c).concurrency,
                limit_for(resources, c),
                circuits[c],
                alone,
                acks,
                ahead=deliver.ahead,
            ),
            deliver,
        )
        for c, deliver in delivers.items()
    }
    route = Route(resources, database, AtOnce(sending, channels))
    slots = LANES * BATCH_MAX + SPARE  # what is sent at once is in hand until it is written
    events = Consumer(resources, database, EVENTS, name, route, slots, alone=alone, acknowledge=acks, pace_s=PACE_S)
    consumers = [events, *(consumer for consumer, _ in channels.values())]
    signs = {
        "relay": relay.sign,
        "held": held.sign,
        "retention": retention.sign,
        "claim": claims.sign,
        "record": recorder.sign,
        "write": sending.sign,
        "acknowledge": acks.sign,
    }
    for consumer in consumers:
        signs.update(consumer.signs())
    await held.read()
    log.info("consuming", consumer=name, streams=[consumer.stream for consumer in consumers])
    async with asyncio.TaskGroup() as recording:
        shared = [
            recording.create_task(duty.run(), name=name)
            for name, duty in (("claim", claims), ("record", recorder), ("write", sending), ("acknowledge", acks))
        ]
        async with asyncio.TaskGroup() as duties:
            for consumer in consumers:
                duties.create_task(consumer.run(stopping), name=f"consume {consumer.stream}")
            repairing = [
                duties.create_task(relay.run(stopping), name="relay"),
                duties.create_task(retention.run(stopping), name="retention"),
                duties.create_task(held.run(), name="held"),
                duties.create_task(Watch(resources, database, consumers, signs).run(), name="watch"),
                *(duties.create_task(circuit.run(resources.redis), name=f"tell {c}") for c, circuit in circuits.items()),
                duties.create_task(follow_faults(resources.redis, providers), name="follow faults"),
            ]
            await stopping.wait()
            for repair in repairing:  # cut anywhere they leave nothing that the next one does not find
                repair.cancel()
        for duty in shared:
            duty.cancel()
    log.info("drained", consumer=name)


async def run(settings: Settings, channels: Iterable[Channel]) -> bool:
    """One consumer process from start to end. False: the time to drain was over before all in hand was recorded."""
    stopping = asyncio.Event()
    async with (
        watched_loop(max(60.0, 4 * settings.reclaim_after_s)),
        open_resources(settings, "consumers") as resources,
        open_providers(settings, channels) as providers,
        tallying(resources),
    ):
        working = asyncio.ensure_future(work(resources, providers, stopping))
        _on_signals(working, stopping, settings.provider_limit_s + settings.margin_s)
        try:
            await working
        except asyncio.CancelledError:
            log.warning("not drained: what was in mid-send is judged by the crash rule once its lease is over")
            return False
    return True


def _on_signals(working: "asyncio.Future[None]", stopping: asyncio.Event, drain_s: float) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if stopping.is_set():
            working.cancel()
        stopping.set()
        loop.call_later(drain_s, working.cancel)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
