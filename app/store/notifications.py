"""The statements of deliver: claim and finish; release.py is for a claim of which nothing was sent. Each locks by id in id order
and answers a verdict for every id.

`attempt` only grows and is the fence: a finish counts only under the number that its claim was given.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, NotRequired, TypedDict, Unpack

import asyncpg

from app.domain import Outcome, Reason, Status
from app.store.batch import all_or_each, clean, raise_refused

if TYPE_CHECKING:
    from app.store.batch import Pool


class ClaimVerdict(StrEnum):
    """What a claim came to."""

    CLAIMED = "claimed"
    RESUMED = "resumed"  # mine already: the answer to my claim was lost, and nothing was sent
    AGAIN = "again"  # crash claim: its consumer is gone, tries are left
    UNKNOWN = "unknown"  # crash claim: its consumer is gone, at most once
    CRASHED = "crashed"  # crash claim: its consumer is gone, no tries left, or expired
    EXPIRED = "expired"
    FINAL = "final"
    PARKED = "parked"
    LATER = "later"  # not due yet
    BUSY = "busy"  # under somebody's live lease


GO = frozenset({ClaimVerdict.CLAIMED, ClaimVerdict.RESUMED, ClaimVerdict.AGAIN})
WAIT = frozenset({ClaimVerdict.LATER, ClaimVerdict.BUSY})
VERDICTS = {verdict.value: verdict for verdict in ClaimVerdict}  # calling the enum costs ten times as much
STATUSES = {status.value: status for status in Status}


class Claim(NamedTuple):
    """The verdict for one notification. `back_in_s` counts for LATER and BUSY, the event's fields for verdicts in GO."""

    id: int
    verdict: ClaimVerdict
    back_in_s: float
    attempt: int
    tries: int
    replays: int
    possible_duplicate: bool
    address: str | None
    event_id: str
    event_type: str
    user_id: str
    payload_json: str
    age_s: float = 0.0  # since the event was accepted, or was to be sent


class Ending(NamedTuple):
    """How one attempt ended, and where the notification goes. `park`: the wait is long, the relay publishes it when due.

    `refund`: the failure was not the notification's, its try is given back.
    """

    id: int
    attempt: int
    outcome: Outcome
    provider: str
    error: str | None
    receipt: str | None
    status: Status
    reason: Reason | None
    wait_s: float | None = None
    park: bool = False
    refund: bool = False


class Finish(NamedTuple):
    """What a finish came to. Not recorded: the row is as it says, because another was first or this call is a repetition."""

    id: int
    recorded: bool
    status: Status
    attempt: int
    published_at: datetime | None  # counts for PENDING; None: parked
    due_in_s: float


# $1 ids, $2 me, $3 lease in s, $4 at most once, $5 most tries, $6 seconds after PostgreSQL's start without the crash rule,
# $7 further seconds without it, as this process counts them
CLAIM = """
with mine as (
  select id, event_pk, address, status, attempt, tries, replays, claimed_by, claimed_at, possible_duplicate, due_at, lease_until,
    case when done then 'final'
         when status = 'PENDING' and expires_at <= now() then 'expired'
         when status = 'PENDING' and due_at <= now() then 'claimed'
         when status = 'PENDING' and published_at is null then 'parked'
         when status = 'PENDING' then 'later'
         when lease_until >= now() and claimed_by = $2 then 'resumed'
         when lease_until >= now() then 'busy'
         when now() < pg_postmaster_start_time() + make_interval(secs => $6) or $7::float8 > 0 then 'busy'
         when $4::boolean then 'unknown'
         when tries < $5 and coalesce(expires_at > now(), true) then 'again'
         else 'crashed' end as verdict
  from notification where id = any($1::bigint[]) order by id for update
), moved as (
  update notification n set
    status = case when verdict in ('claimed', 'again') then 'PROCESSING' when verdict = 'unknown' then 'UNKNOWN'
      else 'FAILED' end,
    reason = case verdict when 'expired' then 'expired' when 'unknown' then 'crashed' when 'crashed' then 'crashed' end,
    error = case verdict
      when 'expired' then 'not sent before it expired'
      when 'unknown' then 'the consumer was gone in mid-send: it may have been sent, and this channel allows no repeat'
      when 'crashed' then 'the consumer was gone in mid-send, and there is no further try'
      else n.error end,
    attempt = n.attempt + (verdict in ('claimed', 'again'))::int,
    tries = n.tries + (verdict in ('claimed', 'again'))::int,
    possible_duplicate = n.possible_duplicate or verdict in ('again', 'crashed'),
    claimed_by = case when verdict in ('claimed', 'again') then $2 else n.claimed_by end,
    claimed_at = case when verdict in ('claimed', 'again') then now() else n.claimed_at end,
    lease_until = case when verdict in ('claimed', 'again') then now() + make_interval(secs => $3) end,
    updated_at = now()
  from mine where n.id = mine.id and verdict in ('claimed', 'again', 'expired', 'unknown', 'crashed')
  returning n.id, n.attempt, n.tries, n.possible_duplicate
), closed as (
  insert into attempt (notification_id, number, consumer, started_at, ended_at, outcome, error, possible_duplicate)
  select id, attempt, claimed_by, claimed_at, now(), 'unknown', 'the consumer was gone before it recorded an outcome',
    possible_duplicate
  from mine where verdict in ('again', 'unknown', 'crashed')
  on conflict (notification_id, number) do nothing
)
select m.id, m.verdict,
  extract(epoch from case when m.verdict = 'later' then m.due_at
    else greatest(m.lease_until, pg_postmaster_start_time() + make_interval(secs => $6), now() + make_interval(secs => $7)) end
    - now())::float8 as back_in_s,
  coalesce(v.attempt, m.attempt) as attempt, coalesce(v.tries, m.tries) as tries, m.replays,
  coalesce(v.possible_duplicate, m.possible_duplicate) as possible_duplicate, m.address,
  e.event_id, e.type, e.user_id, e.payload::text as payload,
  extract(epoch from now() - greatest(e.created_at, e.send_at))::float8 as age_s
from mine m left join moved v using (id)
left join event e on e.id = m.event_pk and m.verdict in ('claimed', 'again', 'resumed')
"""

# A late truth (`sent`, an explicit refusal) beats UNKNOWN, and `sent` beats FAILED by the crash rule. A retry that follows is
# parked, since its entry may be gone. What was sent at once has none: it is to be published now.
FINISH = """
with told as (
  select * from unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::float8[], $10::boolean[], $11::boolean[])
    as u(id, attempt, outcome, provider, error, receipt, status, reason, wait_s, park, refund)
), mine as (
  select id, status, reason, attempt, claimed_by, claimed_at, possible_duplicate, due_at, published_at
  from notification where id = any($1::bigint[]) order by id for update
), ours as (
  select told.*, mine.status as was, mine.claimed_by, mine.claimed_at, mine.possible_duplicate
  from told join mine using (id, attempt)
  where mine.status = 'PROCESSING' or (mine.status = 'UNKNOWN' and told.outcome <> 'unknown')
    or (mine.status = 'FAILED' and mine.reason in ('crashed', 'dead_letter', 'discarded') and told.outcome = 'sent')
), moved as (
  update notification n set status = u.status, reason = u.reason, error = u.error,
    possible_duplicate = n.possible_duplicate or (u.outcome = 'unknown' and u.status <> 'UNKNOWN'),
    due_at = case when u.status = 'PENDING' then now() + make_interval(secs => u.wait_s) else n.due_at end,
    published_at = case when u.status <> 'PENDING' then n.published_at when u.park or u.was = 'UNKNOWN' then null
      else coalesce(n.published_at, now()) end,
    tries = case when u.refund then greatest(n.tries - 1, 0) else n.tries end, lease_until = null, updated_at = now()
  from ours u where n.id = u.id
  returning n.id, n.status, n.published_at, n.due_at
), noted as (
  insert into attempt
    (notification_id, number, provider, consumer, started_at, ended_at, outcome, error, receipt, possible_duplicate)
  select id, attempt, provider, claimed_by, claimed_at, now(), outcome, error, receipt, possible_duplicate from ours
  on conflict (notification_id, number) do update set provider = excluded.provider, ended_at = excluded.ended_at,
    outcome = excluded.outcome, error = excluded.error, receipt = excluded.receipt
)
select m.id, v.id is not null as recorded, coalesce(v.status, m.status) as status, m.attempt,
  case when v.id is null then m.published_at else v.published_at end as published_at,
  extract(epoch from coalesce(v.due_at, m.due_at) - now())::float8 as due_in_s
from mine m left join moved v using (id)
"""

# Where the row went on or ended otherwise, the attempt's row tells the truth. Seldom needed, so a statement of its own: as part
# of FINISH it read all attempts each time, wherever PostgreSQL's statistics were from when there were none.
REPLACE = """
update attempt a
set provider = told.provider, ended_at = now(), outcome = told.outcome, error = told.error, receipt = told.receipt
from unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[])
  as told(id, attempt, outcome, provider, error, receipt)
where a.notification_id = told.id and a.number = told.attempt and a.outcome = 'unknown'
"""


class Rules(TypedDict):
    """What a claim goes by. No crash rule for `calm_s` after PostgreSQL started, nor for the next `calm_left_s`: outcomes that
    others hold come first.
    """

    lease_s: float
    at_most_once: bool
    max_tries: int
    calm_s: float
    calm_left_s: NotRequired[float]


async def judge_claims(pool: "Pool", ids: Sequence[int], me: str, **rules: Unpack[Rules]) -> list[Claim]:
    """One verdict per existing id, committed on return. Ask for ids once: an id under my own live lease is RESUMED."""
    order = (rules["lease_s"], rules["at_most_once"], rules["max_tries"], rules["calm_s"], rules.get("calm_left_s", 0.0))

    async def run(part: Sequence[int]) -> list[Claim]:
        rows = await pool.fetch(CLAIM, part, me, *order)
        return [_claim(r) for r in rows]

    return await all_or_each(ids, run, raise_refused)


async def judge_endings(pool: "Pool", endings: Sequence[Ending]) -> list[Finish]:
    """Record how attempts ended, committed on return; one answer per existing id. Ids must differ. May be repeated."""

    async def run(part: Sequence[Ending]) -> list[Finish]:
        rows = await pool.fetch(FINISH, *_ending_columns(part))
        recorded = {r["id"] for r in rows if r["recorded"]}
        late = [e for e in part if e.id not in recorded and e.outcome is not Outcome.UNKNOWN]
        if late:  # a process that dies before it has told neither
            await pool.execute(REPLACE, *_ending_columns(late)[:6])
        return [_finish(r) for r in rows]

    return await all_or_each(endings, run, lambda _ending, _error: [])


def _claim(r: asyncpg.Record) -> Claim:
    return Claim(
        r["id"], VERDICTS[r["verdict"]], r["back_in_s"] or 0.0, r["attempt"], r["tries"], r["replays"],
        r["possible_duplicate"], r["address"], r["event_id"], r["type"], r["user_id"], r["payload"],
        r["age_s"] or 0.0,
    )  # fmt: skip


def _finish(r: asyncpg.Record) -> Finish:
    return Finish(r["id"], r["recorded"], STATUSES[r["status"]], r["attempt"], r["published_at"], r["due_in_s"])


def _ending_columns(endings: Sequence[Ending]) -> list[list[object]]:
    rows = [
        (
            e.id,
            e.attempt,
            e.outcome,
            clean(e.provider),
            clean(e.error),
            clean(e.receipt),
            e.status,
            e.reason,
            e.wait_s,
            e.park,
            e.refund,
        )
        for e in endings
    ]
    return [list(column) for column in zip(*rows, strict=True)]
