"""The peer as a subject: peer.py starts it, this looks at it."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from benchmarks import peer
from benchmarks.peer import Storage
from benchmarks.servers import Place
from benchmarks.subject import Process

QUEUE = "bull:notification-queue:"  # wait and active: lists of BullMQ's


@dataclass(frozen=True, slots=True)
class Peer:
    """`storage`: "pg" is hand-written SQL, the strong one."""

    storage: Storage = "pg"
    name: str = "peer"
    template: str = "peer_tables"
    sent: str = """
select count(*), extract(epoch from max(pg_xact_commit_timestamp(xmin)))::float8 from notification where status = 'SENT'"""
    latencies: str = """
select event_id, max(extract(epoch from updated_at)::float8), max(extract(epoch from pg_xact_commit_timestamp(xmin))::float8)
from notification where status = 'SENT' group by event_id having count(*) = 3"""

    async def create_tables(self, database_url: str) -> None:
        await peer.create_tables(database_url)

    @contextmanager
    def api(self, place: Place) -> Iterator[Process]:
        with peer.peer_api(place.servers.redis_url, place.database_url, place.folder, self.storage) as address:
            yield Process(_child("server.mjs"), address)

    @contextmanager
    def workers(self, place: Place, number: int) -> Iterator[Sequence[Process]]:
        assert number == 1
        with peer.peer_worker(place.servers.redis_url, place.database_url, place.folder, self.storage) as child:
            yield [Process(child.pid)]

    async def ready(self, place: Place, _number: int) -> bool:
        """A worker that is idle blocks on the marker, on a connection of its own."""
        clients = await place.redis.client_list()
        return any(client["cmd"].startswith("bzpopmin") for client in clients) or not await self.idle(place)

    async def store(self, place: Place, events: int) -> None:
        await peer.fill(place.servers.redis_url, events)

    async def release(self, place: Place, _events: int) -> float:
        """It begins by itself; since its first row, so that the start of the process does not count."""
        while True:
            began = await place.database.fetchval("select extract(epoch from min(created_at))::float8 from notification")
            if began:
                return float(began)
            await asyncio.sleep(0.005)

    async def idle(self, place: Place) -> bool:
        pipe = place.redis.pipeline(transaction=False)
        for name in ("wait", "active"):
            pipe.llen(QUEUE + name)
        return not any(await pipe.execute())


def _child(script: str) -> int:
    return next(child.pid for child in psutil.Process().children() if script in " ".join(child.cmdline()))
