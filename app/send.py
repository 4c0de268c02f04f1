"""`tidings send`: posts sample events over HTTP, and with `--watch` tells what becomes of them."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aiohttp

from app.addresses import api_url, sample_event
from app.settings import Settings
from app.story import finished, news

IN_FLIGHT = 50
LOOK_EVERY_S = 0.2
USERS = 100_000


class SendError(Exception):
    """The API is not there, or refuses an event. The message is one line."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to send. `user` None: a random one per event; `rate` in events per second, None: one after the other."""

    user: str | None
    event_type: str
    count: int
    rate: float | None
    watch: bool


async def run(settings: Settings, order: Order) -> None:
    """Post the events and print one line each; watch them where asked to. Raises SendError."""
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(api_url(settings), timeout=timeout) as session:
        try:
            sent = await post_all(session, order)
            if order.watch:
                await watch(session, sent)
        except (aiohttp.ClientConnectionError, TimeoutError):
            raise SendError(
                f"the API does not answer at {api_url(settings)} (settings API_HOST, API_PORT): does `tidings dev` run?"
            ) from None
        except aiohttp.ClientError as error:
            raise SendError(f"the API at {api_url(settings)} gives no proper answer: {error}") from None
        except asyncio.CancelledError:
            if not order.watch:  # Ctrl-C is how one stops watching
                raise


async def post_all(session: aiohttp.ClientSession, order: Order) -> list[str]:
    """Post all events at the given rate; their ids in order. Stops at the first that fails."""
    began, slots = time.monotonic(), asyncio.Semaphore(IN_FLIGHT if order.rate else 1)

    async def one(number: int, event_id: str) -> None:
        if order.rate:
            await asyncio.sleep(began + number / order.rate - time.monotonic())
        async with slots:
            await post(session, event_id, order)

    ids = [str(uuid4()) for _ in range(order.count)]
    await asyncio.gather(*(one(number, event_id) for number, event_id in enumerate(ids)))
    if order.count > 1:
        took_s = time.monotonic() - began
        print(f"{order.count} accepted in {took_s:.1f} s ({order.count / took_s:.0f}/s)", flush=True)
    return ids


async def post(session: aiohttp.ClientSession, event_id: str, order: Order) -> None:
    user = order.user or f"user_{random.randrange(USERS)}"
    event = sample_event(event_id, user, order.event_type, datetime.now(UTC))
    async with session.post("/api/events", json=event) as answer:
        if answer.status != 202:
            raise SendError(f"the API answered {answer.status}: {await _problem(answer)}")
    say(f"accepted {event_id} for {user}")


async def watch(session: aiohttp.ClientSession, ids: Sequence[str]) -> None:
    """Look at every event again and again, and print what changed, until all is final."""
    stories: dict[str, dict[str, Any]] = {}
    open_ids = list(ids)
    while open_ids:
        for event_id in open_ids:
            story = await look(session, event_id)
            mark = f"{event_id[:8]}  " if len(ids) > 1 else ""
            for line in news(stories.get(event_id), story, datetime.now(UTC)):
                say(mark + line)
            stories[event_id] = story
        open_ids = [event_id for event_id in open_ids if not finished(stories[event_id])]
        await asyncio.sleep(LOOK_EVERY_S if open_ids else 0)


async def look(session: aiohttp.ClientSession, event_id: str) -> dict[str, Any]:
    async with session.get(f"/api/events/{event_id}") as answer:
        if answer.status != 200:
            raise SendError(f"the API answered {answer.status}: {await _problem(answer)}")
        story: dict[str, Any] = await answer.json()
        return story


def say(line: str) -> None:
    """Print with the local time, tenths of a second."""
    print(f"{datetime.now():%H:%M:%S.%f}"[:-5] + f"  {line}", flush=True)  # noqa: DTZ005 (the reader's own clock)


async def _problem(answer: aiohttp.ClientResponse) -> str:
    """The sentence of a problem+json, or the first words of whatever it is."""
    text = await answer.text()
    try:
        problem = await answer.json(content_type=None)
        return str(problem.get("detail") or problem["title"])
    except (ValueError, AttributeError, KeyError):
        return " ".join(text.split())[:200] or "nothing"
