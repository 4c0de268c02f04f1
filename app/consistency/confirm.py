"""The second look at the suspects of one stream: what moved meanwhile, or fits now, is none any more."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from app.consistency.carried import EntryId, Group, Pending, look_again
from app.consistency.compare import SUSPECTS_MAX
from app.consistency.facts import Book, Carried, Owed, Suspects
from app.consistency.look import SILENT_DELIVERIES, Look, Patience
from app.store import consistency as store
from app.store.consistency import OwedRow

if TYPE_CHECKING:
    from app.store.consistency import Connection


def needs_time(look: Look, patience: Patience) -> bool:
    """Are there suspects that somebody may be about to mend? The others are judged by the second look alone, as of one moment."""
    rows = look.uncarried or look.lease_over or look.parked_late or look.unread
    return bool(rows or look.strangers or look.idle(patience) or look.silent())


def difference(group: Group) -> int:
    """Entries beyond lag and pending; 0 where the lag is not known."""
    return 0 if group.lag is None else group.length - group.lag - group.pending


async def confirm(
    connection: "Connection", redis: Redis, look: Look, after: Group, patience: Patience, paused: bool = False
) -> Book:
    """The book of one stream. `after`: its group as it is now; Redis is read before PostgreSQL, as at the first look."""
    entries = await _entries(redis, look, patience)
    rows = await _rows(connection, look)
    strangers = await _strangers(connection, look, entries)
    lost = {i: r for i, r in look.uncarried.items() if look.relay_takes(r, patience.grace_s)}
    hidden = {i: r for i, r in look.uncarried.items() if i not in lost}
    again = {one: pending for one, (_, pending) in entries.items() if pending is not None}
    stalled = after.read_to == look.group.read_to and not (look.in_flight or look.at_once)
    return Book(
        stream=look.stream,
        owed=Owed(look.published, look.parked, look.in_flight + look.at_once, look.at_once, look.capped),
        carried=_carried(look, after),
        lost=_still(lost, rows, lambda row: _takeable_s(row, look, patience)),
        hidden=_still(hidden, rows, lambda row: _published_s(row, look)),
        parked_late=_still(look.parked_late, rows, _due_s),
        lease_over=_still(look.lease_over, rows, lambda row: -(row.lease_in_s or 0.0)),
        unread=_still(look.unread if stalled else {}, rows, _due_s),
        strangers=strangers,
        forgotten=_found(look.forgotten, (one for one in entries if entries[one][0] and entries[one][1] is None)),
        emptied=_found(look.emptied, (one for one in entries if not entries[one][0] and entries[one][1] is not None)),
        idle=_idle(look.idle(patience), again, patience),
        silent=_silent(look.silent(), again),
        paused=paused,
    )


async def _entries(redis: Redis, look: Look, patience: Patience) -> dict[EntryId, tuple[bool, Pending | None]]:
    kinds = (look.strangers, look.forgotten, look.emptied, [p.id for p in (*look.idle(patience), *look.silent())])
    ids = {one for kind in kinds for one in kind[:SUSPECTS_MAX]}
    return await look_again(redis, look.stream, sorted(ids))


async def _rows(connection: "Connection", look: Look) -> dict[int, OwedRow]:
    kinds = (look.uncarried, look.lease_over, look.parked_late, look.unread)
    ids = {one for kind in kinds for one in list(kind)[:SUSPECTS_MAX]}
    return await store.unfinished(connection, look.channel, sorted(ids)) if ids else {}


async def _strangers(connection: "Connection", look: Look, entries: Mapping[EntryId, tuple[bool, Pending | None]]) -> Suspects:
    """Entries that are still there, and whose row still is not."""
    there = {one: look.entries[one] for one in look.strangers[:SUSPECTS_MAX] if entries[one][0]}
    known = await store.states(connection, look.channel, [row for row in there.values() if row is not None]) if there else {}
    return _found(look.strangers, (one for one, row in there.items() if row is None or row not in known))


def _still(suspects: Mapping[int, OwedRow], rows: Mapping[int, OwedRow], how_long_s: Callable[[OwedRow], float]) -> Suspects:
    """The rows that nobody touched since: unfinished, published as they were, under the same lease or none."""
    same = [rows[i] for i in list(suspects)[:SUSPECTS_MAX] if i in rows and _untouched(suspects[i], rows[i])]
    worst_s = max((how_long_s(row) for row in same), default=0.0)
    return Suspects(tuple(str(row.id) for row in same), worst_s, bool(same) and len(suspects) > SUSPECTS_MAX)


def _untouched(before: OwedRow, now: OwedRow) -> bool:
    return (
        now.published_at == before.published_at
        and now.due_in_s <= before.due_in_s
        and (now.lease_in_s is None) == (before.lease_in_s is None)
        and (now.lease_in_s or 0.0) <= (before.lease_in_s or 0.0)
    )


def _found(suspects: Sequence[EntryId], confirmed: Iterable[EntryId]) -> Suspects:
    of = set(suspects[:SUSPECTS_MAX])
    ids = tuple(f"{ms}-{number}" for ms, number in sorted(of.intersection(confirmed)))
    return Suspects(ids, more=bool(ids) and len(suspects) > SUSPECTS_MAX)


def _idle(suspects: Sequence[Pending], again: Mapping[EntryId, Pending], patience: Patience) -> Suspects:
    """The consumers that hold them. An entry that was taken over, or put back, has a smaller idle time by now."""
    idle = [p for p in _pending_again(suspects, again) if p.idle_s > patience.idle_s]
    holders = tuple(sorted({p.consumer for p in idle}))
    return Suspects(holders, max((p.idle_s for p in idle), default=0.0), bool(idle) and len(suspects) > SUSPECTS_MAX)


def _silent(suspects: Sequence[Pending], again: Mapping[EntryId, Pending]) -> Suspects:
    silent = [p for p in _pending_again(suspects, again) if p.deliveries > SILENT_DELIVERIES]
    ids = tuple(f"{p.id[0]}-{p.id[1]}" for p in silent)
    return Suspects(ids, max((p.deliveries for p in silent), default=0), bool(silent) and len(suspects) > SUSPECTS_MAX)


def _pending_again(suspects: Sequence[Pending], again: Mapping[EntryId, Pending]) -> list[Pending]:
    return [again[p.id] for p in suspects[:SUSPECTS_MAX] if p.id in again]


def _carried(look: Look, after: Group) -> Carried:
    """The numbers of the first look; a difference counts where it is the same at the second."""
    group = look.group
    return Carried(
        length=group.length,
        lag=group.lag,
        pending=group.pending,
        difference=difference(group) if difference(group) == difference(after) else 0,
        compared=len(look.entries),
        doubled=look.doubled,
        final=look.final,
        parked=look.parked_entries,
        group=group.exists,
    )


def _takeable_s(row: OwedRow, look: Look, patience: Patience) -> float:
    """For how long the relay could have taken it, had it been awake."""
    return min(_published_s(row, look) - patience.grace_s, -row.due_in_s, -row.lease_in_s if row.lease_in_s is not None else 1e12)


def _published_s(row: OwedRow, look: Look) -> float:
    return (look.now - row.published_at).total_seconds() if row.published_at else 0.0


def _due_s(row: OwedRow) -> float:
    return -row.due_in_s
