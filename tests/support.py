"""Helpers of many tests: events in the store, their notifications, what the rows say, and a provider that does as it is told."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar, Unpack
from uuid import uuid4

import asyncpg

from app.accept import prepare
from app.domain import Channel, Event
from app.kept import Kept
from app.resources import Resources
from app.store import hot, hot_route, hot_send
from app.store.events import insert_events
from app.store.hot_route import Routed
from app.store.hot_send import Claimed
from app.store.notifications import Claim, Rules
from app.store.routing import Added, Routing, read_events, route_events
from consumers.providers import Message, Receipt
from consumers.route import first_decision
from tests.conftest import wait_until

Answer = TypeVar("Answer")

NOON = datetime(2026, 3, 31, 12, 0, tzinfo=UTC)
RULES: dict[str, Any] = {"lease_s": 30, "at_most_once": False, "max_tries": 3, "calm_s": 0}


def event(event_id: str | None = None, **other: Any) -> Event:
    """The sample event, with a fresh id where none is given; `other` overrides the fields of Event."""
    sample: dict[str, Any] = {"type": "ORDER_PLACED", "user_id": "user_123", "payload": {"orderAmount": 250}, "occurred_at": NOON}
    return Event(event_id=event_id or f"evt-{uuid4()}", **{**sample, **other})


async def add_events(resources: Resources, *events: Event) -> list[int]:
    """Store events as accept does; their row ids, in order. None is published."""
    stored = await insert_events(resources.pool, [prepare(e) for e in events])
    assert all(s.row_id is not None for s in stored), "an event with this id is stored already"
    return [s.row_id for s in stored if s.row_id is not None]


async def routings(resources: Resources, event_pks: list[int]) -> list[Routing]:
    """What route decides for these events, before the rate limit."""
    rows = {row.id: row for row in await read_events(resources.pool, event_pks)}
    return [first_decision(rows[event_pk]) for event_pk in event_pks]


async def route(resources: Resources, event_pks: list[int]) -> list[Added]:
    """Route events as a consumer does, committed; the notifications this made. None is published."""
    routed = await route_short(resources, event_pks)
    others = await routings(resources, sorted({*event_pks} - {r.event_pk for r in routed}))
    return added_by(routed) + (await route_events(resources.pool, others) if others else [])


async def route_short(resources: Resources, event_pks: Sequence[int], hot: Any = None) -> list[Routed]:
    """By the short way alone, in the order of `event_pks`; `hot`: another connection than the one of the resources."""
    resources = replace(resources, hot=hot or resources.hot)
    plain = {event.event_pk: event for event in await hot_route.peek(resources.hot, event_pks)}
    return await hot_route.route_plain(resources, [plain[pk] for pk in event_pks if pk in plain])


async def claim_events(resources: Resources, event_pks: Sequence[int], me: str = "me") -> list[Claimed]:
    """Events that `me` claims as a whole, to send them at once: in the order of their ids."""
    return await hot_send.claim_events(resources, await hot_route.peek(resources.hot, event_pks), me, again=False)


def added_by(routed: Sequence[Routed]) -> list[Added]:
    """The notifications that the short way made."""
    return [Added(row_id, r.event_pk, c, r.published_at) for r in routed for row_id, c in enumerate(r.channels, r.first_id)]


async def add_notifications(resources: Resources, number: int = 1, channel: Channel = Channel.EMAIL, **other: Any) -> list[int]:
    """The ids of `number` PENDING notifications, each of an event of its own; `other` overrides the fields of Event."""
    event_pks = await add_events(resources, *(event(channels=(channel,), **other) for _ in range(number)))
    return sorted(added.id for added in await route(resources, event_pks))


async def add_notification(resources: Resources, channel: Channel = Channel.EMAIL, **other: Any) -> int:
    """The id of one PENDING notification."""
    return (await add_notifications(resources, 1, channel, **other))[0]


async def start_attempts(
    resources: Resources, number: int = 1, channel: Channel = Channel.EMAIL, me: str = "me", lease_s: float = 30
) -> list[int]:
    """The ids of notifications whose first attempt is under way, in the hands of `me`."""
    ids = await add_notifications(resources, number, channel)
    await claim(resources, ids, me, lease_s=lease_s, at_most_once=False, max_tries=3, calm_s=0)
    return ids


async def start_attempt(
    resources: Resources, channel: Channel = Channel.EMAIL, me: str = "me", lease_s: float = 30
) -> int:  # fmt: skip
    """The id of one such notification."""
    return (await start_attempts(resources, 1, channel, me, lease_s))[0]


async def notification(resources: Resources, notification_id: int) -> asyncpg.Record:
    """The row, and how long it is until it is due."""
    return await _row(
        resources,
        "select *, extract(epoch from due_at - now())::float8 as due_in_s from notification where id = $1",
        notification_id,
    )


async def event_row(resources: Resources, event_pk: int) -> asyncpg.Record:
    """The row, and how long it is until it is due."""
    return await _row(
        resources, "select *, extract(epoch from due_at - now())::float8 as due_in_s from event where id = $1", event_pk
    )


async def notifications_of(resources: Resources, event_pk: int) -> list[asyncpg.Record]:
    """The rows of one event, by channel."""
    return await resources.pool.fetch("select * from notification where event_pk = $1 order by channel", event_pk)


async def attempts(resources: Resources, notification_id: int) -> list[asyncpg.Record]:
    """The attempt rows of one notification, by number."""
    return await resources.pool.fetch("select * from attempt where notification_id = $1 order by number", notification_id)


async def change(resources: Resources, table: str, ids: int | list[int], assignments: str) -> None:
    """Put rows into a state, unseen by the watch on moves: `assignments` is SQL, such as "due_at = now() + interval '9 s'"."""
    async with resources.pool.acquire() as connection, connection.transaction():
        await connection.execute("set local session_replication_role = replica")
        await connection.execute(f"update {table} set {assignments} where id = any($1)", [ids] if isinstance(ids, int) else ids)


async def race(
    resources: Resources, table: str, ids: list[int], calls: Sequence[Callable[[], Awaitable[Answer]]]
) -> list[Answer]:
    """The answers of calls that surely run at the same time: the rows are locked until all of them wait."""
    async with resources.pool.acquire() as holder:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute(f"select from {table} where id = any($1) for update", ids)
        running = [asyncio.ensure_future(call()) for call in calls]
        await wait_until(lambda: waiting(resources, len(calls)))
        await transaction.rollback()
        return await asyncio.gather(*running)


async def claim(resources: Resources, ids: Sequence[int], me: str, **rules: Unpack[Rules]) -> list[Claim]:
    """As a consumer does it."""
    short = partial(hot.claim_due, resources.hot, me=me, lease_s=rules["lease_s"])
    return await hot.claim(short, resources.pool, ids, me, **rules)


async def locked_before(
    resources: Resources, table: str, ids: list[int], call: Callable[[Any], Awaitable[Any]], pool: Any = None
) -> list[int]:
    """The rows, in disorder on disk, that `call(connection)` has locked when it comes to the middle one, which is held.

    The connection is one of `pool`, as it is; of resources.pool where none is given, and then it meets rows as they lie on disk.
    """
    middle = sorted(ids)[len(ids) // 2]
    async with resources.pool.acquire() as holder, resources.pool.acquire() if pool is None else own(pool) as caller:
        if pool is None:
            await caller.execute("set enable_indexscan = off; set enable_bitmapscan = off")
        await holder.execute(f"update {table} set updated_at = now() where id = any($1)", sorted(ids)[: len(ids) // 4])
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute(f"select from {table} where id = $1 for update", middle)
        running = asyncio.ensure_future(call(caller))
        await wait_until(lambda: waiting(resources, 1))
        free = await resources.pool.fetch(f"select id from {table} where id = any($1) for update skip locked", ids)
        await transaction.rollback()
        await running
        return sorted(set(ids) - {r["id"] for r in free} - {middle})


@asynccontextmanager
async def own(hot: Kept) -> AsyncIterator[Any]:
    """A connection as those that are kept."""
    connection = await hot._connect()
    try:
        yield connection
    finally:
        await connection.close()


async def waiting(resources: Resources, calls: int) -> bool:
    """Do so many statements wait for a lock?"""
    query = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    return bool(await resources.pool.fetchval(query) == calls)


async def _row(resources: Resources, query: str, row_id: int) -> asyncpg.Record:
    row = await resources.pool.fetchrow(query, row_id)
    assert row is not None, f"no row {row_id}"
    return row


HANG = "hang"


class Scripted:
    """A provider: the n-th call for one idempotency key gets the n-th answer, further ones are sent.

    An answer is a Receipt, an exception to raise, or HANG. `calls` has the messages of each key, in order.
    """

    name = "scripted"

    def __init__(self, *answers: Receipt | BaseException | str) -> None:
        self._answers = answers
        self.calls: dict[str, list[Message]] = defaultdict(list)

    async def send(self, message: Message) -> Receipt:
        calls = self.calls[message.idempotency_key]
        calls.append(message)
        answer = self._answers[len(calls) - 1] if len(calls) <= len(self._answers) else Receipt(f"sent-{message.idempotency_key}")
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, Receipt):
            return answer
        await asyncio.Event().wait()
        raise AssertionError("nobody ends a hanging call but its time limit")
