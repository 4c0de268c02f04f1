"""What is sent at once, in two short statements as those of hot.py: an event is claimed as a whole, and its notifications are
written with their ends.

Both pass over events that are no longer as they were seen, which routing.py and take_over.py judge.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from app.domain import Channel
from app.resources import Resources
from app.store.batch import REFUSED, TEXT_MAX, all_or_each, repeat_deadlocks
from app.store.hot_route import AS_SEEN, DECISIONS, DUE, NOT_YET, Plain, as_seen
from app.store.take_over import take_over

# A repetition ($6) finds what it claimed the first time. The status stays, and so does every index.
CLAIM_EVENTS = f"""
update event e set decisions = {DECISIONS}, claimed_by = $4, claimed_at = now(),
  lease_until = now() + make_interval(secs => $5), first_id = coalesce(e.first_id, nextval('notification_id_seq')),
  updated_at = now()
from unnest($1::bigint[], $2::text[], $3::int[]) as told(id, user_id, nth)
where e.id = any(array[told.id])
  and case when e.claimed_by is null then {DUE} and {AS_SEEN}
    else $6::boolean and e.claimed_by = $4 and e.status = 'NEW' end
returning e.id, e.event_id, e.type, e.first_id, e.payload::text,
  extract(epoch from now() - greatest(e.created_at, e.send_at))::float8
"""  # noqa: S608 (nothing is written into it but what hot_route.py holds)

# `updated_at` of the event stays that of its claim: it was decided then. What was not sent yet is parked until its lease is over.
WRITE = """
with routed as (
  update event e set status = 'ROUTED'
  from unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) as told(id, channels, providers, receipts)
  where e.id = any(array[told.id]) and e.status = 'NEW' and e.claimed_by = $5
  returning e.id, e.user_id, e.expires_at, e.claimed_by, e.claimed_at, e.lease_until, e.first_id, told.channels, told.providers,
    told.receipts
), made as (
  select r.first_id + c.place - 1 as id, r.id as event_pk, c.channel, r.user_id, r.expires_at, c.place = 1 as leads, r.claimed_by,
    r.claimed_at, r.lease_until, c.provider, c.receipt, c.provider is not null as sent
  from routed r cross join lateral unnest(string_to_array(r.channels, ','), string_to_array(r.providers, E'\\x1f', E'\\x1e'),
    string_to_array(r.receipts, E'\\x1f', E'\\x1e')) with ordinality as c(channel, provider, receipt, place)
), noted as (
  insert into attempt (notification_id, number, provider, consumer, started_at, ended_at, outcome, receipt)
  select id, 1, provider, claimed_by, claimed_at, now(), 'sent', receipt from made where sent
), inserted as (
  insert into notification (id, event_pk, channel, user_id, expires_at, leads, status, attempt, tries, claimed_by, claimed_at,
    lease_until, published_at, due_at, created_at)
  overriding system value
  select id, event_pk, channel, user_id, expires_at, leads, case when sent then 'SENT' else 'PROCESSING' end, 1, 1, claimed_by,
    claimed_at, case when not sent then lease_until end, null, case when sent then claimed_at else lease_until end, claimed_at
  from made
)
select id from routed
"""
BETWEEN, NOTHING = "\x1f", "\x1e"


class Claimed(NamedTuple):
    """An event that this process sends at once. The ids of its notifications, one per channel, follow each other from `first_id`
    on. `age_s` since it was accepted, or was to be sent.
    """

    event_pk: int
    event_id: str
    type: str
    user_id: str
    channels: tuple[Channel, ...]
    first_id: int
    payload_json: str
    age_s: float


Sent: TypeAlias = tuple[str, str | None]  # provider and receipt: printable, and not empty


class Write(NamedTuple):
    """An event, and of each notification, in the order of its channels, how it was sent; None: not yet, or it ended otherwise."""

    event_pk: int
    channels: tuple[Channel, ...]
    sent: Sequence[Sent | None]


async def claim_events(resources: Resources, events: Sequence[Plain], me: str, again: bool) -> list[Claimed]:
    """Claim events for `me`, committed on return. `again`: the answer of the same call was lost.

    An event that needs a closer look by now is passed over.
    """
    seen = {event.event_pk: event for event in events}

    async def run(part: Sequence[Plain]) -> list[Claimed]:
        rows = await resources.hot.fetch(CLAIM_EVENTS, *as_seen(part), me, resources.settings.lease_s, again)
        return [
            Claimed(event_pk, event_id, event_type, (event := seen[event_pk]).user_id, event.case.channels, first, payload, age_s)
            for event_pk, event_id, event_type, first, payload, age_s in rows
        ]

    try:
        return await repeat_deadlocks(sorted(events), run)
    except (*REFUSED, *NOT_YET):
        return []


async def write(resources: Resources, me: str, writes: Sequence[Write]) -> set[int]:
    """Route events that `me` has claimed, and insert their notifications: committed on return. The ids of those written as told.

    What is not among them is to be recorded as any other end: another took the event over, or an earlier call wrote it whose
    answer was lost, or PostgreSQL refused what a provider said, and it is taken over here.
    """

    async def run(part: Sequence[Write]) -> list[int]:
        columns = ([w.event_pk for w in part], [",".join(w.channels) for w in part], *_sent(part))
        return [r[0] for r in await resources.hot.fetch(WRITE, *columns, me)]

    try:
        return set(await repeat_deadlocks(sorted(writes, key=lambda w: w.event_pk), run))
    except REFUSED:
        ids = sorted(w.event_pk for w in writes)
        await all_or_each(ids, lambda part: take_over(resources.pool, part), lambda _id, _error: [])
        return set()


def _sent(writes: Sequence[Write]) -> tuple[list[str], list[str]]:
    """What each event's providers and receipts are told as. No printable text holds a mark."""
    providers = [BETWEEN.join([NOTHING if s is None else s[0][:TEXT_MAX] for s in w.sent]) for w in writes]
    receipts = [BETWEEN.join([NOTHING if s is None or s[1] is None else s[1][:TEXT_MAX] for s in w.sent]) for w in writes]
    return providers, receipts
