"""The ceiling as a subject."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from redis.exceptions import ResponseError

from app.process import free_port
from benchmarks.bare import GROUP, STREAM
from benchmarks.bare.worker import LANES
from benchmarks.servers import Place
from benchmarks.subject import Process
from tests.processes import bare_environment, process

STORE = """
insert into event (event_id, type, user_id, payload)
select 'evt-' || n, 'ORDER_PLACED', 'user_' || n % 10000, '{"orderAmount":250,"items":["Laptop","Mouse"]}'
from generate_series(1, $1) n order by n
"""
PUBLISH = """
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  redis.call('XADD', KEYS[1], '*', 'event', i, 'user_id', 'user_' .. (i % 10000))
end
"""


@dataclass(frozen=True, slots=True)
class Bare:
    name: str = "bare"
    template: str = "bare_tables"
    sent: str = """
select count(*), extract(epoch from max(pg_xact_commit_timestamp(xmin)))::float8 from notification where status = 'SENT'"""
    latencies: str = """
select e.event_id, max(extract(epoch from n.updated_at)::float8),
  max(extract(epoch from pg_xact_commit_timestamp(n.xmin))::float8)
from event e join notification n on n.event_pk = e.id where n.status = 'SENT' group by e.event_id having count(*) = 3"""

    async def create_tables(self, database_url: str) -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute((Path(__file__).parent / "schema.sql").read_text())
        await connection.close()

    @contextmanager
    def api(self, place: Place) -> Iterator[Process]:
        port = free_port(0)
        command = ["benchmarks.bare.api", place.servers.redis_url, place.database_url, str(port)]
        with process(command, bare_environment(), place.folder) as child:
            yield Process(child.pid, f"http://127.0.0.1:{port}")

    @contextmanager
    def workers(self, place: Place, number: int) -> Iterator[Sequence[Process]]:
        command = ["benchmarks.bare.worker", place.servers.redis_url, place.database_url]
        with ExitStack() as stack:
            children = [stack.enter_context(process(command, bare_environment(), place.folder)) for _ in range(number)]
            yield [Process(child.pid) for child in children]

    async def ready(self, place: Place, number: int) -> bool:
        try:
            return len(await place.redis.xinfo_consumers(STREAM, GROUP)) == LANES * number
        except ResponseError:
            return False

    async def store(self, place: Place, events: int) -> None:
        await place.database.execute(STORE, events)
        await place.database.execute("analyze")

    async def release(self, place: Place, events: range) -> float:
        began = time.time()
        await place.redis.eval(PUBLISH, 1, STREAM, str(events[0]), str(events[-1]))
        return began

    async def idle(self, place: Place) -> bool:
        return bool(await place.redis.xlen(STREAM) == 0)
