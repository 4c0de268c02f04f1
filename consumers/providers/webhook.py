"""A provider of your own, by HTTP: each message is one POST to a URL, which sends it and says so by its status.

200 to 299    taken; `{"id": "..."}` in the answer is kept as its receipt
401, 403      our token is wrong: nothing was taken, and the whole channel waits for an operator
408, 425, 429, 503   not taken, try again later; `Retry-After` in seconds is heeded
other 3xx, 4xx       refused for good (a redirect is not followed)
else          500, no answer, a connection that breaks: nobody knows
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from aiohttp.connector import Connection

from consumers.providers import BadCredentials, Message, Receipt, Rejected, Unavailable

LATER = frozenset({408, 425, 429, 503})
ANSWER_MAX_BYTES = 4096
BODY_WITHIN_S = 1.0
# Most servers close an idle connection after 5 s or more. One that we used in that moment would leave the outcome unknown.
KEEP_IDLE_S = 2.0


class NobodyKnows(Exception):
    """The answer says neither that the message was taken nor that it was not."""


class CleanConnector(aiohttp.TCPConnector):
    """Uses no connection again on which its server said something unasked: aiohttp takes that for the next message's answer."""

    async def _get(self, key: Any, traces: Any) -> Connection | None:
        while (kept := await super()._get(key, traces)) and kept.protocol and kept.protocol.should_close:
            kept.close()
        return kept


@dataclass(frozen=True, slots=True)
class Webhook:
    """POSTs each message to `url`. The time limit is the caller's."""

    session: aiohttp.ClientSession
    url: str
    name: str = "webhook"

    async def send(self, message: Message) -> Receipt:
        try:
            request = self.session.post(
                self.url, data=body(message), headers={"Idempotency-Key": message.idempotency_key}, allow_redirects=False
            )
            async with request as answer:
                return judge(answer.status, await text_of(answer), answer.headers.get("Retry-After"))
        except aiohttp.ClientConnectorError as error:  # before the first byte left
            raise Unavailable(f"cannot be reached: {error.strerror or type(error).__name__}") from None
        except aiohttp.ConnectionTimeoutError:  # so was this: the time limit of connecting, TLS included
            raise Unavailable("cannot be reached: no connection in time") from None


@asynccontextmanager
async def open_webhook(url: str, token: str, at_once: int, connect_within_s: float) -> AsyncIterator[Webhook]:
    """The provider with its connections, at most `at_once`. Connecting gets less time than a call: then nothing was sent."""
    headers = {"Content-Type": "application/json", "User-Agent": "tidings"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connector = CleanConnector(limit=at_once, keepalive_timeout=KEEP_IDLE_S)
    limits = aiohttp.ClientTimeout(total=None, sock_connect=connect_within_s)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=limits, trust_env=False) as session:
        yield Webhook(session, url)


async def text_of(answer: aiohttp.ClientResponse) -> str:
    """The beginning of what it says. The status is the answer: a body that does not come changes nothing."""
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            return (await answer.content.read(ANSWER_MAX_BYTES)).decode(errors="replace")
    except (aiohttp.ClientError, TimeoutError):
        return ""


def body(message: Message) -> bytes:
    """The message as JSON, in the words of the API."""
    return orjson.dumps(
        {
            "idempotencyKey": message.idempotency_key,
            "channel": message.channel,
            "userId": message.user_id,
            "address": message.address,
            "eventId": message.event_id,
            "eventType": message.event_type,
            "payload": orjson.Fragment(message.payload_json),
            "attempt": message.attempt,
        }
    )


def judge(status: int, text: str, retry_after: str | None) -> Receipt:
    """What an answer means: a receipt, or the exception that says so."""
    if 200 <= status < 300:
        return Receipt(receipt_id(text))
    said = f"answered {status}: {' '.join(text.split())[:200]}".removesuffix(": ")
    if status in (401, 403):
        raise BadCredentials(f"{said} (is WEBHOOK_TOKEN right?)")
    if status in LATER:
        raise Unavailable(said, retry_after_s=seconds(retry_after))
    if 300 <= status < 500:
        raise Rejected(said)
    raise NobodyKnows(said)


def receipt_id(text: str) -> str | None:
    """The member `id` of an answer in JSON; None where there is none."""
    try:
        answer = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    found = answer.get("id") if isinstance(answer, dict) else None
    return str(found) if isinstance(found, str | int) else None


def seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds; None for a date, which nobody here heeds."""
    try:
        return float(retry_after) if retry_after is not None else None
    except ValueError:
        return None
