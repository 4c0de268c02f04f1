"""Commands packed in C are the same bytes as redis-py's own."""

from typing import Any

import pytest
from redis.asyncio import Connection, Redis, SSLConnection, UnixDomainSocketConnection

from app.domain import Channel
from app.packing import pack_in_c


def connection(url: str) -> Connection:
    client = Redis.from_url(url, decode_responses=False)
    pack_in_c(client)
    opened: Connection = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    return opened


@pytest.mark.parametrize(
    "command",
    [
        ("PING",),
        ("CLIENT SETINFO", "LIB-NAME", "redis-py"),
        (b"SCRIPT EXISTS", "ab"),
        (b"XREADGROUP", "GROUP", "tidings", "a consumer", "COUNT", 500, "STREAMS", "tidings:{0}:email", ">"),
        ("EVALSHA", "ab" * 20, 1, "key", "", b"", b"\x00\r\n\xff", "zoë 📨", -1, 0, 2**63, 0.1, 1e21, Channel.EMAIL),
        ("XACK", "key", *(b"1-%d" % n for n in range(500))),
        ("SET", "key", "x" * 100_000, "PX", 5),
    ],
)
def test_the_same_bytes(command: tuple[Any, ...]) -> None:
    expected = b"".join(Connection().pack_command(*command))
    assert b"".join(connection("redis://127.0.0.1").pack_command(*command)) == expected


@pytest.mark.parametrize("value", [None, object(), "\ud800"])
def test_what_cannot_be_packed_is_an_error(value: Any) -> None:
    with pytest.raises((TypeError, UnicodeError)):
        connection("redis://127.0.0.1").pack_command("SET", "key", value)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://127.0.0.1", Connection),
        ("rediss://127.0.0.1", SSLConnection),
        ("unix:///tmp/no.sock", UnixDomainSocketConnection),
    ],
)
def test_whatever_the_connection(url: str, kind: type[Connection]) -> None:
    assert isinstance(connection(url), kind)
    assert connection(url).pack_command("PING") == [b"*1\r\n$4\r\nPING\r\n"]
