"""The faults: each acts on a system under load and returns once it is healed. Tests take them one by one, the soak at random."""

import asyncio
import resource
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app import streams
from app.domain import Channel
from tests.faults.provider import Mode
from tests.faults.servers import Valkey
from tests.faults.system import RECLAIM_AFTER_S, Part, System
from tests.proxy import Proxy

A_WHILE_S = 0.75 * RECLAIM_AFTER_S
SLOW_S = 0.4
CARRIED = 10  # entries

# ---- Redis: data lost, by hand or by a crash


@asynccontextmanager
async def much_to_lose(system: System) -> AsyncIterator[None]:
    """Inside, the streams carry work in mid-send and what waits for a slot (the provider is slow, slots are few), and events that
    nobody has read (consumers stand still).
    """
    await system.provider.behave(Mode(latency_s=SLOW_S))
    await system.until(lambda: carried(system, *(streams.channel_stream(channel) for channel in Channel)))
    for part in system.consumers:
        part.send(signal.SIGSTOP)
    await system.until(lambda: carried(system, streams.EVENTS))
    yield
    for part in system.consumers:
        part.send(signal.SIGCONT)
    await system.provider.behave(Mode())


async def carried(system: System, *of: str) -> bool:
    """Does each stream hold at least so many entries?"""
    async with system.redis() as redis:
        return all([await redis.xlen(stream) >= CARRIED for stream in of])


async def flushall(system: System) -> None:
    async with much_to_lose(system):
        await system.command("FLUSHALL")
        system.lost_data()


async def delete_streams(system: System) -> None:
    async with much_to_lose(system):
        await system.command("DEL", streams.EVENTS)
        await system.command("DEL", streams.channel_stream(Channel.EMAIL))


async def destroy_groups(system: System) -> None:
    async with much_to_lose(system):
        for stream in streams.WORK_STREAMS:
            await system.command("XGROUP", "DESTROY", stream, streams.GROUP)


async def trim_streams(system: System) -> None:
    async with much_to_lose(system):
        for stream in streams.WORK_STREAMS:
            await system.command("XTRIM", stream, "MAXLEN", 0)


async def delete_consumers(system: System) -> None:
    """XGROUP DELCONSUMER forgets what the consumer had pending."""
    async with much_to_lose(system), system.redis() as redis:
        for stream in streams.WORK_STREAMS:
            for consumer in await redis.xinfo_consumers(stream, streams.GROUP):
                await redis.xgroup_delconsumer(stream, streams.GROUP, consumer["name"])


async def redis_killed(system: System) -> None:
    """kill -9; back with what its persistence kept: with fsync each second that may be without the last one."""
    async with much_to_lose(system):
        system.valkey.kill()
        system.lost_data()
    await system.for_a_while(A_WHILE_S)
    system.valkey.start()


async def redis_fails_over(system: System) -> None:
    """To a replica that was cut off from its primary a while before: what was written since is lost, what was done is back."""
    replica = Valkey(system.folder / "replica", options=("--replicaof", f"127.0.0.1 {system.valkey.port}"))
    replica.start()
    await system.until(lambda: _in_step(replica))
    await _tell(replica, "REPLICAOF", "NO", "ONE")
    system.lost_data()
    await system.flowing(10)
    async with much_to_lose(system):
        system.valkey.kill()
        system.redis_net.lead_to(replica.port)
        system.valkey = replica


async def redis_out_of_memory(system: System) -> None:
    await system.command("CONFIG", "SET", "maxmemory", 1)
    await system.for_a_while(A_WHILE_S)
    await system.command("CONFIG", "SET", "maxmemory", 0)


async def redis_disk_full(system: System) -> None:
    """Its append-only file cannot grow: it refuses writes until it can."""
    everything = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(system.valkey.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    await system.until(lambda: _refuses_writes(system))
    await system.for_a_while(A_WHILE_S)
    resource.prlimit(system.valkey.pid, resource.RLIMIT_FSIZE, everything)
    await system.until(lambda: _takes_writes(system))


# ---- PostgreSQL


async def postgres_restarted(system: System) -> None:
    system.postgres.stop()
    system.postgres.start()


async def postgres_crashed(system: System) -> None:
    system.postgres.kill()
    await system.for_a_while(A_WHILE_S)
    system.postgres.start()


async def postgres_away_for_long(system: System) -> None:
    """Five windows: in proportion, five minutes of the default settings."""
    system.postgres.stop()
    await system.for_a_while(5 * RECLAIM_AFTER_S)
    system.postgres.start()


# ---- the network


async def cut(system: System, net: Proxy) -> None:
    net.cut()
    await system.for_a_while(A_WHILE_S)
    net.heal()


async def delayed(system: System, net: Proxy) -> None:
    """Every packet late by as much as Redis' time limit."""
    net.delay_s = system.settings.redis_timeout_s
    await system.for_a_while(A_WHILE_S)
    net.heal()


async def half_open(system: System, net: Proxy) -> None:
    net.half_open()
    await system.for_a_while(A_WHILE_S)
    net.heal()


async def replies_lost(system: System, net: Proxy) -> None:
    """Five answers in a row do not come: the work is done, and nobody was told."""
    net.replies_to_lose = 5
    await system.until(lambda: net.replies_to_lose == 0)
    net.heal()


# ---- providers


async def provider_behaves(system: System, mode: Mode) -> None:
    await system.provider.behave(mode)
    await system.for_a_while(A_WHILE_S)
    await system.provider.behave(Mode())


# ---- our own processes


async def consumer_killed(system: System) -> None:
    system.victim.kill()
    await system.restart(system.victim)


async def consumer_stopped_past_its_lease(system: System) -> None:
    system.victim.send(signal.SIGSTOP)
    await system.for_a_while(1.5 * RECLAIM_AFTER_S)
    system.victim.send(signal.SIGCONT)


async def api_killed(system: System) -> None:
    system.api.kill()
    await system.restart(system.api)


async def rolling_restart(system: System) -> None:
    """As a deployment does: each process in turn is asked to leave, drains, and is replaced."""
    for part in (system.api, *system.consumers):
        await drained(system, part)
        await system.restart(part)
        await system.flowing(10)


async def drained(system: System, part: Part) -> None:
    part.send(signal.SIGTERM)
    await system.until(lambda: part.ended() is not None)
    assert part.ended() == 0, f"{part.name} ended with {part.ended()}"


async def supervise(system: System, **env: str) -> None:
    """Starts each consumer process that ended again, for ever."""
    while True:
        for part in system.consumers:
            if part.ended() is not None:
                part.start(**env)
        await asyncio.sleep(0.05)


async def _in_step(replica: Valkey) -> bool:
    return b"master_link_status:up" in await _tell(replica, "INFO", "replication")


async def _tell(server: Valkey, *words: str) -> bytes:
    async with Redis(port=server.port, legacy_responses=False) as redis:
        redis.response_callbacks.clear()
        return bytes(await redis.execute_command(*words))  # type: ignore[no-untyped-call]


async def _refuses_writes(system: System) -> bool:
    return not await _takes_writes(system)


async def _takes_writes(system: System) -> bool:
    try:
        await system.command("SET", "tidings:probe", "1", "PX", "1000")
    except RedisError:
        return False
    return True
