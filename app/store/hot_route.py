"""The common case of route in two short statements, as those of hot.py: which case is an event, and what does that bring.

They pass over events that are not due, or expired, or no longer NEW, which routing.py judges.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from app.domain import Channel, Preference, decide_channels
from app.resources import Resources
from app.store.batch import REFUSED, repeat_deadlocks
from app.store.routing import CHANNELS, decisions_json

if TYPE_CHECKING:
    from app.store.batch import Fetching


class Case(NamedTuple):
    """What an event brings, by what it asks for and what its user wants: the channels it takes, and the decisions as JSON."""

    channels: tuple[Channel, ...]
    text: str
    decisions: str


class Plain(NamedTuple):
    """An event that may be routed as it is."""

    event_pk: int
    user_id: str
    case: Case


class Routed(NamedTuple):
    """An event and the notifications that were inserted for it: one per channel, whose ids follow each other from `first_id` on.

    `published_at`: of those that are not claimed. `payload_json` is there where one is; `age_s` since it was accepted, or was
    to be sent.
    """

    event_pk: int
    event_id: str
    type: str
    user_id: str
    channels: tuple[Channel, ...]
    first_id: int
    published_at: datetime
    payload_json: str | None
    age_s: float


def _case(asked: tuple[Channel, ...] | None, preference: Preference | None) -> Case:
    decisions = decide_channels(asked, preference)
    channels = tuple(channel for channel, decision in decisions.items() if decision.use)
    return Case(channels, ",".join(channels), decisions_json(decisions))


# The domain decides every case beforehand, PEEK says which one it is: by what is asked for (last: nothing was), and by what is
# wanted (last: nothing is stored).
_SETS = [tuple(c for n, c in enumerate(Channel) if bits >> n & 1) for bits in range(2 ** len(Channel))]
_WANTED = [*(Preference(*(channel in wanted for channel in Channel)) for wanted in _SETS), None]
_CASES = [_case(asked, preference) for asked in (*_SETS, None) for preference in _WANTED]
_CHANNELS = {case.text: case.channels for case in _CASES}
_ALL = "array[" + ", ".join(f"'{channel}'" for channel in Channel) + "]"


def _bits(has: str) -> str:
    return " + ".join(f"{2**n} * ({has.format(c, c.lower())})::int" for n, c in enumerate(Channel))


_CASE = f"""{len(_WANTED)} * case when e.channels is null then {len(_SETS)} else {_bits("'{}' = any(e.channels)")} end
    + case when p.user_id is null then {len(_SETS)} else {_bits("p.{1}_opt_in")} end"""

_READY = "e.status = 'NEW' and e.published_at is not null and e.due_at <= now() and coalesce(e.expires_at > now(), true)"

PEEK = f"""
select e.id, e.user_id, {_CASE}
from event e left join preference p on p.user_id = any(array[e.user_id])
where e.id = any($1::bigint[]) and {_READY} and coalesce(e.channels <@ {_ALL}, true)
"""  # noqa: S608 (nothing is written into it but what this file holds)

# The ids of an event's notifications follow each other: the sequence counts in steps of domain.PLACES. Only the first one leads.
# Those of the channels in $4 are claimed by $5, as CLAIM_DUE would had they been inserted before. No stream gets these: they are
# parked until their lease is over.
ROUTE_PLAIN = f"""
with routed as (
  update event e set status = 'ROUTED', decisions = told.decisions::jsonb, updated_at = now()
  from unnest($1::bigint[], $2::text[], $3::text[]) as told(id, decisions, channels)
  where e.id = any(array[told.id]) and {_READY}
  returning e.id, e.event_id, e.type, e.user_id, e.payload, e.expires_at, greatest(e.created_at, e.send_at) as accepted_at,
    told.channels
), numbered as (
  select *, nextval('notification_id_seq') as first from routed
), inserted as (
  insert into notification
    (id, event_pk, channel, user_id, expires_at, leads, status, attempt, tries, claimed_by, claimed_at, lease_until, published_at,
    due_at)
  overriding system value
  select r.first + c.place - 1, r.id, c.channel, r.user_id, r.expires_at, c.place = 1,
    case when mine then 'PROCESSING' else 'PENDING' end, mine::int, mine::int, case when mine then $5 end,
    case when mine then now() end, case when mine then lease_until end, case when not mine then now() end,
    case when mine then lease_until else now() end
  from numbered r cross join lateral unnest(string_to_array(r.channels, ',')) with ordinality as c(channel, place)
  cross join lateral (select c.channel = any($4::text[]) as mine, now() + make_interval(secs => $6) as lease_until) as claimed
)
select id, event_id, type, user_id, channels, first, now(), case when cardinality($4::text[]) > 0 then payload::text end,
  extract(epoch from now() - accepted_at)::float8
from numbered
"""  # noqa: S608 (as above)

# What ROUTE_PLAIN claimed where its answer was lost: claimed in the transaction that inserted it, and by nobody since.
CLAIMED_AS_ROUTED = """
select n.event_pk, e.event_id, e.type, e.user_id, n.channel, n.id, n.created_at, e.payload::text as payload,
  extract(epoch from n.created_at - greatest(e.created_at, e.send_at))::float8 as age_s
from notification n join event e on e.id = any(array[n.event_pk])
where n.event_pk = any($1::bigint[]) and n.status = 'PROCESSING' and n.claimed_by = $2 and n.claimed_at = n.created_at
  and n.lease_until >= now()
"""

# No column `leads` before `tidings schema apply`; no sequence of that name, or not for a role that may only change tables.
# The long way needs neither.
NOT_YET = (asyncpg.UndefinedColumnError, asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError)


async def peek(hot: "Fetching", event_pks: Sequence[int]) -> list[Plain]:
    """Those of the events that need no closer look."""
    return [Plain(event_pk, user_id, _CASES[nth]) for event_pk, user_id, nth in await hot.fetch(PEEK, event_pks)]


async def route_plain(resources: Resources, events: Sequence[Plain], at_once: Sequence[Channel], me: str) -> list[Routed]:
    """Route events, committed on return. `me` claims what is on a channel `at_once`.

    Nothing where PostgreSQL refuses one of them. An event that needs a closer look by now is passed over; so is one that is no
    longer NEW: whoever routed it, or the relay, publishes.
    """

    async def run(part: Sequence[Plain]) -> list[Routed]:
        ids, cases = [event.event_pk for event in part], [event.case for event in part]
        decisions, channels = [case.decisions for case in cases], [case.text for case in cases]
        lease_s = resources.settings.lease_s
        rows = await resources.hot.fetch(ROUTE_PLAIN, ids, decisions, channels, at_once, me, lease_s)
        return [
            Routed(event_pk, event_id, event_type, user_id, _CHANNELS[text], first, at, payload, age_s)
            for event_pk, event_id, event_type, user_id, text, first, at, payload, age_s in rows
        ]

    try:
        return await repeat_deadlocks(sorted(events), run)
    except (*REFUSED, *NOT_YET):
        return []


async def claimed_as_routed(hot: "Fetching", event_pks: Sequence[int], me: str) -> list[Routed]:
    """What `me` claimed of these events in a call of `route_plain` whose answer was lost, each notification by itself.

    The lease counts from that call.
    """
    rows = await hot.fetch(CLAIMED_AS_ROUTED, event_pks, me)
    return [
        Routed(event_pk, event_id, event_type, user_id, (CHANNELS[channel],), row_id, at, payload, age_s)
        for event_pk, event_id, event_type, user_id, channel, row_id, at, payload, age_s in rows
    ]
