"""What becomes of a notification's entry: pure, from what the store said of its row."""

from app.domain import Status
from app.store.notifications import WAIT, Claim, ClaimVerdict, Finish
from app.store.owed import DeadVerdict
from consumers.settle import Acknowledge, Back, Bury, Leave, Published, Verdict

DEAD_LETTER = "delivered {} times, and each time the consumer was gone before it was handled"


def after_claim(c: Claim, reclaim_after_s: float) -> Verdict:
    """The entry of a notification that was not claimed."""
    if c.verdict not in WAIT:
        return Acknowledge()
    return Back(min(max(c.back_in_s, 0.0), reclaim_after_s), handled=c.verdict is not ClaimVerdict.BUSY)


def after_finish(f: Finish | None, attempt: int, asked_s: float) -> Verdict:
    """The entry of an attempt that ended, from what the row says now. None: PostgreSQL refused the record.

    `asked_s`: the own clock before the first time that it was to be recorded.
    """
    if f is None:
        return Leave()
    if f.status.final or (f.status is Status.PENDING and f.published_at is None):
        return Acknowledge()
    if f.status is Status.PENDING and f.published_at is not None and f.attempt == attempt:
        return Back(max(0.0, f.due_in_s), published=Published(f.published_at, asked_s))
    return Leave()


def after_release(parked: bool | None) -> Verdict:
    """The entry of a claim that was given back: at once again, unless the relay will publish it. None: it has a new owner."""
    if parked is None:
        return Leave()
    return Acknowledge() if parked else Back(0)


def after_dead(verdict: DeadVerdict | None, reason: str) -> Verdict:
    """The entry of a dead letter. None: no row explains it."""
    if verdict is None:
        return Bury(reason)
    return Leave() if verdict is DeadVerdict.BUSY else Acknowledge()
