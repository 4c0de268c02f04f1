"""Sentences: how long, how many, and why, as a person would say it. Pure."""

from collections.abc import Iterator
from datetime import UTC, datetime
from math import floor
from typing import Any

from app.domain import Channel, DecisionReason, Outcome, Reason, Status
from app.models import Preference

_DECISIONS: dict[str, str] = {
    DecisionReason.DEFAULT: "no preference stored",
    DecisionReason.OPTED_IN: "the user opted in",
    DecisionReason.OPTED_OUT: "the user opted out",
    DecisionReason.NOT_REQUESTED: "the event asked for other channels",
    DecisionReason.REQUESTED: "the caller chose this channel",
}
_REASONS: dict[str, str] = {
    Reason.REJECTED: "the provider refused it for good",
    Reason.OUT_OF_TRIES: "every allowed try failed",
    Reason.EXPIRED: "it expired before it could be sent",
    Reason.DEAD_LETTER: "its stream entry could not be processed (dead letter)",
    Reason.DISCARDED: "a dead letter, given up by hand",
    Reason.CRASHED: "the consumer died in mid-send",
    Reason.NO_ANSWER: "the provider did not answer, it may have been sent",
    Reason.CANCELLED: "stopped before it was sent",
}
_OUTCOMES: dict[str, str] = {
    Outcome.SENT: "sent",
    Outcome.REJECTED: "refused for good",
    Outcome.UNAVAILABLE: "not possible just then",
    Outcome.UNKNOWN: "no answer, it may have been sent",
}
_STATUSES: dict[str, str] = {
    Status.PENDING: "to be sent",
    Status.PROCESSING: "being sent now",
    Status.SENT: "sent",
    Status.FAILED: "failed",
    Status.UNKNOWN: "unknown whether it was sent",
    Status.CANCELLED: "cancelled",
}
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """Two units at most: "184 ms", "1.2 s", "12 s", "3 min 20 s", "2 d 5 h". Negative counts as 0."""
    if seconds < 1:
        return f"{max(0, floor(round(seconds * 1000, 3)))} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    rest = round(seconds)
    place = next(i for i, (size, _) in enumerate(_UNITS) if rest >= size)
    size, unit = _UNITS[place]
    minor = [f"{rest % size // s} {u}" for s, u in _UNITS[place + 1 : place + 2] if rest % size // s]
    return " ".join([f"{rest // size} {unit}", *minor])


def ago(then: datetime, now: datetime) -> str:
    """In one unit: "12 s ago", "just now", "in 3 min"."""
    seconds = floor(abs((now - then).total_seconds()))
    size, unit = next(((s, u) for s, u in _UNITS if seconds >= s), (1, ""))
    if not unit:
        return "just now"
    return f"{seconds // size} {unit} ago" if then < now else f"in {seconds // size} {unit}"


def utc(then: datetime) -> str:
    """To the second, as a person reads UTC: "2026-03-31 16:30:00Z"."""
    return f"{then.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def number(n: int) -> str:
    """Thousands apart: 1,234,567."""
    return f"{n:,}"


def rate(per_s: float) -> str:
    """Per second, as precise as it matters: "0", "<0.1", "12.4", "1,240"."""
    if per_s < 0.05:
        return "<0.1" if per_s > 0 else "0"
    return f"{per_s:.1f}" if per_s < 99.95 else number(round(per_s))


def about(n: int) -> str:
    """An estimate by its first two digits: "about 3.4 million", "about 12,000"."""
    step = 10 ** max(0, len(str(n)) - 2)
    rounded = round(n / step) * step
    return f"about {rounded / 1e6:g} million" if rounded >= 1_000_000 else f"about {number(rounded)}"


def percent(part: float, whole: float) -> str:
    """A share: "12 %"; "–" of nothing."""
    return f"{100 * part / whole:.0f} %" if whole else "–"


def plural(n: int, one: str, many: str | None = None) -> str:
    """A number and its noun: "1 entry", "2 entries"."""
    return f"{number(n)} {one if n == 1 else many or one + 's'}"


def capital(text: str) -> str:
    """The same, as the start of a sentence."""
    return text[:1].upper() + text[1:]


def rate_limit(limit: int, window_s: float) -> str:
    """The rule that an event ran into."""
    window = f"{window_s:g} s" if window_s <= 120 else duration(window_s)
    return f"rate limited: more than {plural(limit, 'event')} in {window}"


def outcome(text: str) -> str:
    """What one attempt came to."""
    return _OUTCOMES.get(text, text)


def reason(text: str, limit: str) -> str:
    """Why a row ended as it did; a reason without a sentence is shown as it is. `limit` is the sentence of the rate limit."""
    return limit if text == Reason.RATE_LIMITED else _REASONS.get(text, text.replace("_", " "))


def why(code: str | None, error: str | None, limit: str) -> str:
    """The reason in words, and what was recorded with it; empty where there is neither."""
    return ": ".join(part for part in (reason(code, limit) if code else "", error or "") if part)


def status(text: str, code: str | None, tries: int, limit: str) -> str:
    """The state of one notification: "sent", "sent at try 3", "failed: the provider refused it for good"."""
    if code == Reason.RATE_LIMITED:
        return limit
    words = _STATUSES.get(text, text.lower())
    if text == Status.SENT and tries > 1:
        return f"sent at try {tries}"
    if code == Reason.OUT_OF_TRIES:
        return f"{words}: gave up after {plural(tries, 'try', 'tries')}"
    return f"{words}: {reason(code, limit)}" if code else words


def decision(used: bool, code: str, limit: str) -> str:
    """Why a channel was used or not: "used, no preference stored", "not used, the user opted out"."""
    if code == DecisionReason.RATE_LIMITED:
        return limit
    because = _DECISIONS.get(code, code.replace("_", " "))
    return f"{'used' if used else 'not used'}, {because}" if because else ("used" if used else "not used")


def decisions(stored: Any, limit: str) -> str:
    """All channels of one event in one line: "EMAIL used, no preference stored; SMS not used, the user opted out"."""
    return "; ".join(f"{channel} {decision(used, code, limit)}" for channel, used, code in each_decision(stored))


def each_decision(stored: Any) -> Iterator[tuple[str, bool, str]]:
    """Channel, used or not, reason: from what `event.decisions` holds. Nothing where it is null or of another shape."""
    told = stored if isinstance(stored, dict) else {}
    for channel in sorted(told, key=_place):
        if isinstance(told[channel], dict):
            yield channel, bool(told[channel].get("use")), str(told[channel].get("reason") or "")


def _place(channel: str) -> int:
    """jsonb keeps its keys by length; people expect the order of the domain."""
    return list(Channel).index(Channel(channel)) if channel in set(Channel) else len(Channel)


def preference(stored: Preference | None) -> str:
    """What a user wants, as a sentence."""
    if stored is None:
        return "No preference stored: every channel is on."
    wanted = {"EMAIL": stored.email_opt_in, "SMS": stored.sms_opt_in, "PUSH": stored.push_opt_in}
    off = [channel for channel, wants in wanted.items() if not wants]
    return f"This user has opted out of {' and '.join(off)}." if off else "This user has opted in to every channel."
