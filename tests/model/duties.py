"""Who else acts: the relay (consumers/relay.py), clients that post events, and an operator who replays and cancels."""

from contextlib import suppress
from datetime import UTC, datetime

from app.domain import Reason
from consumers.relay import watermark
from tests.model.fake_redis import Away
from tests.model.handlers import publish
from tests.model.process import Process, Steps
from tests.model.rules import CHANNELS, FAULTS_UNTIL_S, RECLAIM_AFTER_S, SETTINGS
from tests.model.store_rest import EVENTS, Made

STREAMS = (EVENTS, *(c.lower() for c in CHANNELS))
LATER = float("inf")  # without the rule `before`: PostgreSQL's now() when the rows are taken
SWEEP_EVERY_S = RECLAIM_AFTER_S / 10


def relay(p: Process) -> Steps[None]:
    while True:
        yield SWEEP_EVERY_S
        try:
            for stream in STREAMS:
                yield from sweep(p, stream)
        except Away:
            pass


def sweep(p: Process, stream: str) -> Steps[None]:
    """Publish again what `stream` owes. PostgreSQL's clock is read before Redis."""
    w = p.world
    now = yield from p.patiently(w.tables.now)
    yield 0.0
    mark = seen_watermark(p, stream, now)
    yield 0.0
    asked: list[float] = []

    def take() -> list[Made]:
        asked.append(w.t)
        return w.rest.take_owed(stream, w.tables.now() if mark == LATER else mark)

    rows = yield from p.patiently(take)
    yield from publish(p, rows, asked[-1] + SETTINGS.publish_within_s)


def seen_watermark(p: Process, stream: str, now: float) -> float | None:
    rules = p.world.rules
    head = p.world.redis.head(stream, "group_head" in rules)
    if head.entry_id is None and "before" not in rules:
        return LATER
    if head.entry_id is not None and "at" not in rules:
        return int(head.entry_id.split(b"-")[0]) / 1000 - p.world.redis_ahead_s
    mark = watermark(head, datetime.fromtimestamp(now, UTC))
    return None if mark is None else mark.timestamp()


def client(p: Process, user: str, events: int) -> Steps[None]:
    """Posts events until each was answered 202; after a 503 it comes back with the same id."""
    w = p.world
    for number in range(events):
        key = f"{user}{number}"
        if key in w.accepted_keys:
            continue
        send_in_s = w.rng.choice((0, 0, 0, 0, 0, 15, 40))
        expires_in_s = w.rng.choice((None, None, None, 30, 90))
        yield w.rng.choice((0.1, 1, 20))
        while key not in w.accepted_keys:
            began = w.t
            try:
                made = w.tables.transaction(lambda: w.rest.insert_event(key, user, send_in_s, expires_in_s))  # noqa: B023
            except Away:
                yield 1.0
                continue
            w.accept(key)
            yield 0.0
            if made is not None:
                yield from publish(p, [made], began + SETTINGS.publish_within_s)


def operator(p: Process) -> Steps[None]:
    """Replays and cancels whatever row comes to hand. It publishes nothing."""
    w = p.world
    while w.t < FAULTS_UNTIL_S:
        yield w.rng.uniform(5, 40)
        with suppress(Away):
            w.tables.transaction(lambda: operate(p))


def operate(p: Process) -> None:
    w = p.world
    ids = sorted(w.tables.notifications) + sorted(w.tables.events)
    row_id, cancels = w.rng.choice(ids or [0]), w.rng.random() < 0.3
    if row_id in w.tables.events:
        w.rest.replay_event(row_id)
    elif row_id in w.tables.notifications and cancels:
        w.rest.cancel(row_id)
    elif row_id in w.tables.notifications and w.tables.notifications[row_id].reason is not Reason.RATE_LIMITED:
        w.log(row_id, "replay", w.rest.replay(row_id))
