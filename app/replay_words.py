"""What `tidings replay` says: counts, reasons and times in words. Pure."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from app.domain import Reason, Status
from app.replay import Plan
from app.store.replay import COUNT_MAX, Found

REASONS: dict[str, str] = {
    Reason.REJECTED: "the provider refused it for good, and may again",
    Reason.OUT_OF_TRIES: "every allowed try failed",
    Reason.EXPIRED: "its time (expiresAt) had passed: it will end the same way",
    Reason.DEAD_LETTER: "its stream entry ended in silence too often",
    Reason.DISCARDED: "a dead letter that somebody discarded",
    Reason.RATE_LIMITED: "over the user's limit then; a replay is not limited again, so they all go out",
    Reason.CRASHED: "the consumer died in mid-send",
    Reason.NO_ANSWER: "the provider did not answer",
}
TWICE = "a person may get it twice, and its record will say so (possible_duplicate)"


def plan_words(planned: Plan) -> Iterator[str]:
    """The count, a line per channel and reason, and what one should know before one agrees."""
    wanted = planned.wanted
    noun = f"{wanted.status} {'event' if wanted.events else 'notification'}"
    if not planned.matching:
        yield f"no {noun} matches"
        return
    exact = f"{planned.matching:,} {noun}{'s match' if planned.matching > 1 else ' matches'}"
    yield f"more than {COUNT_MAX:,} {noun}s match; of the first of them:" if planned.more else f"{exact}:"
    for channel, reason, rows, _doubtful in planned.counts:
        yield f"  {rows:>9,}  {channel or 'event':5}  {reason_words(reason)}"
    if planned.doubtful:
        yield f"{planned.doubtful:,} of them may have been sent before: {TWICE}"


def question(planned: Plan, limit: int | None, rate_per_s: float) -> str:
    """What to agree to."""
    many = "all of them" if planned.more else f"{planned.matching:,}"
    if limit is not None and limit < planned.matching:
        many = f"the oldest {limit:,}"
    return f"Replay {many}, at most {rate_per_s:g} per second?"


def found_words(found: Sequence[Found], ids: Sequence[int]) -> Iterator[str]:
    """A line per row that was named; `ids` are the notifications that were asked for."""
    for one in found:
        what = "event" if one.channel is None else f"notification {one.id}, {one.channel}"
        allowed = "FAILED" if one.channel is None else "FAILED and UNKNOWN"
        says = reason_words(one.reason or "") if one.replayable else f"only {allowed} ones can be replayed"
        yield f"{what}: {one.status}; {says}"
    for missing in sorted(set(ids) - {one.id for one in found}):
        yield f"notification {missing}: there is none"
    if any(one.status == Status.UNKNOWN for one in found):
        yield f"UNKNOWN means that it may have been sent: {TWICE}"


def reason_words(reason: str) -> str:
    """The reason, and what it means."""
    return f"{reason}: {REASONS[reason]}" if reason in REASONS else reason


def due_words(last_due_at: datetime | None, now: datetime) -> str:
    """When the last one is due, as the end of a sentence."""
    if last_due_at is None:
        return ""
    seconds = (last_due_at - now).total_seconds()
    if seconds < 1:
        return ", due now"
    size, unit = next((size, unit) for size, unit in ((3600, "h"), (60, "min"), (1, "s")) if seconds >= 2 * size or size == 1)
    return f", the last is due in {seconds / size:.0f} {unit}, at {last_due_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
