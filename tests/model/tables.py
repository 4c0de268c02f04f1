"""The rows of PostgreSQL, its clock, and when it started. Every change of status is checked against app/domain.py."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from app.domain import EVENT_MOVES, MOVES, Channel, EventStatus, Outcome, Reason, Status
from tests.model.fake_redis import Away

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Event:
    """One row of `event`; `published_at` None: parked."""

    id: int
    user: str
    due_at: float
    published_at: float | None
    expires_at: float | None
    status: EventStatus = EventStatus.NEW
    reason: Reason | None = None
    replays: int = 0
    claimed_by: str = ""
    claimed_at: float | None = None
    lease_until: float | None = None
    first_id: int = 0

    @property
    def done(self) -> bool:
        return self.status is not EventStatus.NEW


@dataclass(slots=True)
class Notification:
    """One row of `notification`."""

    id: int
    event: int
    channel: Channel
    due_at: float
    published_at: float | None
    expires_at: float | None
    status: Status = Status.PENDING
    reason: Reason | None = None
    attempt: int = 0
    tries: int = 0
    replays: int = 0
    possible_duplicate: bool = False
    claimed_by: str = ""
    claimed_at: float | None = None
    lease_until: float | None = None

    @property
    def done(self) -> bool:
        return self.status.final

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now


@dataclass
class Tables:
    """All rows. `attempts` is the outcome by (notification, number), `parks` counts how often a row was parked."""

    world_now: Callable[[], float]
    lose: Callable[[], None]
    bad: Callable[[str, str], None]
    down: bool = False
    offset_s: float = 0.0
    started_at: float = -1e9
    events: dict[int, Event] = field(default_factory=dict)
    notifications: dict[int, Notification] = field(default_factory=dict)
    attempts: dict[tuple[int, int], Outcome] = field(default_factory=dict)
    parks: dict[int, int] = field(default_factory=dict)
    last_id: int = 0

    def now(self) -> float:
        return self.world_now() + self.offset_s

    def transaction(self, call: Callable[[], Answer]) -> Answer:
        """All or nothing; the answer may get lost although it was committed."""
        if self.down:
            raise Away
        answer = call()
        self.lose()
        return answer

    def next_id(self) -> int:
        self.last_id += 1
        return self.last_id

    def move(self, n: Notification, status: Status, reason: Reason | None = None) -> None:
        if status not in MOVES[n.status]:
            self.bad("move", f"notification {n.id}: {n.status} -> {status}")
        n.status, n.reason = status, reason

    def move_event(self, e: Event, status: EventStatus, reason: Reason | None = None) -> None:
        if status not in EVENT_MOVES[e.status]:
            self.bad("move", f"event {e.id}: {e.status} -> {status}")
        e.status, e.reason = status, reason

    def park(self, row: Event | Notification) -> None:
        row.published_at = None
        self.parks[row.id] = self.parks.get(row.id, 0) + 1
