"""The statements of route for what needs a closer look than hot_route.py gives it: events with their user's preference; then
notifications, decisions and ROUTED in one transaction.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import asyncpg
import orjson

from app.domain import Channel, Decision, EventStatus, Preference, Reason, Status
from app.store.batch import all_or_each, raise_refused

if TYPE_CHECKING:
    from app.store.batch import Fetching, Pool


class EventVerdict(StrEnum):
    """What may be done with an event now."""

    GO = "go"
    EXPIRED = "expired"
    LATER = "later"  # published, and not yet due
    PARKED = "parked"  # the relay publishes it when due
    CLAIMED = "claimed"  # by one that sends it at once (take_over.py)
    FINAL = "final"


class EventRow(NamedTuple):
    """An event as route needs it. `preference` None: none stored. `due_in_s` is the time until it is due (LATER)."""

    id: int
    event_id: str
    type: str
    user_id: str
    channels: tuple[Channel, ...] | None
    preference: Preference | None
    verdict: EventVerdict
    due_in_s: float


class Routing(NamedTuple):
    """How one event was decided, and the channels that get a notification: PENDING, or FAILED where there is a `reason`."""

    event: EventRow
    decisions: Mapping[Channel, Decision]
    channels: tuple[Channel, ...] = ()
    event_status: EventStatus = EventStatus.ROUTED
    reason: Reason | None = None
    error: str | None = None


class Added(NamedTuple):
    """A notification that this transaction inserted and that is to be published."""

    id: int
    event_pk: int
    channel: Channel
    published_at: datetime


CHANNELS = {channel.value: channel for channel in Channel}  # calling the enum costs ten times as much
EVENT_VERDICTS = {verdict.value: verdict for verdict in EventVerdict}

# As the statements of hot.py: rows are looked up one by one, whatever the tables held when it was planned.
READ = """
select e.id, e.event_id, e.type, e.user_id, e.channels,
       case when e.done then 'final'
            when e.claimed_by is not null then 'claimed'
            when e.expires_at <= now() then 'expired'
            when e.published_at is null then 'parked'
            when e.due_at > now() then 'later'
            else 'go' end as verdict,
       extract(epoch from e.due_at - now())::float8 as due_in_s,
       p.user_id is not null as has_preference, p.email_opt_in, p.sms_opt_in, p.push_opt_in
from event e left join preference p on p.user_id = any(array[e.user_id])
where e.id = any($1::bigint[])
"""

# Lock by id, judge the status from the locked rows, then move and insert. Only what this statement inserted is answered.
ROUTE = """
with told as (
  select * from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[]) as u(id, status, reason, error, decisions)
), mine as (
  select id, status, user_id, expires_at from event where id = any($1::bigint[]) and claimed_by is null order by id for update
), routed as (
  update event e set status = told.status, reason = told.reason, error = told.error, decisions = told.decisions::jsonb,
    updated_at = now()
  from told join mine using (id) where e.id = told.id and mine.status = 'NEW'
)
insert into notification (event_pk, channel, user_id, status, reason, error, expires_at)
select u.event_pk, u.channel, mine.user_id, u.status, u.reason, u.error, mine.expires_at
from unnest($6::bigint[], $7::text[], $8::text[], $9::text[], $10::text[]) as u(event_pk, channel, status, reason, error)
join mine on mine.id = u.event_pk
where mine.status = 'NEW'
order by u.event_pk, u.channel
on conflict (event_pk, channel) do nothing
returning id, event_pk, channel, status, published_at
"""

# Over the limit, policy defer: parked until the time the bucket reserved.
DEFER = """
with told as (
  select * from unnest($1::bigint[], $2::float8[]) as u(id, wait_s)
), mine as (
  select id, status from event where id = any($1::bigint[]) and claimed_by is null order by id for update
)
update event e set due_at = now() + make_interval(secs => told.wait_s), published_at = null, updated_at = now()
from told join mine using (id) where e.id = told.id and mine.status = 'NEW'
"""


async def read_events(hot: "Fetching", ids: Sequence[int]) -> list[EventRow]:
    """The events that exist of `ids`, in any order, each with what may be done with it now."""
    return [_event_row(r) for r in await hot.fetch(READ, ids)]


async def route_events(pool: "Pool", routings: Sequence[Routing]) -> list[Added]:
    """Commit a batch of decisions. Answers the PENDING notifications that this call inserted: the caller publishes them.

    An event that is no longer NEW, or is claimed, is passed over: whoever routed it, or the relay, publishes.
    """

    async def run(part: Sequence[Routing]) -> list[Added]:
        rows = await pool.fetch(ROUTE, *_event_columns(part), *_notification_columns(part))
        return [
            Added(r["id"], r["event_pk"], CHANNELS[r["channel"]], r["published_at"])
            for r in rows
            if r["status"] == Status.PENDING
        ]

    return await all_or_each(routings, run, raise_refused)


async def defer_events(pool: "Pool", waits_s: Sequence[tuple[int, float]]) -> None:
    """Park events (id, wait in s) until their reserved time."""
    await pool.execute(DEFER, [event for event, _ in waits_s], [wait_s for _, wait_s in waits_s])


def _event_row(r: asyncpg.Record) -> EventRow:
    preference = Preference(r["email_opt_in"], r["sms_opt_in"], r["push_opt_in"]) if r["has_preference"] else None
    channels = None if r["channels"] is None else tuple(Channel(c) for c in r["channels"])
    return EventRow(
        r["id"], r["event_id"], r["type"], r["user_id"], channels, preference, EVENT_VERDICTS[r["verdict"]], r["due_in_s"]
    )


def _event_columns(routings: Sequence[Routing]) -> list[list[object]]:
    rows = [(r.event.id, r.event_status, r.reason, r.error, decisions_json(r.decisions)) for r in routings]
    return [list(column) for column in zip(*rows, strict=True)]


def _notification_columns(routings: Sequence[Routing]) -> list[list[object]]:
    rows = [
        (r.event.id, channel, Status.FAILED if r.reason else Status.PENDING, r.reason, r.error)
        for r in routings
        for channel in r.channels
    ]
    return [list(column) for column in zip(*rows, strict=True)] or [[], [], [], [], []]


def decisions_json(decisions: Mapping[Channel, Decision]) -> str:
    """What the column `decisions` gets."""
    return orjson.dumps({channel.value: {"use": d.use, "reason": d.reason.value} for channel, d in decisions.items()}).decode()
