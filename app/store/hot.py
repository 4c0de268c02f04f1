"""The common case of route, claim and finish, each in one short statement that PostgreSQL plans once per connection.

Nearly every notification is routed, claimed when due, and sent. These statements do that and pass over every other row, which
routing.py and notifications.py judge. They run in sessions of their own (resources.HOT_SESSION): planned anew each time, one row
cost 0.8 ms of CPU. But a plan that was made for an empty table stays for a while, so they may only look rows up in an index, one
by one: no other way is enabled, and `= any(array[x])` instead of `= x` leaves none that reads a whole index in its order, which
would be cheapest where a table is small. Rows are met, and locked, in the order of their ids.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Unpack

import asyncpg

from app.domain import Outcome, Status
from app.resources import Resources
from app.store.batch import REFUSED, clean, repeat_deadlocks
from app.store.notifications import Claim, ClaimVerdict, Ending, Finish, Rules, judge_claims, judge_endings
from app.store.routing import CHANNELS, Added, Routing, decisions_json, route_events

if TYPE_CHECKING:
    from app.store.batch import Fetching, Pool

# The ids of an event's notifications follow each other: the sequence counts in steps of PLACES. Only the first one leads.
# Those of the channels in `at_once` are claimed by $5: as CLAIM_DUE would, had they been inserted before.
ROUTE_PLAIN = """
with routed as (
  update event e set status = 'ROUTED', decisions = told.decisions::jsonb, updated_at = now()
  from unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) as told(id, decisions, channels, at_once)
  where e.id = any(array[told.id]) and e.status = 'NEW'
  returning e.id, e.user_id, e.expires_at, told.channels,
    case when coalesce(e.expires_at > now(), true) then told.at_once else '' end as at_once
), numbered as (
  select *, nextval('notification_id_seq') as first from routed
)
insert into notification
  (id, event_pk, channel, user_id, expires_at, leads, status, attempt, tries, claimed_by, claimed_at, lease_until)
overriding system value
select r.first + c.place - 1, r.id, c.channel, r.user_id, r.expires_at, c.place = 1,
  case when mine then 'PROCESSING' else 'PENDING' end, mine::int, mine::int, case when mine then $5 end,
  case when mine then now() end, case when mine then now() + make_interval(secs => $6) end
from numbered r cross join lateral unnest(string_to_array(r.channels, ',')) with ordinality as c(channel, place)
cross join lateral (select c.channel = any(string_to_array(r.at_once, ',')) as mine) as claimed
returning id, event_pk, channel, published_at, claimed_at is not null
"""

# What ROUTE_PLAIN claimed where its answer was lost: claimed in the transaction that inserted it, and by nobody since.
CLAIMED_AS_ROUTED = """
select id, event_pk, channel, published_at from notification
where event_pk = any($1::bigint[]) and status = 'PROCESSING' and claimed_by = $2 and claimed_at = created_at
  and lease_until >= now()
"""

CLAIM_DUE = """
update notification n set status = 'PROCESSING', reason = null, attempt = n.attempt + 1, tries = n.tries + 1, claimed_by = $2,
  claimed_at = now(), lease_until = now() + make_interval(secs => $3), updated_at = now()
from event e
where n.id = any($1::bigint[]) and n.status = 'PENDING' and n.due_at <= now() and coalesce(n.expires_at > now(), true)
  and e.id = any(array[n.event_pk])
returning n.id, n.attempt, n.tries, n.replays, n.possible_duplicate, n.address, e.event_id, e.type, e.user_id,
  e.payload::text as payload, extract(epoch from now() - greatest(e.created_at, e.send_at))::float8 as age_s
"""

# A row that is PROCESSING under this attempt has no row in `attempt` for it: whoever writes that one also ends the attempt.
FINISH_SENT = """
with moved as (
  update notification n set status = 'SENT', reason = null, error = null, lease_until = null, updated_at = now()
  from unnest($1::bigint[], $2::int[], $3::text[], $4::text[]) as told(id, attempt, provider, receipt)
  where n.id = any(array[told.id]) and n.attempt = told.attempt and n.status = 'PROCESSING'
  returning n.id, n.attempt, n.claimed_by, n.claimed_at, n.possible_duplicate, told.provider, told.receipt
)
insert into attempt (notification_id, number, provider, consumer, started_at, ended_at, outcome, receipt, possible_duplicate)
select id, attempt, provider, claimed_by, claimed_at, now(), 'sent', receipt, possible_duplicate from moved
returning notification_id, number
"""


# No column `leads` before `tidings schema apply`; no sequence of that name, or not for a role that may only change tables.
# The long way needs neither.
NOT_YET = (asyncpg.UndefinedColumnError, asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError)


async def route(resources: Resources, routings: Sequence[Routing], me: str = "") -> list[Added]:
    """Commit a batch of decisions. Answers the unfinished notifications that this call inserted: the caller publishes them.

    `me` claims what is to be sent at once.

    An event that is no longer NEW is passed over: whoever routed it, or the relay, publishes.
    """
    others = [r for r in routings if r.reason is not None]
    if others:  # first: none of them is published, so a repetition after the plain ones would forget those
        await route_events(resources.pool, others)
    plain = sorted((r for r in routings if r.reason is None), key=lambda r: r.event.id)
    try:
        return await _route_plain(resources, plain, me) if plain else []
    except (*REFUSED, *NOT_YET):
        return await route_events(resources.pool, plain)


async def claim_due(hot: "Fetching", ids: Sequence[int], me: str, lease_s: float) -> list[Claim]:
    """A claim for each of `ids` that is PENDING, due and not expired, committed on return."""

    async def run(part: Sequence[int]) -> list[Claim]:
        return [_claim(r) for r in await hot.fetch(CLAIM_DUE, part, me, lease_s)]

    return await repeat_deadlocks(sorted(ids), run)


async def claim(
    short: Callable[[Sequence[int]], Awaitable[list[Claim]]], pool: "Pool", ids: Sequence[int], me: str, **rules: Unpack[Rules]
) -> list[Claim]:
    """One verdict per existing id, committed on return. Ask for ids once: an id under my own live lease is RESUMED.

    `short` is `claim_due` for me, shared by all channels; the rules of this channel judge what it passes over.
    """
    due = await short(ids)
    others = set(ids) - {c.id for c in due}
    return due + (await judge_claims(pool, sorted(others), me, **rules) if others else [])


async def finish(resources: Resources, endings: Sequence[Ending]) -> list[Finish]:
    """Record how attempts ended, committed on return; one answer per existing id. Ids must differ. May be repeated."""
    sent = sorted((e for e in endings if e.outcome is Outcome.SENT), key=lambda e: e.id)
    told = await _finish_sent(resources.hot, sent) if sent else []
    recorded = {f.id for f in told}
    others = [e for e in endings if e.id not in recorded]
    return told + (await judge_endings(resources.pool, others) if others else [])


async def claimed_as_routed(hot: "Fetching", event_pks: Sequence[int], me: str) -> list[Added]:
    """What `me` claimed of these events in a call of `route` whose answer was lost. The lease counts from that call."""
    rows = await hot.fetch(CLAIMED_AS_ROUTED, event_pks, me)
    return [Added(row_id, event_pk, CHANNELS[channel], at, True) for row_id, event_pk, channel, at in rows]


async def _route_plain(resources: Resources, routings: Sequence[Routing], me: str) -> list[Added]:
    async def run(part: Sequence[Routing]) -> list[Added]:
        ids, decisions = [r.event.id for r in part], [decisions_json(r.decisions) for r in part]
        channels, at_once = [",".join(r.channels) for r in part], [",".join(r.at_once) for r in part]
        rows = await resources.hot.fetch(ROUTE_PLAIN, ids, decisions, channels, at_once, me, resources.settings.lease_s)
        return [Added(row_id, event_pk, CHANNELS[channel], at, claimed) for row_id, event_pk, channel, at, claimed in rows]

    return await repeat_deadlocks(routings, run)


async def _finish_sent(hot: "Fetching", endings: Sequence[Ending]) -> list[Finish]:
    """Nothing where PostgreSQL refuses one of them: whoever looks closer finds out which."""

    async def run(part: Sequence[Ending]) -> list[Finish]:
        ids, attempts = [e.id for e in part], [e.attempt for e in part]
        rows = await hot.fetch(FINISH_SENT, ids, attempts, [clean(e.provider) for e in part], [clean(e.receipt) for e in part])
        return [Finish(row_id, True, Status.SENT, attempt, False, 0.0) for row_id, attempt in rows]

    try:
        return await repeat_deadlocks(endings, run)
    except REFUSED:
        return []


def _claim(r: asyncpg.Record) -> Claim:
    row_id, attempt, tries, replays, possible_duplicate, address, event_id, event_type, user_id, payload, age_s = r
    return Claim(
        row_id, ClaimVerdict.CLAIMED, 0.0, attempt, tries, replays, possible_duplicate, address, event_id, event_type, user_id,
        payload, age_s,
    )  # fmt: skip
