"""First step: validated events are stored, committed, and put on the events stream; consumers/route.py takes them from there.

Requests that arrive while a commit is under way share the next one. The answer waits for the XADD at most a second: where Redis
is away the relay publishes later. Where PostgreSQL is away nothing was accepted.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any, NamedTuple

import orjson
import structlog
from redis.exceptions import RedisError

from app import streams
from app.batches import Batches
from app.domain import Event, Outgoing
from app.logs import Line, info_lines
from app.resources import Resources
from app.store.batch import AWAY
from app.store.events import Key, NewEvent, Stored, id_of, insert_events
from app.tally import Kind
from app.trouble import Trouble

log = structlog.get_logger()

WAIT_FOR_XADD_S = 1.0
PACE_S = 0.003  # of transactions: who comes after a quiet moment does not wait
PART_EVENTS = 500  # a transaction; one request may make it more
WAITING_MAX = 20_000  # events in memory, and the length of their payloads; more are refused rather than kept
WAITING_MAX_CHARS = 64 * 2**20
POINT, PLUS = b".+"  # as numbers, which bytes are searched for faster than for bytes


class Accepted(StrEnum):
    """What became of one posted event."""

    NEW = "accepted"
    DUPLICATE = "duplicate"  # the same id and the same body: accepted before
    CONFLICT = "conflict"  # the same id with another body
    REFUSED = "refused"  # PostgreSQL refuses its data


class NotAccepted(Exception):
    """PostgreSQL is away, or too much is waiting for it: nothing was accepted, try again later."""


class _Request(NamedTuple):
    """The events of one caller, who waits for an answer to each."""

    news: list[NewEvent]
    answers: "asyncio.Future[list[Accepted]]"


class Acceptor:
    """Stores and publishes events, many requests a transaction and a pipeline."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._requests: Batches[_Request] = Batches(self._store, pace_s=PACE_S)
        self._duty = asyncio.TaskGroup()  # if one of its tasks fails, the process ends rather than hangs
        self._full: asyncio.Task[None] | None = None  # the last full part
        self._publishing: set[asyncio.Task[None]] = set()
        self._waiting = self._waiting_chars = 0
        self._not_stored = Trouble(log, "events are accepted again")
        self._not_published = Trouble(log, "events are published again")

    async def accept(self, event: Event) -> Accepted:
        """Committed in PostgreSQL on return, and on the stream where Redis answers in time. Raises NotAccepted."""
        return (await self.accept_all((event,)))[0]

    async def accept_all(self, events: Sequence[Event]) -> list[Accepted]:
        """The same for many, an answer each. Raises NotAccepted where one is not known to be stored; others may be."""
        if not events:
            return []
        news = [prepare(event) for event in events]
        chars = sum([len(new.payload_json) for new in news])
        if self._waiting_chars + chars > WAITING_MAX_CHARS or self._waiting + len(news) > WAITING_MAX:
            raise NotAccepted("too much is waiting for PostgreSQL")
        request = _Request(news, asyncio.get_running_loop().create_future())
        self._waiting += len(news)
        self._waiting_chars += chars
        try:
            self._requests.add(request)
            return await request.answers
        finally:
            self._waiting -= len(news)
            self._waiting_chars -= chars

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Acceptor"]:
        """Works while inside; on leaving, what was accepted is still stored and published."""
        async with self._duty:
            storing = self._duty.create_task(self._requests.run(), name="accept")
            yield self
            await self._requests.idle()
            if self._full is not None:
                await self._full
            await asyncio.gather(*self._publishing)
            storing.cancel()

    async def _store(self, requests: list[_Request]) -> None:
        """A full part commits beside the one before it: PostgreSQL need not wait until we see that it is done.

        While one that is not full commits, what arrives shares the next.
        """
        for part in parts(requests):
            if sum([len(request.news) for request in part]) < PART_EVENTS:
                await self._store_part(part)
                continue
            before, self._full = self._full, self._duty.create_task(self._store_part(part))
            if before is not None:
                await before

    async def _store_part(self, requests: list[_Request]) -> None:
        news = [new for request in requests for new in request.news]
        first = first_of_each_id(news)
        started = time.monotonic()
        try:
            stored = dict(zip(first, await insert_events(self._resources.hot, list(first.values())), strict=True))
        except AWAY as error:
            self._not_stored.say("events not accepted: PostgreSQL is away", error, events=len(news))
            _fail(requests, NotAccepted("PostgreSQL is away"))
            return
        except Exception as error:
            self._not_stored.say("events not accepted", events=len(news), exc_info=True)
            _fail(requests, error)
            return
        self._not_stored.over()
        added = sum([its.row_id is not None for its in stored.values()])
        self._resources.tally.count(Kind.ACCEPTED, n=added)
        rows = [
            Outgoing(its.row_id, event.event_id, event.user_id, event.type, its.published_at, its.case)
            for (event, _, _), its in zip(first.values(), stored.values(), strict=True)
            if its.row_id is not None and its.published_at is not None
        ]
        answers = [Accepted.NEW] * added if added == len(news) else judge_all(news, first, stored)
        self._publish_soon(requests, answers, rows, started)

    def _publish_soon(self, requests: list[_Request], answers: list[Accepted], rows: list[Outgoing], started: float) -> None:
        """In the background, so that the next batch commits meanwhile."""
        task = asyncio.create_task(self._publish(requests, answers, rows, started))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def _publish(self, requests: list[_Request], answers: list[Accepted], rows: list[Outgoing], started: float) -> None:
        try:
            if rows and time.monotonic() - started <= self._resources.settings.publish_within_s:
                async with asyncio.timeout(min(WAIT_FOR_XADD_S, self._resources.settings.publish_within_s)):
                    await streams.publish(self._resources.redis, streams.EVENTS, rows)
                self._not_published.over()
        except (RedisError, OSError, TimeoutError) as error:
            self._not_published.say("events left to the relay: Redis is away", error, events=len(rows))
        finally:  # they are committed, whatever became of the stream
            _answer(requests, answers)
            news = (new for request in requests for new in request.news)
            info_lines(_line(new.event, answer) for new, answer in zip(news, answers, strict=True))


def prepare(event: Event) -> NewEvent:
    """The event as it is stored: payload as JSON text, and the hash by which a repeat is known."""
    return NewEvent(event, orjson.dumps(event.payload).decode(), hashlib.sha256(canonical(event)).digest())


def canonical(event: Event) -> bytes:
    """The event in one spelling (after RFC 8785): sorted keys, 250.0 as 250, instants in UTC. Equal events, equal bytes.

    Unlike RFC 8785, whole numbers beyond 2**53 keep all their digits.
    """
    text = _spell(event, event.payload)
    if POINT in text or PLUS in text:  # there may be a 250.0 or 1e+16: looking for one took half the time of all this
        return _spell(event, _whole(event.payload))
    return text


def _spell(event: Event, payload: Any) -> bytes:
    event_id, kind, user_id, _, occurred_at, source, channels, send_at, expires_at = event
    asked = None if channels is None else sorted(set(channels))
    told = [source, event_id, kind, user_id, payload, occurred_at, asked, send_at, expires_at]
    return orjson.dumps(told, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_whole(v) for v in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    return value


def parts(requests: list[_Request]) -> list[list[_Request]]:
    """The requests in order, PART_EVENTS events at a time: a part ends with the request that makes it so many."""
    made: list[list[_Request]] = []
    events = PART_EVENTS
    for request in requests:
        if events >= PART_EVENTS:
            made.append([])
            events = 0
        made[-1].append(request)
        events += len(request.news)
    return made


def first_of_each_id(news: list[NewEvent]) -> dict[Key, NewEvent]:
    """One event for each id; the others of that id are compared with it."""
    first: dict[Key, NewEvent] = {}
    for new in news:
        first.setdefault(id_of(new), new)
    return first


def judge_all(news: list[NewEvent], first: Mapping[Key, NewEvent], stored: Mapping[Key, Stored]) -> list[Accepted]:
    """The answers, from what the store says of the first event of each id."""
    return [
        judge(new, stored[key]) if new is first[key] else judge_repeat(new, first[key].body_hash, stored[key])
        for new, key in zip(news, map(id_of, news), strict=True)
    ]


def judge(new: NewEvent, stored: Stored) -> Accepted:
    """The answer for one event, from what the store says of it."""
    if stored.row_id is not None:
        return Accepted.NEW
    if stored.body_hash is None:
        return Accepted.REFUSED
    return Accepted.DUPLICATE if stored.body_hash == new.body_hash else Accepted.CONFLICT


def judge_repeat(new: NewEvent, first_hash: bytes, first: Stored) -> Accepted:
    """The answer for an event whose id came a second time in one batch."""
    return judge(new, Stored(None, None, first_hash if first.row_id is not None else first.body_hash))


def _line(event: Event, answer: Accepted) -> Line:
    return f"event {answer}", {"event_id": event.event_id, "user_id": event.user_id}


def _answer(requests: list[_Request], answers: list[Accepted]) -> None:
    at = 0
    for request in requests:
        if not request.answers.done():  # its caller may be gone
            request.answers.set_result(answers[at : at + len(request.news)])
        at += len(request.news)


def _fail(requests: list[_Request], error: Exception) -> None:
    for request in requests:
        if not request.answers.done():
            request.answers.set_exception(error)
