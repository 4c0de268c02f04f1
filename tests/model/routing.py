"""What is done with the entries of the events stream, as consumers/route.py does; and its dead letters."""

from collections.abc import Sequence

from app.store.owed import DeadVerdict
from app.store.routing import EventVerdict
from app.streams import Entry
from consumers.route import AGAIN_AFTER_S
from consumers.settle import Acknowledge, Back
from consumers.verdicts import after_dead
from tests.model.at_once import commit_and_publish
from tests.model.consumer import Settle
from tests.model.fake_redis import Away
from tests.model.handlers import row_of
from tests.model.process import Died, Process, Steps
from tests.model.rules import RECLAIM_AFTER_S, SETTINGS


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
        elif wait_s < 0 or verdict is EventVerdict.EXPIRED:
            yield from p.patiently(lambda: w.rest.route(row_id, verdict is EventVerdict.EXPIRED, wait_s < 0))
        else:
            yield from commit_and_publish(p, entry, row_id)
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
