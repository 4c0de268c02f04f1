"""The common case of claim and finish, each in one short statement that PostgreSQL plans once per connection; route's is in
hot_route.py.

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

if TYPE_CHECKING:
    from app.store.batch import Fetching, Pool

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


async def _finish_sent(hot: "Fetching", endings: Sequence[Ending]) -> list[Finish]:
    """Nothing where PostgreSQL refuses one of them: whoever looks closer finds out which."""

    async def run(part: Sequence[Ending]) -> list[Finish]:
        ids, attempts = [e.id for e in part], [e.attempt for e in part]
        rows = await hot.fetch(FINISH_SENT, ids, attempts, [clean(e.provider) for e in part], [clean(e.receipt) for e in part])
        return [Finish(row_id, True, Status.SENT, attempt, None, 0.0) for row_id, attempt in rows]

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
