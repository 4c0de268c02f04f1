"""The other statements, each one transaction: accept, what the relay takes, replay and cancel."""

from typing import NamedTuple

from app.domain import EventStatus, Reason, Status
from tests.model.rules import SETTINGS
from tests.model.tables import Event, Notification, Tables

TAKE_MAX = 500
EVENTS = "events"


class Made(NamedTuple):
    """A row that is to be published."""

    row_id: int
    stream: str
    published_at: float


class Rest:
    def __init__(self, tables: Tables, rules: frozenset[str]) -> None:
        self._t, self._rules = tables, rules
        self.by_key: dict[str, int] = {}

    def insert_event(self, key: str, user: str, send_in_s: float, expires_in_s: float | None) -> Made | None:
        """The event to publish; None: it is there already, or parked."""
        if key in self.by_key:
            return None
        now = self._t.now()
        row_id = self.by_key[key] = self._t.next_id()
        expires_at = None if expires_in_s is None else now + expires_in_s
        self._t.events[row_id] = Event(row_id, user, now + send_in_s, None if send_in_s > 0 else now, expires_at)
        return None if send_in_s > 0 else Made(row_id, EVENTS, now)

    def take_owed(self, stream: str, watermark: float | None) -> list[Made]:
        """What a sweep publishes again, its `published_at` set."""
        now, taken = self._t.now(), list[Made]()
        for row in self._rows(stream):
            if len(taken) < TAKE_MAX and not row.done and self._may_be_taken(row, now):
                lost = row.published_at is not None and watermark is not None
                if row.published_at is None or (lost and row.published_at < (watermark or 0.0) - SETTINGS.relay_grace_s):
                    row.published_at = now
                    taken.append(Made(row.id, stream, now))
        return taken

    def _may_be_taken(self, row: Event | Notification, now: float) -> bool:
        guards = isinstance(row, Notification) or "event_lease" in self._rules
        return row.due_at <= now and not (guards and row.lease_until is not None and row.lease_until >= now)

    def _rows(self, stream: str) -> list[Event | Notification]:
        if stream == EVENTS:
            return list(self._t.events.values())
        return [n for n in self._t.notifications.values() if n.channel.lower() == stream]

    def replay(self, row_id: int) -> bool:
        """FAILED or UNKNOWN -> PENDING, parked. Nothing is published here: the relay does it."""
        n = self._t.notifications[row_id]
        if n.status not in (Status.FAILED, Status.UNKNOWN):
            return False
        n.possible_duplicate |= n.status is Status.UNKNOWN
        self._t.move(n, Status.PENDING)
        n.due_at, n.tries, n.replays = self._t.now(), 0, n.replays + 1
        self._t.park(n)
        return True

    def replay_event(self, row_id: int) -> bool:
        e = self._t.events[row_id]
        if e.status is not EventStatus.FAILED:
            return False
        self._t.move_event(e, EventStatus.NEW)
        e.due_at, e.replays = self._t.now(), e.replays + 1
        e.claimed_by, e.claimed_at, e.lease_until, e.first_id = "", None, None, 0
        self._t.park(e)
        return True

    def cancel(self, row_id: int) -> bool:
        n = self._t.notifications[row_id]
        if n.status is not Status.PENDING:
            return False
        self._t.move(n, Status.CANCELLED, Reason.CANCELLED)
        return True
