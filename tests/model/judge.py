"""The verdict on a run, once the faults have stopped and all is quiet.

stuck         an event or notification is not final, or an entry is left on a stream or in somebody's hand
slow          all became final only SLOW_S after the last fault
unexcused     more sends than 1 + replays + attempts that a fault hit between call and record
at_most_once  a second send where none is allowed, and no operator asked for it
unrecorded    a send after another, and the attempt does not say possible_duplicate
hasty         the crash rule closed an attempt whose process was there to record it
rowless       a call for a notification that no row tells of, or an event that is routed and lacks one
untold        a consumer knew the outcome of an attempt, and its row says otherwise
unnumbered    an attempt that was neither recorded nor given back
needless      UNKNOWN although no provider was called, and no fault hit a claim
tries         more calls than allowed, or out of tries with calls left
late          a send long after the notification had expired
flood         more entries for one row than 1 + parks + faults
dead          a dead letter although no process fell silent that often, or one again and again
unheld        a call ended, and its entry was no longer in hand
crowded       more in one consumer's hand than it has slots
refused       refused by the rate limit although the user was under it
move          a change of status that app/domain.py does not allow
"""

from typing import TYPE_CHECKING

from app.domain import CrashPolicy, EventStatus, Outcome, Reason, Status
from tests.model import faults
from tests.model.rules import CHANNELS, POLICIES, SETTINGS, SLOW_S
from tests.model.tables import Event, Notification

if TYPE_CHECKING:
    from tests.model.world import World

UNDER_THE_LIMIT = ("ann", "bob")


def healed(w: "World") -> bool:
    """Is everything accepted, final, and off the streams, and in nobody's hand?"""
    rows: list[Event | Notification] = [*w.tables.events.values(), *w.tables.notifications.values()]
    return (
        w.all_accepted()
        and not any(p.open for p in w.processes)
        and all(r.done for r in rows)
        and not any(s.entries for s in w.redis.streams.values())
        and not any(_in_hands(w))
    )


def _in_hands(w: "World") -> list[int]:
    """How many entries each consumer has that lives."""
    return [len(c.in_hand.entries) + c.in_hand.reserved for p in w.processes if p.alive for c in p.consumers.values()]


def judge(w: "World") -> None:
    for e in w.tables.events.values():
        _event(w, e)
    for row_id in w.calls.keys() - w.tables.notifications.keys():
        w.bad("rowless", f"notification {row_id}: {w.calls[row_id]} calls")
    for n in w.tables.notifications.values():
        _sends(w, n)
        _record(w, n)
        _end(w, n)
    _entries(w)
    if not w.all_accepted():
        w.bad("stuck", f"only {len(w.accepted_keys)} events were accepted")
    reserved_s = faults.STEP_BACK_MAX_S if w.redis_went_back and w.deferring else 0.0  # on a clock that is that far back now
    if w.heal_s >= SLOW_S + reserved_s and not w.wrong:
        w.bad("slow", f"{w.heal_s:.0f} s")


def _event(w: "World", e: Event) -> None:
    if not e.done:
        w.bad("stuck", f"event {e.id}: {e.status}, due in {e.due_at - w.tables.now():.0f} s, published {e.published_at}")
    if w.deads[e.id] > (2 + e.replays if e.id in w.poison else 0):
        w.bad("dead", f"event {e.id}: {w.deads[e.id]} dead letters")
    rows = [n for n in w.tables.notifications.values() if n.event == e.id]
    if len(rows) != len(CHANNELS) and e.status is EventStatus.ROUTED:
        w.bad("rowless", f"event {e.id}: routed, {len(rows)} notifications")
    limited = any(n.reason is Reason.RATE_LIMITED for n in rows)
    if limited and e.user in UNDER_THE_LIMIT and not w.redis_went_back:
        w.bad("refused", f"event {e.id}")


def _sends(w: "World", n: Notification) -> None:
    sends, calls, rounds, policy = w.sends[n.id], w.calls[n.id], 1 + n.replays, POLICIES[n.channel]
    if sends > rounds + w.excuses[n.id]:
        w.bad("unexcused", f"notification {n.id}: {sends} sends, {w.excuses[n.id]} excuses, {n.replays} replays")
    if policy.crash_policy is CrashPolicy.AT_MOST_ONCE and sends > rounds:
        w.bad("at_most_once", f"notification {n.id}: {sends} sends, {n.replays} replays")
    if calls > policy.max_tries * rounds:
        w.bad("tries", f"notification {n.id}: {calls} calls, {policy.max_tries} tries")
    spared = w.excuses[n.id] + w.silent[n.id]
    if n.reason is Reason.OUT_OF_TRIES and (n.tries < policy.max_tries or calls + spared < policy.max_tries):
        w.bad("tries", f"notification {n.id}: out of tries after {calls} calls")


def _record(w: "World", n: Notification) -> None:
    for number in range(1, n.attempt + 1):
        row, truth = w.tables.attempts.get((n.id, number)), w.truths.get((n.id, number))
        if row is None and (n.id, number) not in w.deliveries.released:
            w.bad("unnumbered", f"notification {n.id}, attempt {number}")
        if truth is not None and truth is not Outcome.UNKNOWN and row is not truth:
            w.bad("untold", f"notification {n.id}, attempt {number}: {truth}, recorded {row}; {n.status} {n.reason}")
        judged = n.reason in (Reason.CRASHED, Reason.DEAD_LETTER, Reason.NO_ANSWER)
        if truth is Outcome.SENT and number == n.attempt and judged:
            w.bad("untold", f"notification {n.id} was sent, and stays {n.status} {n.reason}")
    if n.status is Status.UNKNOWN and not w.calls[n.id] and not w.silent[n.id]:
        w.bad("needless", f"notification {n.id}: {n.reason}, nothing was sent")


def _end(w: "World", n: Notification) -> None:
    if not n.done:
        due_in_s = n.due_at - w.tables.now()
        w.bad("stuck", f"notification {n.id}: {n.status}, due in {due_in_s:.0f} s, published {n.published_at}")
    if w.deads[n.id] and w.silences < SETTINGS.max_deliveries:
        w.bad("dead", f"notification {n.id}: dead letter after {w.calls[n.id]} calls")


def _entries(w: "World") -> None:
    for row_id, adds in w.adds.items():
        if adds > 2 + w.tables.parks.get(row_id, 0) + w.faults:
            w.bad("flood", f"row {row_id}: {adds} entries, {w.faults} faults in the run")
    for name, stream in w.redis.streams.items():
        if stream.entries and not w.wrong:
            w.bad("stuck", f"{len(stream.entries)} entries are left on {name}")
    if any(_in_hands(w)) and not w.wrong:
        w.bad("stuck", f"entries are left in hand: {_in_hands(w)}")
