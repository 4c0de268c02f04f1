"""What is done with the entries of the events stream, as consumers/route.py does; and its dead letters.

The short way of consumers/route_plain.py ends in at_once.py.
"""

from collections.abc import Callable, Sequence

from app.store.owed import DeadVerdict
from app.store.routing import EventRow, EventVerdict
from app.streams import Entry
from consumers.rate_limit import AGAIN_AFTER_S
from consumers.route import after_route
from consumers.verdicts import after_dead
from tests.model.at_once import route_plain
from tests.model.consumer import Settle
from tests.model.fake_redis import Away
from tests.model.handlers import publish, row_of
from tests.model.process import Died, Process, Steps
from tests.model.rules import RECLAIM_AFTER_S, SETTINGS
from tests.model.store_rest import Made


def route(p: Process, entries: Sequence[Entry], settle: Settle) -> Steps[None]:
    """The batch's events one after the other."""
    for entry in entries:
        yield from route_one(p, entry, settle)


def route_one(p: Process, entry: Entry, settle: Settle) -> Steps[None]:
    """What was delivered for the first time goes the short way, unless it needs a closer look."""
    if entry.deliveries > 1 or not (yield from look_and_route(p, entry, settle)):
        yield from look_closer(p, entry, settle)


def look_and_route(p: Process, entry: Entry, settle: Settle) -> Steps[bool]:
    """False: it needs a closer look, or is over the limit."""
    w, row_id = p.world, row_of(entry)
    verdict, _ = yield from p.patiently(lambda: w.routes.look(row_id))
    if verdict is not EventVerdict.GO:
        return False
    if row_id in w.poison:
        raise Died
    yield 0.0
    wait_s = yield from charge(p, row_id)
    yield 0.0
    return wait_s == 0 and (yield from route_plain(p, entry, settle))


def look_closer(p: Process, entry: Entry, settle: Settle) -> Steps[None]:
    w, row_id = p.world, row_of(entry)
    verdict, due_in_s = yield from p.patiently(lambda: w.routes.look(row_id))
    if row_id in w.poison and verdict is EventVerdict.GO:
        raise Died
    yield 0.0
    if verdict is EventVerdict.CLAIMED:
        yield from commit_and_publish(p, lambda: w.routes.take_over(row_id))
    elif verdict in (EventVerdict.GO, EventVerdict.EXPIRED):
        wait_s = (yield from charge(p, row_id)) if verdict is EventVerdict.GO else 0.0
        yield 0.0
        if wait_s > 0:
            yield from p.patiently(lambda: w.routes.defer(row_id, wait_s))
        else:
            yield from commit_and_publish(p, lambda: w.routes.route(row_id, verdict is EventVerdict.EXPIRED, wait_s < 0))
    settle(entry, after_route(EventRow(row_id, "", "", "", None, None, verdict, due_in_s), RECLAIM_AFTER_S))


def commit_and_publish(p: Process, commit: Callable[[], list[Made]]) -> Steps[None]:
    w, asked = p.world, list[float]()

    def ask() -> list[Made]:
        asked.append(w.t)
        return commit()

    made = yield from p.patiently(ask)
    yield 0.0
    yield from publish(p, made, asked[-1] + SETTINGS.publish_within_s)


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
        if "dead_claimed" in w.rules:
            yield from commit_and_publish(p, lambda: w.routes.take_over(row_id))  # noqa: B023
        if "dead_final" in w.rules:
            verdict = yield from p.patiently(lambda: w.routes.end_dead(row_id))  # noqa: B023
        w.dead_letter(row_id, verdict)
        settle(entry, after_dead(verdict, ""))
