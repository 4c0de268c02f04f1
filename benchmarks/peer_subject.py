"""The peer as a subject: peer.py starts it, this looks at it."""

import time
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

    async def ready(self, place: Place, number: int) -> bool:
        return await peer.waiting_workers(place.servers.redis_url) == number

    async def store(self, place: Place, events: int) -> None:
        await peer.fill(place.servers.redis_url, events)
        await peer.hold(place.servers.redis_url)

    async def release(self, place: Place, events: range) -> float:
        began = time.time()
        await peer.release(place.servers.redis_url, len(events))
        return began

    async def idle(self, place: Place) -> bool:
        pipe = place.redis.pipeline(transaction=False)
        for name in ("wait", "active"):
            pipe.llen(QUEUE + name)
        return not any(await pipe.execute())


def _child(script: str) -> int:
    return next(child.pid for child in psutil.Process().children() if script in " ".join(child.cmdline()))
