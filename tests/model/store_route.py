"""The statements of route, each one transaction: look at an event; claim it, write it, take it over; or put it on the streams."""

from collections.abc import Collection, Iterable

from app.domain import EventStatus, Outcome, Reason, Status
from app.store.owed import DeadVerdict
from app.store.routing import EventVerdict
from tests.model.rules import CHANNELS, FIRST_ATTEMPT, SETTINGS
from tests.model.store_rest import Made
from tests.model.tables import Event, Notification, Tables


class Routes:
    def __init__(self, tables: Tables, rules: frozenset[str]) -> None:
        self._t, self._rules = tables, rules

    def look(self, row_id: int) -> tuple[EventVerdict, float]:
        """What may be done with an event, and seconds until it is due."""
        e, now = self._t.events[row_id], self._t.now()
        if e.done and "route_once" in self._rules:
            return EventVerdict.FINAL, 0.0
        if e.claimed_by and "claimed" in self._rules:
            return EventVerdict.CLAIMED, 0.0
        if e.expires_at is not None and e.expires_at <= now:
            return EventVerdict.EXPIRED, 0.0
        if e.published_at is None:
            return EventVerdict.PARKED, 0.0
        return (EventVerdict.LATER if e.due_at > now else EventVerdict.GO), e.due_at - now

    def _ready(self, e: Event) -> bool:
        """Is it nobody's, and due?"""
        return not self._taken(e) and (self.look(e.id)[0] is EventVerdict.GO or "judged" not in self._rules)

    def _taken(self, e: Event) -> bool:
        """Is it somebody's, or done?"""
        return (e.done and "route_once" in self._rules) or (bool(e.claimed_by) and "claimed" in self._rules)

    # ---- sent at once

    def claim(self, row_id: int, me: str, again: bool) -> list[int]:
        """The ids of its notifications, in the order of the channels. Nothing: it wants a closer look.

        `again`: an answer was lost, so that it may be mine already; then its lease begins anew.
        """
        e, now = self._t.events[row_id], self._t.now()
        mine = again and e.claimed_by == me and not e.done and "own" in self._rules
        if not (mine or self._ready(e)):
            return []
        e.claimed_by, e.claimed_at, e.lease_until = me, now, now + SETTINGS.lease_s
        e.first_id = e.first_id or min(self._new_ids())
        return ids_of(e)

    def write(self, row_id: int, me: str, sent: Collection[int]) -> bool:
        """ROUTED, with all its notifications: SENT, or PROCESSING under the lease of its claim. False: it was passed over."""
        e = self._t.events[row_id]
        if e.claimed_by != me or (e.done and "route_once" in self._rules):
            return False
        made = self._insert_claimed(e, ids_of(e))
        if "parked" in self._rules:
            self._park(made)
        for n in made:
            if n.id in sent:
                n.status, n.lease_until = Status.SENT, None
                self._t.attempts[n.id, FIRST_ATTEMPT] = Outcome.SENT
        self._t.move_event(e, EventStatus.ROUTED)
        return True

    def take_over(self, row_id: int) -> list[Made]:
        """Who claimed it may record its ends, or the crash rule will. What is to be published: nothing under a live lease."""
        e, now = self._t.events[row_id], self._t.now()
        if e.done or not e.claimed_by:
            return []
        ids = ids_of(e) if "ids" in self._rules else self._new_ids()
        made = self._insert_claimed(e, ids) if "taken_over" in self._rules else self._insert(e, ids)
        self._t.move_event(e, EventStatus.ROUTED)
        if (e.lease_until or 0.0) >= now and "parked" in self._rules:
            self._park(made)
            return []
        return made_of(made)

    # ---- over the streams

    def route_plain(self, row_id: int) -> list[Made]:
        """The short way: judged and routed in one step. Nothing: it wants a closer look."""
        e = self._t.events[row_id]
        return self._routed(e) if self._ready(e) else []

    def route(self, row_id: int, expired: bool, refused: bool) -> list[Made]:
        """What was judged before. The notifications that this made and that are to be published."""
        e = self._t.events[row_id]
        if self._taken(e):
            return []
        if expired:
            self._t.move_event(e, EventStatus.FAILED, Reason.EXPIRED)
            return []
        made = self._routed(e)
        for m in made if refused else ():
            n = self._t.notifications[m.row_id]
            n.status, n.reason = Status.FAILED, Reason.RATE_LIMITED
        return [] if refused else made

    def _routed(self, e: Event) -> list[Made]:
        made = self._insert(e, self._new_ids())
        self._t.move_event(e, EventStatus.ROUTED)
        return made_of(made)

    def defer(self, row_id: int, wait_s: float) -> None:
        e = self._t.events[row_id]
        if not e.done and not self._taken(e):
            e.due_at = self._t.now() + wait_s
            self._t.park(e)

    def end_dead(self, row_id: int) -> DeadVerdict:
        e = self._t.events[row_id]
        if e.done:
            return DeadVerdict.FINAL
        if self._taken(e):
            return DeadVerdict.BUSY
        self._t.move_event(e, EventStatus.FAILED, Reason.DEAD_LETTER)
        return DeadVerdict.ENDED

    # ---- its notifications

    def _new_ids(self) -> list[int]:
        return [self._t.next_id() for _ in CHANNELS]

    def _insert(self, e: Event, ids: Iterable[int]) -> list[Notification]:
        """PENDING, one per channel that has none."""
        there, now = {n.channel for n in self._t.notifications.values() if n.event == e.id}, self._t.now()
        new = [(row_id, channel) for row_id, channel in zip(ids, CHANNELS, strict=True) if channel not in there]
        made = [Notification(row_id, e.id, channel, now, now, e.expires_at) for row_id, channel in new]
        self._t.notifications |= {n.id: n for n in made}
        return made

    def _insert_claimed(self, e: Event, ids: Iterable[int]) -> list[Notification]:
        """PROCESSING, under the claim of the event."""
        made = self._insert(e, ids)
        for n in made:
            n.status, n.attempt, n.tries = Status.PROCESSING, FIRST_ATTEMPT, 1
            n.claimed_by, n.claimed_at, n.lease_until = e.claimed_by, e.claimed_at, e.lease_until
        return made

    @staticmethod
    def _park(rows: Iterable[Notification]) -> None:
        """Until their lease is over."""
        for n in rows:
            n.published_at, n.due_at = None, n.lease_until or 0.0


def ids_of(e: Event) -> list[int]:
    return [e.first_id + place for place in range(len(CHANNELS))]


def made_of(rows: Iterable[Notification]) -> list[Made]:
    return [Made(n.id, n.channel.lower(), n.published_at or 0.0) for n in rows]
