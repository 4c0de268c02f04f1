"""What is done with the entries of a channel's stream, as consumers/deliver.py does: claim, send, record; and dead letters."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from app.domain import Channel, Outcome
from app.store.notifications import GO, Claim, ClaimVerdict, Ending
from app.store.owed import DeadVerdict
from app.streams import Entry
from consumers.retry import Result, next_move
from consumers.settle import Back, Leave, Verdict
from consumers.verdicts import after_claim, after_dead, after_finish, after_release
from tests.model.consumer import Settle
from tests.model.fake_redis import Away
from tests.model.process import Answer, Open, Process, Steps
from tests.model.rules import POLICIES, RECLAIM_AFTER_S, SETTINGS
from tests.model.store_rest import Made

OUTCOMES = (Outcome.SENT, Outcome.UNAVAILABLE, Outcome.REJECTED, Outcome.UNKNOWN)
WEIGHTS = (55, 34, 4, 7)
ANSWERED = (ClaimVerdict.CLAIMED, ClaimVerdict.RESUMED, ClaimVerdict.BUSY)


def row_of(entry: Entry) -> int:
    assert entry.row_id is not None
    return entry.row_id


def publish(p: Process, made: Sequence[Made], until: float) -> Steps[None]:
    """What would come later than `until`, and all after a failure, is left to the relay."""
    for row in made:
        yield 0.0
        if "late_add" in p.world.rules and p.world.t > until:
            return
        try:
            p.world.add(row)
        except Away:
            return


class Held(NamedTuple):
    """A claim in hand."""

    entry: Entry
    claim: Claim
    open: Open
    settle: Settle


class Ended(NamedTuple):
    """`ending` None: nothing was sent, and it is to be given back."""

    held: Held
    ending: Ending | None


Record = Callable[[Ended], None]


def deliver(p: Process, entries: Sequence[Entry], settle: Settle) -> Steps[None]:
    """Claims the batch and starts its sends."""
    w, asked = p.world, list[float]()
    rows = [w.tables.notifications[row_of(e)] for e in entries]
    opens = {n.id: p.opened(n.id, n.channel, n.expires_at) for n in rows}

    def ask() -> list[Claim]:
        asked.append(w.t)
        return [w.deliveries.claim(row_id, p.me, p.calm_left_s()) for row_id in opens]

    try:
        claims = {c.id: c for c in (yield from p.patiently(ask))}
    except Away:
        for attempt in opens.values():
            w.excuse(attempt)
            p.closed(attempt)
        raise
    yield 0.0
    if len(asked) == 1 and "in_hand" in w.rules:  # a second guard of what that one sees to
        resumed = [c for c in claims.values() if c.verdict is ClaimVerdict.RESUMED]
        claims |= {c.id: c._replace(verdict=ClaimVerdict.BUSY) for c in resumed}
    for entry in entries:
        c, attempt = claims[row_of(entry)], opens[row_of(entry)]
        if len(asked) > 1 and (c.verdict not in ANSWERED or w.deliveries.lapsed(c.id, p.me)):  # the first answer was lost
            w.silent[c.id] += 1
        if c.verdict in GO:
            attempt.attempt = c.attempt
            claimed_s = asked[0] if c.verdict is ClaimVerdict.RESUMED else asked[-1]
            p.spawn(send(p, Held(entry, c, attempt, settle), claimed_s, partial(tell, p)))
        else:
            p.closed(attempt)
            settle(entry, after_claim(c, RECLAIM_AFTER_S) if "reidle" in w.rules else _whole_window(c))


def _whole_window(c: Claim) -> Verdict:
    verdict = after_claim(c, RECLAIM_AFTER_S)
    return Leave() if isinstance(verdict, Back) else verdict


def send(p: Process, held: Held, claimed_s: float, record: Record) -> Steps[None]:
    w, c = p.world, held.claim
    if "fresh" in w.rules and w.t - claimed_s + SETTINGS.provider_limit_s > SETTINGS.lease_s:
        record(Ended(held, None))
        return
    outcome = w.rng.choices(OUTCOMES, WEIGHTS)[0]
    w.called(c, outcome, held.open)
    slow = outcome is Outcome.UNKNOWN or w.rng.random() < 0.2
    yield SETTINGS.provider_limit_s * (1 if slow else w.rng.uniform(0.01, 0.4))
    held.open.outcome = outcome
    record(Ended(held, ending_of(p, c, held.open.channel, outcome)))


def tell(p: Process, ended: Ended) -> None:
    p.spawn(give_back(p, ended.held) if ended.ending is None else finish(p, ended.held, ended.ending))


def finish(p: Process, held: Held, ending: Ending) -> Steps[None]:
    w, c, asked = p.world, held.claim, p.world.t
    finished = yield from or_none(p.patiently(lambda: w.deliveries.finish(ending)))
    if held.open.outcome is not None:
        w.told(c.id, c.attempt, held.open.outcome)
    p.closed(held.open)
    held.settle(held.entry, after_finish(finished, c.attempt, asked))


def or_none(steps: Steps[Answer]) -> Steps[Answer | None]:
    """None only without the rule `hold`: what was to be recorded is forgotten."""
    try:
        return (yield from steps)
    except Away:
        return None


def give_back(p: Process, held: Held) -> Steps[None]:
    """Nothing is sent: the lease could end in mid-send, or the channel was paused."""
    w, c, parked = p.world, held.claim, None
    if "release" in w.rules:
        parked = yield from or_none(p.patiently(lambda: w.deliveries.release(c.id, c.attempt)))
    if parked is None:  # a successor was quicker
        w.silent[c.id] += "release" in w.rules
    p.closed(held.open)
    held.settle(held.entry, after_release(parked))


def ending_of(p: Process, c: Claim, channel: Channel, outcome: Outcome) -> Ending:
    w = p.world
    known = outcome if "ambiguous" in w.rules or outcome is not Outcome.UNKNOWN else Outcome.UNAVAILABLE
    jitter = 1 + SETTINGS.retry_jitter * w.rng.uniform(-1, 1)
    tries = min(c.tries if "tries" in w.rules else c.attempt, POLICIES[channel].max_tries)
    move = next_move(Result(known), tries, POLICIES[channel], jitter, RECLAIM_AFTER_S)
    return Ending(c.id, c.attempt, known, "", None, None, move.status, move.reason, move.wait_s, move.park)


def dead_notification(p: Process, entries: Sequence[Entry], settle: Settle) -> Steps[None]:
    w = p.world
    for entry in entries:
        row_id, verdict = row_of(entry), DeadVerdict.ENDED
        if "dead_final" in w.rules:
            verdict = yield from p.patiently(lambda: w.deliveries.end_dead(row_id, p.calm_left_s()))  # noqa: B023
        w.dead_letter(row_id, verdict)
        settle(entry, after_dead(verdict, ""))
