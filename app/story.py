"""The story of one event in lines for a terminal, from what GET /api/events/{eventId} says. Pure."""

from datetime import datetime
from typing import Any

from app.domain import EventStatus, Status

Story = dict[str, Any]


def finished(story: Story) -> bool:
    """Is everything about this event final?"""
    if story["status"] == EventStatus.NEW:
        return False
    return all(Status(notification["status"]).final for notification in story["notifications"])


def news(before: Story | None, after: Story, now: datetime) -> list[str]:
    """What happened between two looks at the same event, one line per change, oldest first per channel."""
    old = {n["channel"]: n for n in before["notifications"]} if before else {}
    lines = _decisions(before, after)
    for notification in after["notifications"]:
        lines += _notification(old.get(notification["channel"]), notification, now)
    if after["status"] != (before or {}).get("status") and after["status"] in (EventStatus.FAILED, EventStatus.CANCELLED):
        lines.append(f"event {after['status']}{_because(after)}")
    return lines


def _decisions(before: Story | None, after: Story) -> list[str]:
    known = (before or {}).get("decisions") or {}
    found = after.get("decisions") or {}
    return [f"{channel:<6} not used: {d['reason']}" for channel, d in found.items() if channel not in known and not d["use"]]


def _notification(before: Story | None, after: Story, now: datetime) -> list[str]:
    seen = {attempt["number"]: attempt["outcome"] for attempt in before["attempts"]} if before else {}
    # An attempt under way has no outcome yet, and a late truth replaces "unknown".
    fresh = [a for a in after["attempts"] if a["outcome"] and a["outcome"] != seen.get(a["number"])]
    lines = [_attempt(attempt) for attempt in fresh]
    if fresh and after["status"] == Status.PENDING and after.get("dueAt"):
        lines[-1] += f"; next try in {_seconds_until(after['dueAt'], now):.1f} s"
    changed = before is None or before["status"] != after["status"]
    told = after["status"] == Status.SENT and fresh
    if changed and Status(after["status"]).final and not told:
        lines.append(f"{after['status']}{_because(after)}")
    return [f"{after['channel']:<6} {line}" for line in lines]


def _attempt(attempt: Story) -> str:
    error = f": {attempt['error']}" if attempt.get("error") else ""
    took = f" in {attempt['durationMs']:.0f} ms" if attempt.get("durationMs") is not None and not error else ""
    return f"attempt {attempt['number']} {attempt['outcome']}{took}{error}"


def _because(what: Story) -> str:
    reason, error = what.get("reason"), what.get("error")
    return f": {error or reason}" if error or reason else ""


def _seconds_until(instant: str, now: datetime) -> float:
    return max(0.0, (datetime.fromisoformat(instant) - now).total_seconds())
