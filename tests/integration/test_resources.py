"""Connections whose other end is silent are given up, all of them at once, and new ones work."""

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from app.resources import open_engine, open_resources
from app.settings import Settings
from tests.proxy import Proxy

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
