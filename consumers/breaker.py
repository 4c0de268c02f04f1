"""A channel's circuit breaker: after too many calls in a row without an answer its provider is left alone, but for probes.

Pure: time comes in as `now_s`, seconds of a clock that only grows.
"""

from dataclasses import dataclass
from math import inf

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 4.0
TOLD_WAIT_MAX_S = 60.0  # a provider's Retry-After counts up to this


@dataclass(slots=True)
class Breaker:
    """Closed: calls go out. Open: one probe at a time, `wait_s` after the last one failed. `after` 0: it never opens."""

    after: int
    first_wait_s: float = FIRST_WAIT_S
    longest_wait_s: float = LONGEST_WAIT_S
    failures: int = 0  # in a row
    opened_s: float | None = None
    closed_s: float = -inf
    reason: str = ""
    wait_s: float = 0.0
    probe_s: float = 0.0  # no probe before

    @property
    def is_open(self) -> bool:
        return self.opened_s is not None

    def answered(self, now_s: float) -> bool:
        """The provider took or refused a message: it works. True: this closed the circuit."""
        self.failures = 0
        if self.opened_s is None:
            return False
        self.opened_s, self.closed_s = None, now_s
        return True

    def failed(self, now_s: float, reason: str, told_wait_s: float | None = None, hopeless: bool = False) -> bool:
        """A call without an answer; `hopeless`: so will all be, one is enough. True: this opened the circuit."""
        self.failures += 1
        if self.opened_s is not None:
            self._still_failing(now_s, reason, told_wait_s)
            return False
        if not self.after or (self.failures < self.after and not hopeless):
            return False
        flapping = now_s - self.closed_s < self.longest_wait_s
        self.wait_s = min(2 * self.wait_s, self.longest_wait_s) if flapping else self.first_wait_s
        self.opened_s, self.reason = now_s, reason
        self.probe_s = now_s + max(self.wait_s, _told(told_wait_s))
        return True

    def may_probe(self, now_s: float) -> bool:
        """Is the wait over? The caller sees to it that nothing is in hand."""
        return now_s >= self.probe_s

    def _still_failing(self, now_s: float, reason: str, told_wait_s: float | None) -> None:
        """A probe failed; or, before the wait is over, one of the calls that were under way when the circuit opened."""
        wait_s = _told(told_wait_s)
        if self.may_probe(now_s):
            self.reason, self.wait_s = reason, min(2 * self.wait_s, self.longest_wait_s)
            wait_s = max(wait_s, self.wait_s)
        self.probe_s = max(self.probe_s, now_s + wait_s)


def _told(wait_s: float | None) -> float:
    return min(max(wait_s or 0.0, 0.0), TOLD_WAIT_MAX_S)
