"""One run: two processes of consumers, the clients, an operator, and faults at every step until FAULTS_UNTIL_S; then the judge.

PostgreSQL, Redis and the processes have clocks of their own; Redis' drifts and jumps. Runs are repeatable by seed.
"""

import heapq
from collections import Counter
from collections.abc import Callable
from random import Random

from app.domain import CrashPolicy, Outcome
from app.store.notifications import Claim
from app.store.owed import DeadVerdict
from tests.model import duties, faults, handlers, judge, routing
from tests.model.consumer import Consumer, Handler
from tests.model.fake_redis import Away, FakeRedis
from tests.model.process import Died, Open, Process, Task
from tests.model.rules import ALL, CHANNELS, FAULTS_UNTIL_S, POLICIES, QUIET_S, SETTINGS
from tests.model.store_deliver import Deliveries
from tests.model.store_rest import EVENTS, Made, Rest
from tests.model.store_route import Routes
from tests.model.tables import Notification, Tables

USERS = {"ann": 3, "bob": 3, "cleo": 6}  # events each posts: cleo may go over the limit
LOOK_EVERY_S = 1.0


class World:
    """`wrong` has what the judge found: (kind, what), nothing where the promise was kept."""

    def __init__(self, seed: int, rules: frozenset[str] = ALL, trace: bool = False) -> None:
        self.rng, self.rules, self.trace, self.t = Random(seed), rules, trace, 0.0
        self.p_lost, self.heap, self.sequence, self.look_at = 0.0, list[tuple[float, int, Task | Callable[[], None]]](), 0, 0.0
        self.redis = FakeRedis(lambda: self.t, self._lose, self.rng)
        self.redis_ahead_s = self.redis.time()
        self.tables = Tables(lambda: self.t, self._lose, self.bad)
        self.deliveries = Deliveries(self.tables, rules, self.crash_rule)
        self.routes, self.rest = Routes(self.tables, rules), Rest(self.tables, rules)
        self.adds, self.calls, self.sends, self.excuses, self.silent, self.deads = (Counter[int]() for _ in range(6))
        self.truths: dict[tuple[int, int], Outcome] = {}
        self.accepted_keys: set[str] = set()
        self.poison: set[int] = set()
        self.wrong: list[tuple[str, str]] = []
        self.faults, self.silences, self.heal_s, self.idle_until, self.hot = 0, 0, 0.0, 0.0, 0.0
        self.deferring, self.at_once, self.freezes, self.clock_went_back, self.redis_went_back = False, True, False, False, False
        self.processes: list[Process] = []

    def run(self) -> "World":
        faults.plan(self)
        self.deferring, self.at_once = self.rng.random() < 0.3, self.rng.random() < 0.7  # or the channels have a limit
        for number in range(2):
            self._process(f"consumers-{number}", self._consumers)
        for user, events in USERS.items():
            self._process(f"api-{user}", lambda p, user=user, events=events: p.spawn(duties.client(p, user, events)))  # type: ignore[misc]
        self._process("operator", lambda p: p.spawn(duties.operator(p)))
        while self.heap and not self._over():
            at, _, item = heapq.heappop(self.heap)
            self.t = max(self.t, at)
            if isinstance(item, Task):
                self._step(item)
            else:
                item()
        self.heal_s = self.t - FAULTS_UNTIL_S
        judge.judge(self)
        return self

    # ---- what runs

    def _process(self, name: str, begin: Callable[[Process], None]) -> None:
        process = Process(self, name, begin)
        self.processes.append(process)
        process.start()

    def _consumers(self, p: Process) -> None:
        p.consumers = {stream: Consumer(p, stream, handler, dead) for stream, (handler, dead) in handlers_of().items()}
        for consumer in p.consumers.values():
            p.spawn(consumer.run(), risk=0.3)
        if "relay" in self.rules:
            p.spawn(duties.relay(p), risk=0.3)

    def push(self, task: Task, in_s: float) -> None:
        self._schedule(task, in_s + self.rng.expovariate(200))

    def after(self, in_s: float, call: Callable[[], None]) -> None:
        self._schedule(call, in_s)

    def _schedule(self, item: Task | Callable[[], None], in_s: float) -> None:
        self.sequence += 1
        heapq.heappush(self.heap, (self.t + in_s, self.sequence, item))

    def _step(self, task: Task) -> None:
        p = task.process
        if task.life != p.life:
            return
        if p.frozen_until > self.t:
            self._schedule(task, p.frozen_until - self.t + self.rng.random() / 100)
        elif not faults.struck(self, task):
            try:
                self.push(task, next(task.steps))
            except StopIteration:
                pass
            except Died:
                p.kill(self.rng.uniform(0.5, 2))

    def _over(self) -> bool:
        if self.t < FAULTS_UNTIL_S or self.t < self.look_at:
            return False
        self.look_at = self.t + LOOK_EVERY_S
        return self.t > FAULTS_UNTIL_S + QUIET_S or judge.healed(self)

    # ---- what the judge will want to know

    def _lose(self) -> None:
        if self.p_lost and self.rng.random() < self.p_lost:
            raise Away

    def bad(self, kind: str, what: str) -> None:
        self.wrong.append((kind, what))
        self.log("WRONG", kind, what)

    def log(self, *words: object) -> None:
        if self.trace:
            print(f"{self.t:8.2f}", *words)

    def add(self, row: Made) -> None:
        self.adds[row.row_id] += 1
        self.redis.add(row.stream, row.row_id, row.published_at)

    def accept(self, key: str) -> None:
        self.accepted_keys.add(key)
        if self.rng.random() < 0.05:
            self.poison.add(self.rest.by_key[key])

    def all_accepted(self) -> bool:
        return len(self.accepted_keys) == sum(USERS.values())

    def excuse(self, attempt: Open) -> None:
        """A fault hit this attempt: before its call nobody may learn that nothing was sent, after it that something was."""
        if not attempt.excused:
            attempt.excused = True
            (self.excuses if attempt.sent else self.silent)[attempt.row_id] += 1

    def called(self, c: Claim, outcome: Outcome, attempt: Open) -> None:
        """The provider is called."""
        if self.sends[c.id] and not c.possible_duplicate:
            self.bad("unrecorded", f"notification {c.id}, attempt {c.attempt}")
        past_s = self.tables.now() - (attempt.expires_at or float("inf"))
        if past_s > SETTINGS.lease_s + 2 and not self.clock_went_back:
            self.bad("late", f"notification {c.id}: sent {past_s:.0f} s after it expired")
        attempt.sent, attempt.excused = True, False
        self.calls[c.id] += 1
        self.sends[c.id] += outcome is Outcome.SENT or (outcome is Outcome.UNKNOWN and self.rng.random() < 0.5)
        if outcome is Outcome.UNKNOWN:
            self.excuse(attempt)
        at_most_once = POLICIES[attempt.channel].crash_policy is CrashPolicy.AT_MOST_ONCE
        self.log(attempt.row_id, "send, attempt", c.attempt, outcome, at_most_once)

    def told(self, row_id: int, attempt: int, outcome: Outcome) -> None:
        """A finish was answered."""
        self.truths[row_id, attempt] = outcome

    def crash_rule(self, n: Notification) -> None:
        for p in self.processes:
            for o in p.open:
                if (o.row_id, o.attempt) == (n.id, n.attempt) and o.sent and not o.excused:
                    self.bad("hasty", f"notification {n.id}, attempt {n.attempt}: {p.me} lives, and will record {o.outcome}")

    def dead_letter(self, row_id: int, verdict: DeadVerdict) -> None:
        if verdict is DeadVerdict.ENDED:
            self.deads[row_id] += 1
            self.log("dead letter", row_id)


def handlers_of() -> dict[str, tuple[Handler, Handler]]:
    """By stream: what handles its entries, and what ends its dead letters."""
    deliveries = dict.fromkeys((c.lower() for c in CHANNELS), (handlers.deliver, handlers.dead_notification))
    return {EVENTS: (routing.route, routing.dead_event), **deliveries}
