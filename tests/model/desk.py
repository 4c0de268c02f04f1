"""Worlds without faults and without chance, in which nothing runs by itself: for directed scenarios."""

import itertools
from collections.abc import Iterable
from random import Random
from typing import Any

from app.domain import Channel, Outcome, Status
from app.streams import Entry
from consumers.settle import Verdict
from tests.model import duties, routing
from tests.model.consumer import Consumer
from tests.model.fake_redis import Away
from tests.model.process import Process, Steps, Task
from tests.model.rules import ALL, CHANNELS, SETTINGS
from tests.model.store_rest import Made
from tests.model.tables import Notification
from tests.model.world import World, handlers_of

STREAM = "email"
EVERY_S = 3.0


class Desk:
    """Rows, a stream, and a relay."""

    def __init__(self, *without: str) -> None:
        self.world = World(1, ALL - set(without))
        self.redis, self.tables = self.world.redis, self.world.tables
        self.redis.offset_s, self.redis.rate = 0.0, 1
        self.process = Process(self.world, "desk", lambda _: None)
        self.redis.create_group(STREAM)

    def publish(self, rows: int = 100) -> list[int]:
        return [self._publish_one() for _ in range(rows)]

    def _publish_one(self) -> int:
        self.world.t += 0.01
        row_id, now = self.tables.next_id(), self.tables.now()
        self.tables.notifications[row_id] = Notification(row_id, 0, Channel.EMAIL, now, now, None)
        self.world.add(Made(row_id, STREAM, now))
        return row_id

    def sweep(self, times: int = 100, every_s: float = EVERY_S) -> int:
        """The entries on the stream after so many sweeps, while nobody consumes."""
        for _ in range(times):
            self.world.t += every_s
            for _ in duties.sweep(self.process, STREAM):
                pass
        return len(self.redis.stream(STREAM).entries)


class Certain(Random):
    """Every call ends in `outcome`; what is left to chance is in the middle of what it may be."""

    outcome = Outcome.SENT

    def random(self) -> float:
        return 0.5

    def choices(self, *_: Any, **__: Any) -> list[Any]:
        return [self.outcome]


class Router(Desk):
    """An event, and two processes that route and may send at once. `settled`: what was said of the event's entries."""

    def __init__(self, *without: str, expires_in_s: float | None = None, outcome: Outcome = Outcome.SENT) -> None:
        super().__init__(*without)
        self.world.rng = certain = Certain()
        certain.outcome = outcome
        for stream in duties.STREAMS:
            self.redis.create_group(stream)
        self.other = Process(self.world, "other", lambda _: None)
        for process in (self.process, self.other):
            process.consumers = {s: Consumer(process, s, *both) for s, both in handlers_of().items()}
        self.has_room(self.process)
        self.settled: list[Verdict] = []
        event = self.world.rest.insert_event("key", "ann", 0.0, expires_in_s)
        assert event is not None
        self.event = self.tables.events[event.row_id]

    def has_room(self, process: Process) -> None:
        for channel in CHANNELS:
            process.consumers[channel.lower()].room.drained = True

    def route(self, process: Process | None = None, deliveries: int = 1) -> Steps[None]:
        entry = Entry(b"1-1", self.event.id, deliveries)
        return routing.route_one(process or self.process, entry, lambda _, verdict: self.settled.append(verdict))

    def takes_over(self) -> None:
        """The other process gets the entry, when the lease is over by PostgreSQL's clock."""
        self.tables.offset_s += SETTINGS.lease_s + 1
        run(self.route(self.other, 2))

    def write_before_calls_end(self) -> None:
        """What was begun is cut where it makes its calls, and the event is written."""
        *calls, write = self.calls()
        for call in calls:
            next(call)
        run(write)

    def run_next(self, times: int = 1) -> None:
        """So many steps of what was begun, and of what follows from it."""
        for _ in range(times):
            for steps in self.calls():
                run(steps)

    def loses_answer(self, nth: int) -> None:
        """Of PostgreSQL's. The second is that of the commit, or, where the look was enough, of the closer one."""
        answers = itertools.count(1)

        def lose() -> None:
            if next(answers) == nth:
                raise Away

        self.tables.lose = lose

    def calls(self) -> list[Steps[None]]:
        """What was begun since the last time."""
        begun = [item.steps for *_, item in self.world.heap if isinstance(item, Task)]
        self.world.heap.clear()
        return begun

    def go_on(self) -> None:
        """All that was begun, and what follows from it, to its end."""
        while begun := self.calls():
            for steps in begun:
                run(steps)

    def sweep_channels(self) -> None:
        for channel in CHANNELS:
            run(duties.sweep(self.process, channel.lower()))

    def statuses(self) -> set[Status]:
        return {n.status for n in self.tables.notifications.values()}

    def left(self) -> int:
        """Entries of notifications."""
        return sum(len(self.redis.stream(channel.lower()).entries) for channel in CHANNELS)


def run(steps: Iterable[float]) -> None:
    for _ in steps:
        pass
