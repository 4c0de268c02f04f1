"""The common case of route in two short statements, as those of hot.py: which case is an event, and what does that bring.

They pass over events that are not due, or expired, or no longer NEW, which routing.py judges. Accept looks which case it is, too
(events.py), and says so in the entry; whoever routes an event sees to it that it is still so. Where it is not, because its user
wants nothing any more, a token is gone for nothing.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from app.domain import Channel, Preference, decide_channels
from app.resources import Resources
from app.store.batch import REFUSED, repeat_deadlocks
from app.store.routing import decisions_json

if TYPE_CHECKING:
    from app.store.batch import Fetching


class Case(NamedTuple):
    """What an event brings, by what it asks for and what its user wants: the channels it takes, and the decisions as JSON.

    `nth` of all cases.
    """

    nth: int
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

    All are PENDING, and to be published.
    """

    event_pk: int
    event_id: str
    type: str
    user_id: str
    channels: tuple[Channel, ...]
    first_id: int
    published_at: datetime


def _case(nth: int, asked: tuple[Channel, ...] | None, preference: Preference | None) -> Case:
    decisions = decide_channels(asked, preference)
    channels = tuple(channel for channel, decision in decisions.items() if decision.use)
    return Case(nth, channels, ",".join(channels), decisions_json(decisions))


# The domain decides every case beforehand, CASE says which one it is: by what is asked for (last: nothing was), and by what is
# wanted (last: nothing is stored).
_SETS = [tuple(c for n, c in enumerate(Channel) if bits >> n & 1) for bits in range(2 ** len(Channel))]
_WANTED = [*(Preference(*(channel in wanted for channel in Channel)) for wanted in _SETS), None]
CASES = [_case(nth, *both) for nth, both in enumerate(product((*_SETS, None), _WANTED))]
_CHANNELS = {case.text: case.channels for case in CASES}
_ALL = "array[" + ", ".join(f"'{channel}'" for channel in Channel) + "]"


def _bits(has: str) -> str:
    return " + ".join(f"{2**n} * ({has.format(c, c.lower())})::int" for n, c in enumerate(Channel))


# Of event e; null where it asks for a channel that is not known here. DECISIONS are those of case told.nth.
CASE = f"""({len(_WANTED)} * case when e.channels is null then {len(_SETS)} when e.channels <@ {_ALL} then
    {_bits("'{}' = any(e.channels)")} end
    + coalesce((select {_bits("p.{1}_opt_in")} from preference p where p.user_id = any(array[e.user_id])), {len(_SETS)}))"""  # noqa: S608 (as below)
# Who was charged is its user, and it is still the case that was seen: an event of which an entry said so may be another by now.
AS_SEEN = f"e.user_id = told.user_id and {CASE} = told.nth"
DECISIONS = "(array[" + ", ".join(f"'{case.decisions}'::jsonb" for case in CASES) + "])[told.nth + 1]"

DUE = "e.status = 'NEW' and e.published_at is not null and e.due_at <= now() and coalesce(e.expires_at > now(), true)"
_READY = f"{DUE} and e.claimed_by is null"

PEEK = f"""
select e.id, e.user_id, {CASE} from event e where e.id = any($1::bigint[]) and {_READY}
"""  # noqa: S608 (nothing is written into it but what this file holds)

# The ids of an event's notifications follow each other: the sequence counts in steps of domain.PLACES. Only the first one leads.
ROUTE_PLAIN = f"""
with routed as (
  update event e set status = 'ROUTED', decisions = {DECISIONS}, updated_at = now()
  from unnest($1::bigint[], $2::text[], $3::int[], $4::text[]) as told(id, user_id, nth, channels)
  where e.id = any(array[told.id]) and {_READY} and {AS_SEEN}
  returning e.id, e.event_id, e.type, e.user_id, e.expires_at, told.channels
), numbered as (
  select *, nextval('notification_id_seq') as first from routed
), inserted as (
  insert into notification (id, event_pk, channel, user_id, expires_at, leads)
  overriding system value
  select r.first + c.place - 1, r.id, c.channel, r.user_id, r.expires_at, c.place = 1
  from numbered r cross join lateral unnest(string_to_array(r.channels, ',')) with ordinality as c(channel, place)
)
select id, event_id, type, user_id, channels, first, now() from numbered
"""  # noqa: S608 (as above)

# No sequence of that name, or not for a role that may only change tables: the long way does not need it.
NOT_YET = (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError)


async def peek(hot: "Fetching", event_pks: Sequence[int]) -> list[Plain]:
    """Those of the events that need no closer look."""
    rows = await hot.fetch(PEEK, event_pks)
    return [Plain(event_pk, user_id, CASES[nth]) for event_pk, user_id, nth in rows if nth is not None]


def as_seen(events: Sequence[Plain]) -> tuple[list[int], list[str], list[int]]:
    """What AS_SEEN is told of each."""
    return [e.event_pk for e in events], [e.user_id for e in events], [e.case.nth for e in events]


async def route_plain(resources: Resources, events: Sequence[Plain]) -> list[Routed]:
    """Route events, committed on return.

    Nothing where PostgreSQL refuses one of them. An event that needs a closer look by now is passed over; so is one that is no
    longer NEW: whoever routed it, or the relay, publishes.
    """

    async def run(part: Sequence[Plain]) -> list[Routed]:
        texts = [event.case.text for event in part]
        rows = await resources.hot.fetch(ROUTE_PLAIN, *as_seen(part), texts)
        return [
            Routed(event_pk, event_id, event_type, user_id, _CHANNELS[text], first, at)
            for event_pk, event_id, event_type, user_id, text, first, at in rows
        ]

    try:
        return await repeat_deadlocks(sorted(events), run)
    except (*REFUSED, *NOT_YET):
        return []
