"""The webhook provider against a real HTTP server: what it posts, and what each answer, silence or break means."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from app.domain import Channel, Outcome
from app.process import free_port
from app.resources import Resources
from app.settings import load_settings
from consumers.call import call_provider
from consumers.providers import Message
from consumers.providers.choose import open_providers
from consumers.providers.webhook import open_webhook
from consumers.retry import Result
from consumers.time_limit import TimeLimit
from tests.integration.consuming import consuming
from tests.support import add_events, event

MESSAGE = Message("7-0", Channel.EMAIL, "ann", "ann@example.org", "evt-1", "ORDER_PLACED", '{"n":1.50}', 2)
TAKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n" + b'{"id": "m-17"}'
Wait = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Its address, and the requests it got. It says `answer` to each and closes; None: it says nothing."""
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        got.append(head + await reader.readexactly(length))
        if answer is None:
            await reader.read()  # until the client gives up
        else:
            writer.write(answer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/send", got


async def sent_to(url: str, limit_s: float = 5) -> Result:
    async with open_webhook(url, "secret", 10, limit_s / 2) as provider:
        return await call_provider(provider, MESSAGE, TimeLimit(limit_s))


async def test_a_message_is_one_post_with_its_idempotency_key() -> None:
    async with server(TAKEN) as (url, got):
        assert await sent_to(url) == Result(Outcome.SENT, receipt="m-17")
    ((head, _, sent),) = [request.partition(b"\r\n\r\n") for request in got]
    assert head.startswith(b"POST /send HTTP/1.1\r\n")
    assert {b"Idempotency-Key: 7-0", b"Authorization: Bearer secret", b"Content-Type: application/json"} <= set(
        head.split(b"\r\n")
    )
    assert sent == (
        b'{"idempotencyKey":"7-0","channel":"EMAIL","userId":"ann","address":"ann@example.org","eventId":"evt-1",'
        b'"eventType":"ORDER_PLACED","payload":{"n":1.50},"attempt":2}'
    )


def answer(status: int, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} X", "Content-Length: 4", *headers, "", "busy"]).encode()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (answer(204).replace(b"busy", b"").replace(b"Content-Length: 4\r\n", b""), Result(Outcome.SENT)),
        (answer(200), Result(Outcome.SENT)),
        (answer(200).removesuffix(b"busy"), Result(Outcome.SENT)),  # it says so, then breaks off
        (answer(401), Result(Outcome.UNAVAILABLE, "answered 401: busy (is WEBHOOK_TOKEN right?)", bad_credentials=True)),
        (answer(429, "Retry-After: 7"), Result(Outcome.UNAVAILABLE, "answered 429: busy", retry_after_s=7)),
        (answer(503, "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"), Result(Outcome.UNAVAILABLE, "answered 503: busy")),
        (answer(400), Result(Outcome.REJECTED, "answered 400: busy")),
        (answer(302, "Location: http://127.0.0.1:1/"), Result(Outcome.REJECTED, "answered 302: busy")),
        (answer(500), Result(Outcome.UNKNOWN, "NobodyKnows: answered 500: busy")),
        (b"", Result(Outcome.UNKNOWN, "ServerDisconnectedError: Server disconnected")),
    ],
    ids=["204", "200", "200_and_breaks_off", "401", "429", "503", "400", "302", "500", "breaks_off"],
)
async def test_what_an_answer_means(said: bytes, expected: Result) -> None:
    async with server(said) as (url, got):
        assert await sent_to(url) == expected
        assert len(got) == 1


async def test_silence_is_unknown_and_no_server_is_unavailable() -> None:
    async with server(None) as (url, _):
        assert await sent_to(url, limit_s=0.1) == Result(Outcome.UNKNOWN, "no answer from the provider within 0.1 s")
    result = await sent_to(f"http://127.0.0.1:{free_port(0)}/")
    assert result.outcome is Outcome.UNAVAILABLE
    assert str(result.error).startswith("cannot be reached")


async def test_a_host_that_lets_nobody_connect_is_unavailable() -> None:
    """As one without power, or behind a firewall: the connection is never refused, and nothing was sent."""
    with socket.socket() as full, ExitStack() as before:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = before.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        result = await sent_to(f"http://127.0.0.1:{full.getsockname()[1]}/", limit_s=0.4)
    assert result == Result(Outcome.UNAVAILABLE, "cannot be reached: no connection in time")


async def test_what_a_server_says_unasked_answers_no_message(wait_until: Wait) -> None:
    """A 408 on an idle connection: taken for the next one's answer, a message that was taken would be sent again."""
    got, kept = 0, list[asyncio.StreamWriter]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        kept.append(writer)
        with suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                got += 1
                writer.write(TAKEN)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
        async with open_webhook(url, "", 10, 1) as provider:
            assert (await call_provider(provider, MESSAGE, TimeLimit(5))).outcome is Outcome.SENT
            assert (await call_provider(provider, MESSAGE, TimeLimit(5))).outcome is Outcome.SENT
            assert len(kept) == 1, "the connection is used again"
            connections: Any = vars(provider.session.connector)["_conns"]
            [[(idle, _)]] = connections.values()
            kept[0].write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
            await wait_until(lambda: idle.should_close)
            assert (await call_provider(provider, MESSAGE, TimeLimit(5))).outcome is Outcome.SENT
    assert (got, len(kept)) == (3, 2)


async def test_the_setting_chooses_it_per_channel() -> None:
    settings = load_settings(_env_file=None, sms_provider="https://example.org/sms")
    async with open_providers(settings, Channel) as providers:
        assert {c: p.name for c, p in providers.items()} == {"EMAIL": "simulated", "SMS": "webhook", "PUSH": "simulated"}


async def test_an_event_is_posted_to_it(make_settings: Callable[..., Any], resources: Resources, wait_until: Wait) -> None:
    async with server(TAKEN) as (url, got):
        settings = make_settings(email_provider=url)
        chosen = Resources(settings, resources.pool, resources.hot, resources.redis, resources.reader)
        await add_events(resources, event("evt-1", channels=(Channel.EMAIL,)))
        await resources.pool.execute("update event set published_at = null")
        async with consuming(chosen):
            await wait_until(lambda: resources.pool.fetchval("select count(*) = 1 from attempt where receipt = 'm-17'"))
    assert len(got) == 1
