"""Tidings as a subject: its own processes, started as a user starts them, with providers that answer at once and never fail."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from app import schema
from app.process import free_port
from app.settings import Settings, load_settings
from app.streams import EVENTS, GROUP, WORK_STREAMS
from benchmarks.servers import Place
from benchmarks.subject import Process
from tests.processes import environment, process

FILL = (Path(__file__).parent / "fill.lua").read_text()
FILL_MAX = 20_000  # a call, which nobody can interrupt
INSTANT = {f"simulated_{c}_{what}": 0 for c in ("email", "sms", "push") for what in ("latency_ms", "failure_rate")}

# Identity starts at 1 in an empty table, so event n has row n.
STORE = """
insert into event (event_id, type, user_id, payload, occurred_at, body_hash)
select 'evt-' || n, 'ORDER_PLACED', 'user_' || n % $2, '{"orderAmount":250,"items":["Laptop","Mouse"]}', now(),
  sha256(n::text::bytea)
from generate_series(1, $1) n order by n
"""


@dataclass(frozen=True, slots=True)
class Tidings:
    """`settings` override those of the processes; log lines are written as by default, to a file.

    `waiting` entries are on the streams that are not due: it is idle all the same.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    users: int = 10_000
    waiting: int = 0
    name: str = "Tidings"
    template: str = "tidings_tables"
    sent: str = """
select count(*), extract(epoch from max(pg_xact_commit_timestamp(xmin)))::float8 from notification where final_status = 'SENT'"""
    latencies: str = """
select e.event_id, max(extract(epoch from a.ended_at)::float8),
  max(extract(epoch from pg_xact_commit_timestamp(n.xmin))::float8)
from event e join notification n on n.event_pk = e.id join attempt a on a.notification_id = n.id
where n.final_status = 'SENT' group by e.event_id having count(*) = 3"""

    async def create_tables(self, database_url: str) -> None:
        await schema.apply(database_url)

    @contextmanager
    def api(self, place: Place) -> Iterator[Process]:
        port = free_port(0)
        with process(["app", "api"], environment(self._settings(place), api_port=port), place.folder) as child:
            yield Process(child.pid, f"http://127.0.0.1:{port}")

    @contextmanager
    def workers(self, place: Place, number: int) -> Iterator[Sequence[Process]]:
        env = environment(self._settings(place))
        with ExitStack() as stack:
            children = [stack.enter_context(process(["consumers"], env, place.folder)) for _ in range(number)]
            yield [Process(child.pid) for child in children]

    async def ready(self, place: Place, number: int) -> bool:
        pipe = place.redis.pipeline(transaction=False)
        for stream in WORK_STREAMS:
            pipe.xinfo_consumers(stream, GROUP)
        streams = await pipe.execute(raise_on_error=False)  # one without a group is an error
        return all(isinstance(each, list) and sum(c["pending"] == 0 for c in each) == number for each in streams)

    async def store(self, place: Place, events: int) -> None:
        await place.database.execute(STORE, events, self.users)
        await place.database.execute("analyze")

    async def release(self, place: Place, events: range) -> float:
        published_at, began = await published(place), time.time()
        await self.publish(place, events, published_at)
        return began

    async def publish(self, place: Place, events: range, published_at: datetime) -> None:
        """The entries of these events, by number."""
        for part in (events[start : start + FILL_MAX] for start in range(0, len(events), FILL_MAX)):
            args = (str(part[0]), str(part[-1]), str(self.users), published_at.isoformat())
            await place.redis.eval(FILL, 1, EVENTS, *args)

    async def idle(self, place: Place) -> bool:
        pipe = place.redis.pipeline(transaction=False)
        for stream in WORK_STREAMS:
            pipe.xlen(stream)
        return sum(await pipe.execute()) <= self.waiting  # type: ignore[no-any-return]

    def _settings(self, place: Place) -> Settings:
        known = {"redis_url": place.servers.redis_url, "database_url": place.database_url, "rate_limit_per_user": 1_000_000}
        return load_settings(_env_file=None, **{**INSTANT, **known, **self.settings})


async def published(place: Place) -> datetime:
    """When the stored events were published, as their rows say: what their entries must carry."""
    at: datetime = await place.database.fetchval("select published_at from event where id = 1")
    return at
