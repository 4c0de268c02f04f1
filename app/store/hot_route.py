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
from app.store.routing import decisions_json

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

    All are PENDING, and to be published.
    """

    event_pk: int
    event_id: str
    type: str
    user_id: str
    channels: tuple[Channel, ...]
    first_id: int
    published_at: datetime


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

DUE = "e.status = 'NEW' and e.published_at is not null and e.due_at <= now() and coalesce(e.expires_at > now(), true)"
_READY = f"{DUE} and e.claimed_by is null"

PEEK = f"""
select e.id, e.user_id, {_CASE}
from event e left join preference p on p.user_id = any(array[e.user_id])
where e.id = any($1::bigint[]) and {_READY} and coalesce(e.channels <@ {_ALL}, true)
"""  # noqa: S608 (nothing is written into it but what this file holds)

# The ids of an event's notifications follow each other: the sequence counts in steps of domain.PLACES. Only the first one leads.
ROUTE_PLAIN = f"""
with routed as (
  update event e set status = 'ROUTED', decisions = told.decisions::jsonb, updated_at = now()
  from unnest($1::bigint[], $2::text[], $3::text[]) as told(id, decisions, channels)
  where e.id = any(array[told.id]) and {_READY}
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
    return [Plain(event_pk, user_id, _CASES[nth]) for event_pk, user_id, nth in await hot.fetch(PEEK, event_pks)]


async def route_plain(resources: Resources, events: Sequence[Plain]) -> list[Routed]:
    """Route events, committed on return.

    Nothing where PostgreSQL refuses one of them. An event that needs a closer look by now is passed over; so is one that is no
    longer NEW: whoever routed it, or the relay, publishes.
    """

    async def run(part: Sequence[Plain]) -> list[Routed]:
        ids, cases = [event.event_pk for event in part], [event.case for event in part]
        rows = await resources.hot.fetch(ROUTE_PLAIN, ids, [case.decisions for case in cases], [case.text for case in cases])
        return [
            Routed(event_pk, event_id, event_type, user_id, _CHANNELS[text], first, at)
            for event_pk, event_id, event_type, user_id, text, first, at in rows
        ]

    try:
        return await repeat_deadlocks(sorted(events), run)
    except (*REFUSED, *NOT_YET):
        return []
