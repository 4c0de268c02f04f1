"""What happened to one event, when: a lane for the event and one per channel, each with its spans of time. Pure.

Times are seconds since the event was accepted.
"""

from dataclasses import dataclass
from datetime import datetime

from app.domain import EventStatus, Status
from app.models import Attempt, Event, Notification
from web import words
from web.letter import clip
from web.lookups import StoryRows
from web.parts import OUTCOME_SIGNS, OUTCOME_TONES, badge

DRAWN = 40  # attempts per lane; earlier ones are in the list alone
END_SIGNS: dict[str, str] = {Status.FAILED: "✕", Status.UNKNOWN: "?", Status.CANCELLED: "–"}


@dataclass(frozen=True, slots=True)
class Span:
    """Something that lasted, or that is awaited. `kind`: "attempt", "open" (under way), "wait", "due" (until the next try)."""

    kind: str
    start_s: float
    end_s: float
    tone: str = "mute"
    sign: str = ""
    says: str = ""


@dataclass(frozen=True, slots=True)
class Lane:
    name: str
    spans: tuple[Span, ...]
    end: Span | None = None  # an end that is no attempt's


def lanes_of(rows: StoryRows, limit: str) -> tuple[Lane, ...]:
    """The event's lane, then one per notification. `limit` is the sentence of the rate limit."""
    since = rows.event.created_at
    return (_event_lane(rows.event, since, rows.now), *(_channel_lane(n, rows, since, limit) for n in rows.notifications))


def left_out(rows: StoryRows) -> int:
    """How many attempts are in no lane."""
    return sum(max(0, sum(a.notification_id == n.id for a in rows.attempts) - DRAWN) for n in rows.notifications)


def seconds_since(since: datetime, at: datetime) -> float:
    """Never negative, whatever the clocks said."""
    return max(0.0, (at - since).total_seconds())


def _event_lane(event: Event, since: datetime, now: datetime) -> Lane:
    if event.status == EventStatus.NEW:
        end_s = max(seconds_since(since, event.due_at), seconds_since(since, now))
        return Lane("Event", (Span("due", 0, end_s, "wait", "", "To be routed"),))
    routed_s = seconds_since(since, event.updated_at)
    routed = f"{event.status.capitalize()} {words.duration(routed_s)} after it was accepted"
    wait = Span("wait", 0, routed_s)
    sign = "✓" if event.status == EventStatus.ROUTED else END_SIGNS.get(event.status, "✕")
    return Lane("Event", (wait,), Span("end", routed_s, routed_s, badge(event.status).tone, sign, routed))


def _channel_lane(n: Notification, rows: StoryRows, since: datetime, limit: str) -> Lane:
    spans, from_s = [], seconds_since(since, n.created_at)
    attempts = [a for a in rows.attempts if a.notification_id == n.id][-DRAWN:]
    for attempt in attempts:
        span = _attempt(attempt, since)
        spans += [Span("wait", from_s, max(from_s, span.start_s)), span]
        from_s = span.end_s
    if n.status == Status.PROCESSING:
        start_s = max(from_s, seconds_since(since, n.claimed_at or n.updated_at))
        end_s = max(start_s, seconds_since(since, rows.now))
        says = f"{n.channel} attempt {n.attempt}: being sent for {words.duration(end_s - start_s)}"
        spans += [Span("wait", from_s, start_s), Span("open", start_s, end_s, "busy", "…", says)]
    elif n.status == Status.PENDING:
        due_s = max(from_s, seconds_since(since, max(n.due_at, rows.now)))
        spans.append(Span("due", from_s, due_s, "wait", "", f"{n.channel}: next try"))
    elif n.status != Status.SENT:
        end_s = max(from_s, seconds_since(since, n.updated_at))
        says = f"{n.channel}: {words.status(n.status, n.reason, n.tries, limit)}"
        sign = END_SIGNS.get(n.status, "·")
        return Lane(n.channel, (*spans, Span("wait", from_s, end_s)), Span("end", end_s, end_s, badge(n.status).tone, sign, says))
    return Lane(n.channel, tuple(spans))


def _attempt(attempt: Attempt, since: datetime) -> Span:
    start_s = seconds_since(since, attempt.started_at)
    end_s = max(start_s, seconds_since(since, attempt.ended_at))
    told = f": {clip(attempt.error, 120)}" if attempt.error else ""
    says = f"Attempt {attempt.number}: {words.outcome(attempt.outcome)}, took {words.duration(end_s - start_s)}{told}"
    sign, tone = OUTCOME_SIGNS.get(attempt.outcome, "·"), OUTCOME_TONES.get(attempt.outcome, "mute")
    return Span("attempt", start_s, end_s, tone, sign, says)
