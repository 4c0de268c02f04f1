"""The other statements, each one transaction: accept, route, defer, dead events, what the relay takes, replay and cancel."""

from collections.abc import Collection
from typing import NamedTuple

from app.domain import Channel, EventStatus, Reason, Status
from app.store.owed import DeadVerdict
from app.store.routing import EventVerdict
from tests.model.rules import CHANNELS, SETTINGS
from tests.model.tables import Event, Notification, Tables

TAKE_MAX = 500
EVENTS = "events"


class Made(NamedTuple):
    """A row that is to be published; or that is not, `claimed` by who routed it."""

    row_id: int
    stream: str
    published_at: float
    claimed: bool = False


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

    def read_event(self, row_id: int) -> tuple[EventVerdict, float]:
        """What may be done with an event, and seconds until it is due."""
        e, now = self._t.events[row_id], self._t.now()
        if e.done and "route_once" in self._rules:
            return EventVerdict.FINAL, 0.0
        if e.expires_at is not None and e.expires_at <= now:
            return EventVerdict.EXPIRED, 0.0
        if e.published_at is None:
            return EventVerdict.PARKED, 0.0
        return (EventVerdict.LATER if e.due_at > now else EventVerdict.GO), e.due_at - now

    def route_plain(self, row_id: int, at_once: Collection[Channel], me: str) -> list[Made]:
        """The short way: judged and routed in one step, those of `at_once` claimed by `me`. Nothing: it wants a closer look."""
        e, verdict = self._t.events[row_id], self.read_event(row_id)[0]
        if verdict is EventVerdict.FINAL or (verdict is not EventVerdict.GO and "judged" in self._rules):
            return []
        return self._routed(e, False, at_once, me)

    def route(self, row_id: int, expired: bool, refused: bool) -> list[Made]:
        """What was judged before. The notifications that this made and that are to be published."""
        e = self._t.events[row_id]
        if e.done and "route_once" in self._rules:
            return []
        if expired:
            self._t.move_event(e, EventStatus.FAILED, Reason.EXPIRED)
            return []
        made = self._routed(e, refused, (), "")
        return [] if refused else made

    def _routed(self, e: Event, refused: bool, at_once: Collection[Channel], me: str) -> list[Made]:
        there, now = {n.channel for n in self._t.notifications.values() if n.event == e.id}, self._t.now()
        made = [self._insert(e, c, now, refused, me if c in at_once else "") for c in CHANNELS if c not in there]
        self._t.move_event(e, EventStatus.ROUTED)
        return made

    def _insert(self, e: Event, channel: Channel, now: float, refused: bool, claimed_by: str) -> Made:
        status, reason = (Status.FAILED, Reason.RATE_LIMITED) if refused else (Status.PENDING, None)
        n = Notification(self._t.next_id(), e.id, channel, now, now, e.expires_at, status, reason, created_at=now)
        if claimed_by:
            n.status, n.attempt, n.tries, n.claimed_by = Status.PROCESSING, 1, 1, claimed_by
            n.claimed_at, n.lease_until = now, now + SETTINGS.lease_s
            if "parked" in self._rules:
                n.published_at, n.due_at = None, n.lease_until
        self._t.notifications[n.id] = n
        return Made(n.id, channel.lower(), now, bool(claimed_by))

    def claimed_as_routed(self, event: int, me: str) -> list[Made]:
        """What a call of `route_plain` claimed for `me`, by nobody claimed since, and under a live lease."""
        return [
            Made(n.id, n.channel.lower(), n.created_at, True)
            for n in self._t.notifications.values()
            if (n.event, n.status, n.claimed_by, n.claimed_at) == (event, Status.PROCESSING, me, n.created_at)
            and (n.lease_until or 0.0) >= self._t.now()
        ]

    def defer(self, row_id: int, wait_s: float) -> None:
        e = self._t.events[row_id]
        if not e.done:
            e.due_at = self._t.now() + wait_s
            self._t.park(e)

    def end_dead_event(self, row_id: int) -> DeadVerdict:
        e = self._t.events[row_id]
        if e.done:
            return DeadVerdict.FINAL
        self._t.move_event(e, EventStatus.FAILED, Reason.DEAD_LETTER)
        return DeadVerdict.ENDED

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

    @staticmethod
    def _may_be_taken(row: Event | Notification, now: float) -> bool:
        leased = isinstance(row, Notification) and row.lease_until is not None and row.lease_until >= now
        return row.due_at <= now and not leased

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
        self._t.park(e)
        return True

    def cancel(self, row_id: int) -> bool:
        n = self._t.notifications[row_id]
        if n.status is not Status.PENDING:
            return False
        self._t.move(n, Status.CANCELLED, Reason.CANCELLED)
        return True
