"""The short way for hot commands, on a real server: answers in order, errors to who asked, lost lines replaced."""

import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from redis.exceptions import ConnectionError, NoScriptError, RedisError, ResponseError, TimeoutError

from app.redis_client import HotRedis
from app.resources import open_reader, open_redis
from app.settings import Settings
from tests.integration.api import closed_port
from tests.integration.conftest import patient
from tests.proxy import Proxy


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[HotRedis]:
    client = open_redis(patient(settings))
    yield client
    await client.aclose()


async def lines(redis: HotRedis) -> int:
    """Connections that the server sees, but for the one that asks."""
    return len(await redis.client_list()) - 1


async def test_many_at_once_share_a_line_and_get_their_own_answers(redis: HotRedis) -> None:
    before = await lines(redis)
    answers = await asyncio.gather(*(redis.execute_command(b"ECHO", str(n)) for n in range(500)))
    assert answers == [str(n).encode() for n in range(500)]
    assert await lines(redis) == before + 1


async def test_errors_are_redis_pys_own_and_reach_only_who_asked(redis: HotRedis) -> None:
    asked = [(b"EVALSHA", "0" * 40, 0), (b"INCR", "n"), (b"NOSUCH",), (b"INCR", "n")]
    unknown, first, no_such, second = await asyncio.gather(*(redis.execute_command(*a) for a in asked), return_exceptions=True)
    assert (first, second) == (1, 2)
    assert type(unknown) is NoScriptError
    assert type(no_such) is ResponseError
    await redis.delete("n")


async def test_who_gives_up_leaves_the_others_their_answers(redis: HotRedis) -> None:
    first, second, third = (asyncio.ensure_future(redis.execute_command(b"ECHO", str(n))) for n in range(3))
    await asyncio.sleep(0)  # all are asked
    second.cancel()
    assert [await first, await third] == [b"0", b"2"]
    assert second.cancelled()


async def test_readers_that_wait_hold_up_nobody(settings: Settings, redis: HotRedis) -> None:
    reader = open_reader(settings)
    before = await lines(redis)
    blocked = [asyncio.ensure_future(reader.execute_command(b"BLPOP", f"list {n}", 0.4)) for n in range(2)]
    await redis.rpush("list 1", "x")
    assert await blocked[1] == [b"list 1", b"x"]
    assert not blocked[0].done()
    assert await reader.execute_command(b"BLPOP", "list 1", 0.01) is None, "on the line that is free"
    assert await lines(redis) == before + 2
    assert await blocked[0] is None
    await reader.aclose()


async def test_a_server_that_is_away_is_an_error_and_no_hang(settings: Settings) -> None:
    away = open_redis(settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{closed_port()}"}))
    for answer in await asyncio.gather(*(away.execute_command(b"PING") for _ in range(3)), return_exceptions=True):
        assert type(answer) is ConnectionError
    await away.aclose()


@pytest.fixture
async def way(settings: Settings) -> AsyncIterator[tuple[Proxy, HotRedis]]:
    """A client that can be cut off: no answer for 0.2 s is too late."""
    net = await Proxy(urlsplit(settings.redis_url).port or 0).start()
    client = open_redis(settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{net.port}"}))
    yield net, client
    await client.aclose()
    await net.stop()


async def all_fail(client: HotRedis) -> set[type]:
    told = await asyncio.gather(*(client.execute_command(b"PING") for _ in range(5)), return_exceptions=True)
    return {type(answer) for answer in told}


async def test_a_line_that_is_half_open_is_given_up_with_all_who_wait(way: tuple[Proxy, HotRedis]) -> None:
    net, client = way
    assert await client.execute_command(b"PING") == b"PONG"
    net.half_open()
    assert await all_fail(client) == {TimeoutError}
    net.heal()
    assert await client.execute_command(b"PING") == b"PONG"


async def test_who_waits_for_a_connection_hears_why_another_got_none(way: tuple[Proxy, HotRedis]) -> None:
    """One after the other, each with a time limit of its own, they would wait for longer than a publication may."""
    net, client = way
    net.half_open()
    began_s = time.monotonic()
    assert await all_fail(client) == {TimeoutError}
    assert time.monotonic() - began_s < 3 * 0.2


async def test_a_line_that_is_cut_is_replaced(way: tuple[Proxy, HotRedis], settings: Settings) -> None:
    net, client = way
    assert await client.execute_command(b"PING") == b"PONG"
    waiting = asyncio.ensure_future(client.execute_command(b"BLPOP", "nothing", 0.1))
    await asyncio.sleep(0)
    net.lead_to(urlsplit(settings.redis_url).port or 0)
    with pytest.raises(ConnectionError):
        await waiting
    assert await client.execute_command(b"PING") == b"PONG"


async def test_a_password_that_is_wrong_says_so(settings: Settings) -> None:
    wrong = open_redis(settings.model_copy(update={"redis_url": settings.redis_url.replace("redis://", "redis://ann:x@")}))
    with pytest.raises(RedisError, match="invalid username-password"):
        await wrong.execute_command(b"PING")
    await wrong.aclose()


async def test_what_is_no_redis(settings: Settings) -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = open_redis(settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{port}"}))
    with pytest.raises(RedisError):
        await client.execute_command(b"PING")
    await client.aclose()
    server.close()
