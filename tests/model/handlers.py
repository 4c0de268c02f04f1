"""What is done with entries: route (consumers/route.py), deliver (consumers/deliver.py), and dead letters."""

from collections.abc import Sequence

from app.domain import Channel, Outcome
from app.store.notifications import GO, Claim, ClaimVerdict, Ending
from app.store.owed import DeadVerdict
from app.store.routing import EventVerdict
from app.streams import Entry
from consumers.retry import Result, next_move
from consumers.settle import Acknowledge, Back, Leave, Verdict
from consumers.verdicts import after_claim, after_dead, after_finish, after_release
from tests.model.consumer import Settle
from tests.model.fake_redis import Away
from tests.model.process import Answer, Died, Open, Process, Steps
from tests.model.rules import POLICIES, RECLAIM_AFTER_S, SETTINGS
from tests.model.store_rest import Made

OUTCOMES = (Outcome.SENT, Outcome.UNAVAILABLE, Outcome.REJECTED, Outcome.UNKNOWN)
WEIGHTS = (55, 34, 4, 7)
AGAIN_AFTER_S = 0.25
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


# ---- route


def route(p: Process, entries: Sequence[Entry], settle: Settle) -> Steps[None]:
    """The batch's events one after the other."""
    for entry in entries:
        yield from route_one(p, entry, settle)


def route_one(p: Process, entry: Entry, settle: Settle) -> Steps[None]:
    w, row_id = p.world, row_of(entry)
    verdict, due_in_s = yield from p.patiently(lambda: w.rest.read_event(row_id))
    if row_id in w.poison and verdict is EventVerdict.GO:
        raise Died
    yield 0.0
    if verdict in (EventVerdict.GO, EventVerdict.EXPIRED):
        wait_s = (yield from charge(p, row_id)) if verdict is EventVerdict.GO else 0.0
        yield 0.0
        if wait_s > 0:
            yield from p.patiently(lambda: w.rest.defer(row_id, wait_s))
        else:
            asked: list[float] = []

            def commit() -> list[Made]:
                asked.append(w.t)
                return w.rest.route(row_id, verdict is EventVerdict.EXPIRED, wait_s < 0)

            made = yield from p.patiently(commit)
            yield from publish(p, made, asked[-1] + SETTINGS.publish_within_s)
    waits = verdict is EventVerdict.LATER
    settle(entry, Back(min(max(due_in_s, 0.0), RECLAIM_AFTER_S)) if waits else Acknowledge())


def charge(p: Process, row_id: int) -> Steps[float]:
    """Repeated while Redis is away: the bucket remembers what it charged."""
    w = p.world
    every_s, keep_s, user = SETTINGS.rate_limit_every_us / 1e6, 3 * RECLAIM_AFTER_S, w.tables.events[row_id].user
    while True:
        try:
            return w.redis.charge(
                user, row_id, SETTINGS.rate_limit_per_user, every_s, keep_s, "charge_once" in w.rules, w.deferring
            )
        except Away:
            yield AGAIN_AFTER_S


def dead_event(p: Process, entries: Sequence[Entry], settle: Settle) -> Steps[None]:
    w = p.world
    for entry in entries:
        row_id, verdict = row_of(entry), DeadVerdict.ENDED
        if "dead_final" in w.rules:
            verdict = yield from p.patiently(lambda: w.rest.end_dead_event(row_id))  # noqa: B023
        w.dead_letter(row_id, verdict)
        settle(entry, after_dead(verdict, ""))


# ---- deliver


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
    for entry in entries:
        c, attempt = claims[row_of(entry)], opens[row_of(entry)]
        if len(asked) > 1 and c.verdict not in ANSWERED:  # the first answer was lost, the second came after the lease
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
    ending = ending_of(p, c, outcome)
    finished = yield from or_none(p.patiently(lambda: w.deliveries.finish(ending)))
    w.told(c.id, c.attempt, outcome)
    p.closed(attempt)
    settle(entry, after_finish(finished, c.attempt))


def or_none(steps: Steps[Answer]) -> Steps[Answer | None]:
    """None only without the rule `hold`: what was to be recorded is forgotten."""
    try:
        return (yield from steps)
    except Away:
        return None


def give_back(p: Process, entry: Entry, c: Claim, attempt: Open, settle: Settle) -> Steps[None]:
    """The lease could end in mid-send: nothing is sent."""
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
