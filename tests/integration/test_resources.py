"""Connections whose other end is silent are given up, all of them at once, and new ones work."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from app import severed
from app.resources import SESSION, Resources, open_engine, open_resources
from app.settings import Settings
from app.store.batch import AWAY
from tests.proxy import Proxy
from tests.support import own

LIMIT_S = 0.3


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "statement_within_s", LIMIT_S)


async def proxied(database_url: str) -> tuple[Proxy, str]:
    port = urlsplit(database_url).port
    assert port is not None
    net = await Proxy(port).start()
    return net, database_url.replace(f":{port}/", f":{net.port}/")


async def test_a_pool_of_half_open_connections_is_found_out_once(
    make_settings: Callable[..., Settings], database_url: str, impatient: None
) -> None:
    net, url = await proxied(database_url)
    async with open_resources(make_settings(database_url=url), "test") as resources:
        await asyncio.gather(*(resources.pool.execute("select pg_sleep(0.05)") for _ in range(8)))
        net.half_open()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(resources.pool.execute("select 1"), 10 * LIMIT_S)
        net.heal()
        async with asyncio.timeout(LIMIT_S):  # seven more that are dead would take seven times that
            assert await resources.pool.fetchval("select 1") == 1
    await net.stop()


async def test_so_is_one_of_the_readers(make_settings: Callable[..., Settings], database_url: str, impatient: None) -> None:
    from sqlalchemy import text

    net, url = await proxied(database_url)
    async with open_engine(make_settings(database_url=url), "test") as engine:
        async with engine.connect() as connection:
            await connection.execute(text("select 1"))
        net.half_open()
        with pytest.raises(TimeoutError):
            async with engine.connect() as connection:
                await connection.execute(text("select 1"))
        net.heal()
        async with asyncio.timeout(10 * LIMIT_S), engine.connect() as connection:
            assert (await connection.execute(text("select 1"))).scalar() == 1
    await net.stop()


async def test_a_new_connection_is_of_use_where_the_way_is_slow(
    make_settings: Callable[..., Settings], database_url: str, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two round trips for its first statement: what the types are, the process knows from its start."""
    monkeypatch.setattr(severed, "_types", {})
    net, url = await proxied(database_url)
    async with open_resources(make_settings(database_url=url), "test") as resources:
        resources.hot.expire()
        await resources.pool.expire_connections()
        net.delay_s = LIMIT_S / 7
        arrays = [1], [2], [0.5], [True], [datetime.now(UTC)], ["a"]
        ask = "select $1::bigint[], $2::int[], $3::float8[], $4::boolean[], $5::timestamptz[], $6::text[]"
        for way in (resources.hot, resources.pool):
            [row] = await way.fetch(ask, *arrays)
            assert tuple(row) == arrays
    await net.stop()


async def test_each_connection_knows_the_elements_of_what_the_process_knows(resources: Resources) -> None:
    for _ in range(2):
        async with own(resources.hot) as connection:
            assert await connection.fetchval("select array['[1,2)'::int4range]") == [asyncpg.Range(1, 2)]


async def test_each_connection_asks_about_types_that_are_not_postgresqls_own(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has such a number may be another type tomorrow."""
    asyncpgs, asked = vars(asyncpg.Connection)["_introspect_types"], list[object]()

    async def introspect(self: object, oids: object, within_s: object) -> Any:
        asked.append(oids)
        return await asyncpgs(self, oids, within_s)

    monkeypatch.setattr(asyncpg.Connection, "_introspect_types", introspect)
    await resources.pool.execute("create type importance as enum ('low', 'high')")
    try:
        for asks in (1, 2):
            async with own(resources.hot) as connection:
                [row] = await connection.fetch("select array['low']::importance[], array[1]::bigint[]")
            assert (tuple(row), len(asked)) == ((["low"], [1]), asks)
    finally:
        await resources.pool.execute("drop type importance")


async def test_a_statement_that_is_given_up_ends_on_the_server_too(
    make_settings: Callable[..., Settings], database_url: str, impatient: None, wait_until: Callable[..., Awaitable[Any]]
) -> None:
    """Each would keep a backend for as long as the lock lasts, beyond the size of the pool, and take effect afterwards."""
    async with open_resources(make_settings(database_url=database_url), "test") as resources:
        other, locker = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
        async with locker.transaction():
            await locker.execute("lock table preference")
            for _ in range(3):
                with pytest.raises(AWAY):  # by its time limit; or asyncpg noticed first that the connection was cut
                    await resources.pool.execute("delete from preference")
            await wait_until(lambda: backends(other, 0), within_s=5)
        await other.close()
        await locker.close()


async def backends(connection: "asyncpg.Connection[asyncpg.Record]", number: int) -> bool:
    """Do so many run a statement or hold a transaction open?"""
    ours = "application_name = 'tidings test' and datname = current_database() and state <> 'idle'"
    return bool(await connection.fetchval(f"select count(*) from pg_stat_activity where {ours}") == number)


async def test_a_lock_of_a_host_that_lost_its_power_is_given_up(
    make_settings: Callable[..., Settings], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SESSION, "idle_in_transaction_session_timeout", "300ms")
    net, url = await proxied(database_url)
    async with open_resources(make_settings(database_url=url), "test") as resources:
        other = await asyncpg.connect(database_url)
        async with resources.pool.acquire() as connection:
            await connection.execute("begin")
            await connection.execute("insert into preference (user_id) values ('ann')")
            net.half_open()
            await other.execute("insert into preference (user_id) values ('ann')", timeout=5)
            net.heal()
            connection.terminate()
        await other.close()
    await net.stop()
