"""What is done with the entries of a channel's stream, as consumers/deliver.py does: claim, send, record; and dead letters."""

from collections.abc import Sequence

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


def deliver(p: Process, entries: Sequence[Entry], settle: Settle) -> Steps[None]:
    """Claims the batch and starts its sends."""
    w, asked = p.world, list[float]()
    opens = {row_of(e): p.opened(row_of(e)) for e in entries}

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
            p.spawn(send(p, entry, c, asked[0] if c.verdict is ClaimVerdict.RESUMED else asked[-1], attempt, settle))
        else:
            p.closed(attempt)
            settle(entry, after_claim(c, RECLAIM_AFTER_S) if "reidle" in w.rules else _whole_window(c))


def _whole_window(c: Claim) -> Verdict:
    verdict = after_claim(c, RECLAIM_AFTER_S)
    return Leave() if isinstance(verdict, Back) else verdict


def send(p: Process, entry: Entry, c: Claim, claimed_s: float, attempt: Open, settle: Settle) -> Steps[None]:
    w = p.world
    if "fresh" in w.rules and w.t - claimed_s + SETTINGS.provider_limit_s > SETTINGS.lease_s:
        yield from give_back(p, entry, c, attempt, settle)
        return
    outcome = w.rng.choices(OUTCOMES, WEIGHTS)[0]
    w.called(c, outcome, attempt)
    slow = outcome is Outcome.UNKNOWN or w.rng.random() < 0.2
    yield SETTINGS.provider_limit_s * (1 if slow else w.rng.uniform(0.01, 0.4))
    attempt.outcome = outcome
    ending, asked = ending_of(p, c, outcome), w.t
    finished = yield from or_none(p.patiently(lambda: w.deliveries.finish(ending)))
    w.told(c.id, c.attempt, outcome)
    p.closed(attempt)
    settle(entry, after_finish(finished, c.attempt, asked))


def or_none(steps: Steps[Answer]) -> Steps[Answer | None]:
    """None only without the rule `hold`: what was to be recorded is forgotten."""
    try:
        return (yield from steps)
    except Away:
        return None


def give_back(p: Process, entry: Entry, c: Claim, attempt: Open, settle: Settle) -> Steps[None]:
    """Nothing is sent: the lease could end in mid-send, or the channel was paused."""
    w, parked = p.world, None
    if "release" in w.rules:
        parked = yield from or_none(p.patiently(lambda: w.deliveries.release(c.id, c.attempt)))
    if parked is None:  # a successor was quicker
        w.silent[c.id] += "release" in w.rules
    p.closed(attempt)
    settle(entry, after_release(parked))


def ending_of(p: Process, c: Claim, outcome: Outcome) -> Ending:
    w = p.world
    known = outcome if "ambiguous" in w.rules or outcome is not Outcome.UNKNOWN else Outcome.UNAVAILABLE
    channel: Channel = w.tables.notifications[c.id].channel
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
