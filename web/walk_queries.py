"""How a filter is looked for among millions: along the indexes that fit, in windows of ids that hold a bounded number of rows.

An index is walked in the order of ids. `done` and `final_status` are indexed, `status` is not (so that claims stay HOT). Of
finished rows, SENT ones are walked by the primary key, as nearly all are, and others by `final_status`; unfinished ones by the
relay's partial indexes, which are not in the order of ids. Those are taken whole while there are at most OPEN_ROWS of each kind,
and looked for among all rows otherwise. Read only.
"""
# ruff: noqa: S608 (the parts of the statements are constants of this file; what was asked for is bound)

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.domain import PLACES, Channel, Status
from web.filters import KEY_MAX, Filter

OPEN_ROWS = 5_000  # unfinished ones of a channel that are looked at, of those on the stream and of those parked
EVENTS_MAX = 20
SLACK = timedelta(minutes=1)  # so far, at most, created_at and ids differ in their order
ENDED_BADLY = (Status.FAILED, Status.UNKNOWN, Status.CANCELLED)
WITH_ERROR = (*ENDED_BADLY, Status.PENDING, Status.PROCESSING)

COLUMNS = "id, event_pk, channel, user_id, status, done, reason, error, possible_duplicate, created_at, updated_at"
# `offset 0` keeps the limit of a page out of it: PostgreSQL would rather walk all ids, and hope to meet enough that match.
WALK = "select {columns} from notification where {along} and {left} and id > :low and id < :high order by id {order} offset 0"
# The same for all of one user, who has one of each event in an index. Its others have one of the next PLACES ids.
THEIRS = "user_id = :user and leads"
WALK_THEIRS = """
select its.* from notification leader cross join lateral (
  select {columns} from notification n where n.event_pk = leader.event_pk and (n.id = leader.id or not n.leads) and {left}
    and n.id > :low and n.id < :high offset 0
) as its
where leader.user_id = :user and leader.leads and leader.id > :low - {places} and leader.id < :high
order by leader.id {order}, its.id {order} offset 0
"""
OPEN_KINDS = ("published_at is not null", "published_at is null")
OPEN_ORDER = ("published_at", "due_at")

# How far one step goes: until one of the walks has met :rows rows.
STEP = """
select {furthest}(edge) as edge, cast(coalesce(sum(n), 0) as bigint) as n from ({walks}) as walked
"""
STEP_OF_ONE = """
select case when count(*) >= :rows then {nearest}(id) end as edge, count(*) as n
from (select id from notification where {along} and id > :low and id < :high order by id {order} limit :rows) as w{number}
"""

# The first row that was made at or after a moment, in about 24 steps along the primary key.
FIRST_SINCE = """
with recursive search (low, high) as (
  select coalesce(min(id), 1), coalesce(max(id), 0) + 1 from notification
  union all
  select case when mid.created_at < :moment then mid.id + 1 else low end,
    case when mid.created_at < :moment then high else (low + high) / 2 end
  from search left join lateral (
    select id, created_at from notification where id >= (low + high) / 2 and id < high order by id limit 1
  ) as mid on true where low < high
) select max(low) from search
"""

# An event id is unique per source only, and the source leads the index: one step per source, however many events there are.
EVENT_PKS = """
with recursive sources as (
  (select source from event order by source limit 1)
  union all
  select (select e.source from event e where e.source > s.source order by e.source limit 1)
  from sources s where s.source is not null
)
select e.id from sources s join event e on e.source = s.source and e.event_id = :event_id limit :most
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """Where to look: `walks` along an index in the order of ids, `sets` that are small and taken whole; `left` are conditions on
    what one walk finds beyond its index. Then `conditions` on all of them, named as `n`."""

    walks: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)
    conditions: tuple[str, ...] = ()
    bound: Mapping[str, Any] = field(default_factory=dict)


class Window(NamedTuple):
    """Ids between `low` and `high`, both exclusive; `rows` were met in it (a user's: of those that lead). `last`: the end."""

    low: int
    high: int
    rows: int
    last: bool


async def plan(session: AsyncSession, wanted: Filter) -> Plan:
    """Where to look for these."""
    conditions, bound = _conditions(wanted)
    if wanted.ids:
        return Plan(sets=(_all("id = any(:ids)"),), conditions=conditions, bound={**bound, "ids": list(wanted.ids)})
    if wanted.event is not None:
        pks = list(await session.scalars(text(EVENT_PKS), {"event_id": wanted.event, "most": EVENTS_MAX}))
        return Plan(sets=(_all("event_pk = any(:event_pks)"),), conditions=conditions, bound={**bound, "event_pks": pks})
    everything, theirs = ("true", "") if wanted.user is None else (THEIRS, "user_id = :user and ")
    statuses = wanted.statuses or (ENDED_BADLY if wanted.reason else WITH_ERROR if wanted.error else ())
    if not statuses or Status.SENT in statuses:
        return Plan(walks=(everything,), conditions=conditions, bound=bound)
    final, unfinished = [s for s in statuses if s.final], any(not s.final for s in statuses)
    walks = tuple(f"{theirs}final_status = '{s}'" for s in final)
    if not unfinished:
        return Plan(walks=walks, conditions=conditions, bound=bound)
    channels = [wanted.channel] if wanted.channel else list(Channel)
    if await _many_unfinished(session, channels):
        return Plan(walks=(*walks, everything), left={everything: "not done"}, conditions=conditions, bound=bound)
    return Plan(walks=walks, sets=tuple(_each_open(channels)), conditions=conditions, bound={**bound, "open_rows": OPEN_ROWS})


async def bounds(session: AsyncSession, wanted: Filter) -> tuple[int, int]:
    """Between which ids, both exclusive, all rows lie that were made in the time that is asked for. Ids grow with time."""
    low, high = 0, KEY_MAX
    if wanted.since is not None:
        low = await _first_since(session, wanted.since - SLACK) - 1
    if wanted.until is not None:
        high = await _first_since(session, wanted.until + SLACK)
    return low, high


async def windows(
    session: AsyncSession, planned: Plan, low: int, high: int, sizes: tuple[int, ...], *, newest_first: bool = True
) -> AsyncIterator[Window]:
    """The ids between low and high, both exclusive, in windows; no walk meets more than the next of `sizes` rows in one."""
    if not planned.walks:
        yield Window(low, high, 0, True)
        return
    step, shared = _step(planned.walks, newest_first), len(Channel) if THEIRS in planned.walks else 1
    number = 0
    while True:
        rows = max(1, sizes[min(number, len(sizes) - 1)] // shared)  # of those that lead, each may bring one of each channel
        bound = {**_of(planned.bound, step), "low": low, "high": high, "rows": rows}
        edge, n = (await session.execute(text(step), bound)).one()
        if edge is None:
            yield Window(low, high, n, True)
            return
        if newest_first:
            yield Window(edge - 1, high, n, False)
            high = edge
        else:
            yield Window(low, edge + 1, n, False)
            low = edge
        number += 1


def candidates(planned: Plan, window: Window, *, newest_first: bool = True) -> tuple[str, dict[str, Any]]:
    """`from (...) as n where ...`: what the plan finds in a window, and what to bind."""
    order = "desc" if newest_first else "asc"
    walks = [_walk(along, planned.left.get(along, "true"), order) for along in planned.walks]
    inside = " union all ".join(f"({part})" for part in (*walks, *planned.sets))
    statement = f"from ({inside}) as n where {' and '.join(('n.id > :low', 'n.id < :high', *planned.conditions))}"
    return statement, {**_of(planned.bound, statement), "low": window.low, "high": window.high}


def _walk(along: str, left: str, order: str) -> str:
    if along == THEIRS:
        return WALK_THEIRS.format(columns=COLUMNS, left=left, order=order, places=PLACES)
    return WALK.format(columns=COLUMNS, along=along, left=left, order=order)


def _of(bound: Mapping[str, Any], statement: str) -> dict[str, Any]:
    return {name: value for name, value in bound.items() if f":{name}" in statement}


def _step(walks: tuple[str, ...], newest_first: bool) -> str:
    nearest, furthest, order = ("min", "max", "desc") if newest_first else ("max", "min", "asc")
    each = [STEP_OF_ONE.format(nearest=nearest, along=along, order=order, number=i) for i, along in enumerate(walks)]
    return STEP.format(furthest=furthest, walks=" union all ".join(each))


def _conditions(wanted: Filter) -> tuple[tuple[str, ...], dict[str, Any]]:
    """All of the filter, whether an index answers for it or not."""
    asked: dict[str, tuple[str, Any]] = {
        "statuses": ("n.status = any(:statuses)", list(wanted.statuses) or None),
        "channel": ("n.channel = :channel", wanted.channel),
        "user": ("n.user_id = :user", wanted.user),
        "reason": ("n.reason = :reason", wanted.reason),
        "left_out": ("n.reason is distinct from :left_out", wanted.left_out),
        "error": ("n.error ilike :error", wanted.error and f"%{escaped(wanted.error)}%"),
        "since": ("n.created_at >= :since", wanted.since),
        "until": ("n.created_at < :until", wanted.until),
        # with a limit neither becomes a join, which would read the other table whole
        "type": ("(select e.type from event e where e.id = n.event_pk limit 1) = :type", wanted.type),
        "provider": (
            "(select true from attempt a where a.notification_id = n.id and a.provider = :provider limit 1)", wanted.provider
        ),
    }  # fmt: skip
    used = {name: (condition, value) for name, (condition, value) in asked.items() if value is not None}
    return tuple(condition for condition, _ in used.values()), {name: value for name, (_, value) in used.items()}


def escaped(part: str) -> str:
    """A text for LIKE that stands for itself."""
    return part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _all(condition: str) -> str:
    return f"select {COLUMNS} from notification where {condition} offset 0"


def _each_open(channels: list[Channel]) -> list[str]:
    return [
        _all(f"not done and channel = '{channel}' and {kind} order by {order} limit :open_rows")
        for channel in channels
        for kind, order in zip(OPEN_KINDS, OPEN_ORDER, strict=True)
    ]


async def _many_unfinished(session: AsyncSession, channels: list[Channel]) -> bool:
    each = [
        f"(select count(*) as n from (select from notification where not done and channel = '{channel}' and {kind} "
        f"limit :most) as few)"
        for channel in channels
        for kind in OPEN_KINDS
    ]
    most = await session.scalar(text(f"select max(n) from ({' union all '.join(each)}) as kinds"), {"most": OPEN_ROWS + 1})
    return int(most or 0) > OPEN_ROWS


async def _first_since(session: AsyncSession, moment: datetime) -> int:
    return int(await session.scalar(text(FIRST_SINCE), {"moment": moment}) or 1)
