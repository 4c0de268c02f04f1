"""A process: tasks that share a fate, what they have in hand, and what the process knows of PostgreSQL.

Tasks are generators; each `yield` says how long it waits, and is where others run, and where the process may be killed or frozen.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from app.domain import Channel, Outcome
from consumers.database import REPEAT_AFTER_S
from tests.model.fake_redis import Away
from tests.model.rules import RECLAIM_AFTER_S, SETTINGS

if TYPE_CHECKING:
    from tests.model.consumer import Consumer
    from tests.model.world import World

Answer = TypeVar("Answer")
Steps = Generator[float, None, Answer]


class Died(Exception):
    """This step ends its process, as a poisonous entry does."""


@dataclass(eq=False)
class Open:
    """An attempt, or a claim that was asked for, until its end is recorded. `excused`: a fault hit it."""

    row_id: int
    channel: Channel
    expires_at: float | None
    attempt: int = 0
    sent: bool = False
    excused: bool = False
    outcome: Outcome | None = None


@dataclass(eq=False)
class Task:
    """`life` is that of the process when it began; `risk` says how much more likely than others it is hit by a fault."""

    process: "Process"
    steps: Steps[None]
    life: int
    risk: float


@dataclass(eq=False)
class Process:
    """One process, over all its lives."""

    world: "World"
    name: str
    begin: Callable[["Process"], None]
    life: int = 0
    alive: bool = False
    frozen_until: float = 0.0
    here: bool = True
    back_at: float = -1e9
    open: set[Open] = field(default_factory=set)
    consumers: "dict[str, Consumer]" = field(default_factory=dict)

    @property
    def me(self) -> str:
        return f"{self.name}.{self.life}"

    def start(self) -> None:
        """A process that finds PostgreSQL away ends, and is started again."""
        if self.world.tables.down:
            self.world.after(1.0, self.start)
            return
        self.alive, self.here, self.back_at = True, True, self.world.t  # as if it was away until now
        self.begin(self)

    def spawn(self, steps: Steps[None], risk: float = 1.0, after_s: float = 0.0) -> None:
        self.world.push(Task(self, steps, self.life, risk), after_s)

    def kill(self, back_in_s: float) -> None:
        self.world.log("kill", self.me)
        self.world.silences += 1
        self.excuse_all()
        self.open.clear()
        self.life, self.alive, self.frozen_until = self.life + 1, False, 0.0
        self.world.after(back_in_s, self.start)

    def freeze(self, for_s: float) -> None:
        self.world.log("freeze", self.me, for_s)
        self.excuse_all(sent_only=True)  # what is not sent yet will be given back
        self.world.silences += for_s >= RECLAIM_AFTER_S
        self.frozen_until = self.world.t + for_s

    def excuse_all(self, sent_only: bool = False) -> None:
        for attempt in self.open:
            if attempt.sent or not sent_only:
                self.world.excuse(attempt)

    def opened(self, row_id: int, channel: Channel, expires_at: float | None, attempt_number: int = 0) -> Open:
        attempt = Open(row_id, channel, expires_at, attempt_number)
        self.open.add(attempt)
        return attempt

    def closed(self, attempt: Open) -> None:
        self.open.discard(attempt)

    def patiently(self, call: Callable[[], Answer]) -> Steps[Answer]:
        """The answer of one transaction, repeated while PostgreSQL is away: consumers/database.py."""
        while True:
            try:
                answer = self.world.tables.transaction(call)
            except Away:
                self.here = False
                if "hold" not in self.world.rules:
                    raise
                yield REPEAT_AFTER_S
            else:
                if not self.here:
                    self.here, self.back_at = True, self.world.t
                return answer

    def calm_left_s(self) -> float:
        if not self.here:
            return SETTINGS.calm_s
        return max(0.0, self.back_at + SETTINGS.calm_s - self.world.t)
