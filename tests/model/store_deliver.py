"""The statements of app/store/notifications.py, each one transaction: claim, finish, release; and the end of a dead letter."""

from collections.abc import Callable
from datetime import UTC, datetime

from app.domain import CrashPolicy, Outcome, Reason, Status
from app.store.notifications import Claim, ClaimVerdict, Ending, Finish
from app.store.owed import DeadVerdict
from tests.model.rules import POLICIES, SETTINGS
from tests.model.tables import Notification, Tables

V = ClaimVerdict


class Deliveries:
    """`hasty` is asked about each attempt that the crash rule closes, `released` is told of each number given back."""

    def __init__(self, tables: Tables, rules: frozenset[str], hasty: Callable[[Notification], None]) -> None:
        self._t, self._rules, self._hasty = tables, rules, hasty
        self.released: set[tuple[int, int]] = set()

    def claim(self, row_id: int, me: str, calm_left_s: float) -> Claim:
        n, now = self._t.notifications[row_id], self._t.now()
        verdict = self._verdict(n, me, now, calm_left_s)
        back_in_s = n.due_at - now if verdict is V.LATER else max(n.lease_until or 0.0, self._calm_until(now, calm_left_s)) - now
        if verdict in (V.AGAIN, V.UNKNOWN, V.CRASHED):
            self._close(n)
        if verdict in (V.CLAIMED, V.AGAIN):
            self._t.move(n, Status.PROCESSING, n.reason)
            n.attempt, n.tries, n.claimed_by = n.attempt + 1, n.tries + 1, me
            n.claimed_at, n.lease_until = now, now + SETTINGS.lease_s
        elif verdict is V.UNKNOWN:
            self._t.move(n, Status.UNKNOWN, Reason.CRASHED)
        elif verdict in (V.EXPIRED, V.CRASHED):
            self._t.move(n, Status.FAILED, Reason.EXPIRED if verdict is V.EXPIRED else Reason.CRASHED)
        n.possible_duplicate |= verdict in (V.AGAIN, V.CRASHED)
        return Claim(n.id, verdict, back_in_s, n.attempt, n.tries, n.replays, n.possible_duplicate, None, "", "", "", "")

    def _verdict(self, n: Notification, me: str, now: float, calm_left_s: float) -> ClaimVerdict:
        expired = "expiry" in self._rules and n.expired(now)
        if n.done:
            return V.FINAL
        if n.status is Status.PENDING:
            if expired:
                return V.EXPIRED
            if n.due_at <= now:
                return V.CLAIMED
            return V.PARKED if n.published_at is None else V.LATER
        if (n.lease_until or 0.0) >= now and "lease" in self._rules:
            return V.RESUMED if n.claimed_by == me and "resume" in self._rules else V.BUSY
        if self._calm_until(now, calm_left_s) > now:
            return V.BUSY
        if POLICIES[n.channel].crash_policy is CrashPolicy.AT_MOST_ONCE:
            return V.UNKNOWN
        return V.AGAIN if n.tries < POLICIES[n.channel].max_tries and not expired else V.CRASHED

    def lapsed(self, row_id: int, me: str) -> bool:
        """Did the lease of a claim of mine run out before I learned of it?"""
        n = self._t.notifications[row_id]
        return n.claimed_by == me and n.lease_until is not None and n.lease_until < self._t.now()

    def _calm_until(self, now: float, calm_left_s: float) -> float:
        return max(self._t.started_at + SETTINGS.calm_s, now + calm_left_s) if "calm" in self._rules else -1e9

    def _close(self, n: Notification) -> None:
        self._hasty(n)
        self._t.attempts.setdefault((n.id, n.attempt), Outcome.UNKNOWN)
        n.lease_until = None

    def finish(self, told: Ending) -> Finish | None:
        """None: there is no such row."""
        n, now, key = self._t.notifications.get(told.id), self._t.now(), (told.id, told.attempt)
        if n is None:
            return None
        was, published_at = n.status, n.published_at
        same = n.attempt == told.attempt or "fence" not in self._rules
        late = "late_truth" in self._rules and self._late_truth(n, told)
        ours = same and (was is Status.PROCESSING or late or "fence" not in self._rules)
        if ours:
            self._t.move(n, told.status, told.reason)
            n.possible_duplicate |= told.outcome is Outcome.UNKNOWN and told.status is not Status.UNKNOWN
            n.tries, n.lease_until = n.tries - told.refund, None
            if told.status is Status.PENDING:
                n.due_at = now + (told.wait_s or 0.0)
                published_at = self._published_at(n, now, parks=told.park or was is Status.UNKNOWN)
            self._t.attempts[key] = told.outcome
        elif "replaced" in self._rules and told.outcome is not Outcome.UNKNOWN and self._t.attempts.get(key) is Outcome.UNKNOWN:
            self._t.attempts[key] = told.outcome
        at = None if published_at is None else datetime.fromtimestamp(published_at, UTC)
        return Finish(n.id, ours, n.status, n.attempt, at, n.due_at - now)

    def _published_at(self, n: Notification, now: float, parks: bool) -> float | None:
        """Of what is tried again: what is on no stream will be from now on."""
        if parks:
            self._t.park(n)
            return None
        published_at = now if n.published_at is None else n.published_at
        if "dated" in self._rules:
            n.published_at = published_at
        return published_at

    def _late_truth(self, n: Notification, told: Ending) -> bool:
        crashed = n.status is Status.FAILED and n.reason in (Reason.CRASHED, Reason.DEAD_LETTER) and told.outcome is Outcome.SENT
        return crashed or (n.status is Status.UNKNOWN and told.outcome is not Outcome.UNKNOWN)

    def release(self, row_id: int, attempt: int) -> bool | None:
        """Is the row parked now? None: it has a new owner, or there is none."""
        n = self._t.notifications.get(row_id)
        if n is None:
            return None
        mine = (Status.PROCESSING, Status.UNKNOWN) if "late_truth" in self._rules else (Status.PROCESSING,)
        if n.attempt == attempt and n.status in mine:
            if n.status is Status.UNKNOWN:
                self._t.park(n)
            self._t.move(n, Status.PENDING)
            n.tries, n.lease_until = n.tries - 1, None
            if "due_now" in self._rules:
                n.due_at = min(n.due_at, self._t.now())
            self.released.add((row_id, attempt))
            if (row_id, attempt) in self._t.attempts:
                self._t.attempts[row_id, attempt] = Outcome.UNAVAILABLE
        elif n.attempt != attempt or n.status is not Status.PENDING:
            return None
        return n.published_at is None

    def end_dead(self, row_id: int, calm_left_s: float) -> DeadVerdict:
        n, now = self._t.notifications[row_id], self._t.now()
        if n.done:
            return DeadVerdict.FINAL
        if n.status is Status.PROCESSING:
            if (n.lease_until or 0.0) >= now or self._calm_until(now, calm_left_s) > now:
                return DeadVerdict.BUSY
            self._close(n)
            n.possible_duplicate = True
        self._t.move(n, Status.FAILED, Reason.DEAD_LETTER)
        return DeadVerdict.ENDED
