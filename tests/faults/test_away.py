"""A server is killed under load and comes back: nothing is lost, nothing is sent twice, no try is used up."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from app import local, schema, streams
from app.accept import Accepted, Acceptor, NotAccepted
from app.resources import Resources, open_resources
from app.settings import Settings, load_settings
from app.store.batch import AWAY
from app.streams import EVENTS
from tests.integration.consuming import consuming
from tests.support import add_events, event

Wait = Callable[..., Awaitable[Any]]
EVENTS_POSTED = 20


class House:
    """Servers of this test's own, which it may kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o755)  # where PostgreSQL has to run as another user
        self.valkey = local.start_valkey(folder / "valkey", 0)
        self.postgres = local.start_postgres(folder / "postgres", 0, options=local.FAST)

    def settings(self, **override: Any) -> Settings:
        slow = {f"simulated_{c}_latency_ms": 300 for c in ("email", "sms", "push")}
        sure = {f"simulated_{c}_failure_rate": 0 for c in ("email", "sms", "push")}
        known = {"redis_url": self.valkey.url, "database_url": self.postgres.url, "reclaim_after_s": 4, "redis_timeout_s": 0.4}
        return load_settings(_env_file=None, **{**known, **slow, **sure, **override})

    def kill_postgres(self) -> None:
        self.postgres.process.kill()
        self.postgres.process.wait()

    def start_postgres(self) -> None:
        self.postgres = local.start_postgres(self.folder / "postgres", self.postgres.port, exactly=True, options=local.FAST)

    def kill_valkey(self) -> None:
        self.valkey.process.kill()
        self.valkey.process.wait()

    def start_valkey(self) -> None:
        self.valkey = local.start_valkey(self.folder / "valkey", self.valkey.port, exactly=True)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    built = House(tmp_path)
    try:
        await schema.apply(built.postgres.url)
        yield built
    finally:
        built.postgres.stop()
        built.valkey.stop()


@asynccontextmanager
async def working(house: House) -> AsyncIterator[tuple[Resources, Acceptor]]:
    async with (
        open_resources(house.settings(), "test") as resources,
        Acceptor(resources).running() as acceptor,
        consuming(resources),
    ):
        yield resources, acceptor


async def post(acceptor: Acceptor) -> None:
    answers = await asyncio.gather(*(acceptor.accept(event(user_id=f"user-{n}")) for n in range(EVENTS_POSTED)))
    assert set(answers) == {Accepted.NEW}


async def some_in_mid_send(resources: Resources) -> bool:
    return bool(await resources.pool.fetchval("select count(*) > 10 from notification where status = 'PROCESSING'"))


async def each_sent_once(resources: Resources) -> bool:
    try:
        rows = await resources.pool.fetch(
            "select status, attempt, possible_duplicate, count(*) from notification group by 1, 2, 3"
        )
    except AWAY:  # this connection died with the server
        return False
    return [tuple(r) for r in rows] == [("SENT", 1, False, 3 * EVENTS_POSTED)]


async def test_postgresql_killed_in_mid_send_the_outcomes_are_held_until_it_is_back(house: House, wait_until: Wait) -> None:
    async with working(house) as (resources, acceptor):
        await post(acceptor)
        await wait_until(lambda: some_in_mid_send(resources))
        house.kill_postgres()
        with pytest.raises(NotAccepted):
            await acceptor.accept(event())
        house.start_postgres()
        await wait_until(lambda: each_sent_once(resources), within_s=20)
        await wait_until(lambda: nothing_pending(resources))


async def test_redis_killed_under_load_events_are_still_accepted_and_all_is_sent(house: House, wait_until: Wait) -> None:
    async with working(house) as (resources, acceptor):
        house.kill_valkey()
        await post(acceptor)
        house.start_valkey()
        await wait_until(lambda: each_sent_once(resources), within_s=20)
        await wait_until(lambda: nothing_pending(resources))


async def test_redis_killed_in_mid_send_nothing_is_sent_again(house: House, wait_until: Wait) -> None:
    async with working(house) as (resources, acceptor):
        await post(acceptor)
        await wait_until(lambda: some_in_mid_send(resources))
        house.kill_valkey()
        house.start_valkey()
        await wait_until(lambda: each_sent_once(resources), within_s=20)
        await wait_until(lambda: nothing_pending(resources))


async def nothing_pending(resources: Resources) -> bool:
    try:
        return not sum([await resources.redis.xlen(stream) for stream in streams.WORK_STREAMS])
    except RedisError:  # this connection died with the server
        return False


async def test_redis_clock_behind_the_streams_last_id_all_that_is_pending_is_taken_back(house: House, wait_until: Wait) -> None:
    """As after a step back of the clock: idle times stand still, so no window would pass for an hour."""
    async with open_resources(house.settings(reclaim_after_s=60, redis_timeout_s=1), "test") as resources:
        stored, in_an_hour = await add_one(resources), round(1000 * (await server_time_s(resources) + 3600))
        await streams.create_group(resources.redis, EVENTS)
        await resources.redis.xadd(EVENTS, {"event": str(stored)}, id=f"{in_an_hour}-0")
        assert len(await streams.read(resources.reader, EVENTS, "silent", 1, None)) == 1
    async with working(house) as (resources, _):
        await wait_until(lambda: resources.pool.fetchval("select count(*) = 1 from event where status = 'ROUTED'"))


async def server_time_s(resources: Resources) -> int:
    return int((await resources.redis.time())[0])


async def add_one(resources: Resources) -> int:
    [pk] = await add_events(resources, event())
    return pk
