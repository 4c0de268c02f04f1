"""What goes wrong in a run: processes are killed and frozen at any step; servers go away, forget, and have their clocks moved."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from tests.model.process import Task
from tests.model.rules import FAULTS_UNTIL_S

if TYPE_CHECKING:
    from tests.model.world import World

FREEZE_S = (3, 12, 30, 70)
AWAY_S = (2, 12, 30, 60)
STEP_BACK_MAX_S = 300.0
Fault: TypeAlias = "Callable[[World], None]"


def plan(w: "World") -> None:
    """Chooses a run's faults, most runs have few kinds: so each is seen with and without the others."""
    rng = w.rng
    w.hot, w.p_lost = rng.choice((0.002, 0.006, 0.015)), rng.choice((0, 0.003, 0.01))
    w.freezes = rng.random() < 0.7
    if rng.random() < 0.3:
        w.idle_until = rng.uniform(20, 70)  # consumers start late: a backlog
    for fault in (flush, delete_stream, failover, redis_away, postgres_away, redis_clock, forget_consumer, postgres_clock):
        if rng.random() < 0.25:
            w.after(rng.uniform(5, FAULTS_UNTIL_S - 10), lambda fault=fault: _begin(w, fault))  # type: ignore[misc]


def struck(w: "World", task: Task) -> bool:
    """Is the task's process killed or frozen instead of its next step?"""
    if w.t > FAULTS_UNTIL_S or w.rng.random() >= w.hot * task.risk:
        return False
    w.faults += 1
    if w.freezes and w.rng.random() < 0.5:
        task.process.freeze(w.rng.choice(FREEZE_S))
        w.push(task, 0.0)
    else:
        task.process.kill(w.rng.uniform(0.5, 5))
    return True


def _begin(w: "World", fault: Fault) -> None:
    w.faults += 1
    w.log("FAULT", fault.__name__)
    fault(w)


def flush(w: "World") -> None:
    w.redis.streams.clear()
    w.redis.buckets.clear()


def delete_stream(w: "World") -> None:
    w.redis.streams.pop(w.rng.choice(("events", "email", "sms")), None)


def failover(w: "World") -> None:
    """In a while Redis is what it was just now."""
    streams = {name: stream.copy() for name, stream in w.redis.streams.items()}
    buckets = {user: dict(bucket) for user, bucket in w.redis.buckets.items()}

    def restore() -> None:
        w.redis.streams, w.redis.buckets = streams, buckets
        w.log("failed over")

    w.after(w.rng.uniform(0, 8), restore)


def redis_away(w: "World") -> None:
    w.redis.down = True
    w.after(w.rng.choice(AWAY_S), lambda: setattr(w.redis, "down", False))


def postgres_away(w: "World") -> None:
    """A restart, or an absence that looks like none: a failover, the network."""
    w.tables.down, restarts = True, w.rng.random() < 0.5

    def back() -> None:
        w.tables.down = False
        w.tables.started_at = w.tables.now() if restarts else w.tables.started_at
        w.log("PostgreSQL is back", "restarted" if restarts else "")

    w.after(w.rng.choice(AWAY_S), back)


def redis_clock(w: "World") -> None:
    step_s = w.rng.choice((-STEP_BACK_MAX_S, -15, 15, 300))
    w.redis.offset_s += step_s
    w.redis_went_back |= step_s < 0


def postgres_clock(w: "World") -> None:
    step_s = w.rng.choice((-30, -1, 1))
    w.tables.offset_s += step_s
    w.clock_went_back |= step_s < 0
    for process in w.processes:
        process.excuse_all()


def forget_consumer(w: "World") -> None:
    """XGROUP DELCONSUMER by hand: what it had pending is forgotten."""
    stream = w.redis.streams.get(w.rng.choice(("events", "email", "sms")))
    if stream and stream.group and stream.group.pending:
        gone = w.rng.choice(sorted(p.owner for p in stream.group.pending.values()))
        stream.group.pending = {i: p for i, p in stream.group.pending.items() if p.owner != gone}
