"""What `tidings send --watch` prints, change by change."""

from datetime import UTC, datetime
from typing import Any

import pytest

from app.story import finished, news

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def story(status: str = "ROUTED", decisions: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"eventId": "e", "status": status, "decisions": decisions, "notifications": [], **more}


def email(status: str, *attempts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"channel": "EMAIL", "status": status, "attempts": list(attempts), **more}


UNAVAILABLE = {"number": 1, "outcome": "unavailable", "error": "simulated failure", "durationMs": 500}
SENT = {"number": 2, "outcome": "sent", "error": None, "durationMs": 502.4}
WAITING = story(notifications=[email("PENDING", UNAVAILABLE, dueAt="2026-11-22T12:00:04.800Z")])

CHANGES: dict[str, tuple[dict[str, Any] | None, dict[str, Any], list[str]]] = {
    "accepted": (None, story("NEW"), []),
    "a channel that is not used": (
        story("NEW"),
        story(decisions={"EMAIL": {"use": True, "reason": "default"}, "SMS": {"use": False, "reason": "opted_out"}}),
        ["SMS    not used: opted_out"],
    ),
    "a try that failed": (story(), WAITING, ["EMAIL  attempt 1 unavailable: simulated failure; next try in 4.8 s"]),
    "a try under way": (WAITING, story(notifications=[email("PROCESSING", UNAVAILABLE, {**SENT, "outcome": None})]), []),
    "a late truth": (
        story(notifications=[email("UNKNOWN", {**UNAVAILABLE, "outcome": "unknown"}, reason="no_answer")]),
        story(notifications=[email("SENT", {**SENT, "number": 1})]),
        ["EMAIL  attempt 1 sent in 502 ms"],
    ),
    "nothing new": (WAITING, WAITING, []),
    "sent at last": (WAITING, story(notifications=[email("SENT", UNAVAILABLE, SENT)]), ["EMAIL  attempt 2 sent in 502 ms"]),
    "two changes between two looks": (
        None,
        story(notifications=[email("SENT", UNAVAILABLE, SENT)]),
        ["EMAIL  attempt 1 unavailable: simulated failure", "EMAIL  attempt 2 sent in 502 ms"],
    ),
    "out of tries": (
        WAITING,
        story(notifications=[email("FAILED", UNAVAILABLE, reason="out_of_tries", error=None)]),
        ["EMAIL  FAILED: out_of_tries"],
    ),
    "rate limited": (
        None,
        story(notifications=[email("FAILED", reason="rate_limited", error="more than 5 in 60 s")]),
        ["EMAIL  FAILED: more than 5 in 60 s"],
    ),
    "a dead event": (story("NEW"), story("FAILED", reason="expired"), ["event FAILED: expired"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_one_line_per_change(name: str) -> None:
    before, after, lines = CHANGES[name]
    assert news(before, after, NOW) == lines


@pytest.mark.parametrize(
    ("what", "is_finished"),
    [
        (story("NEW"), False),
        (story("ROUTED"), True),  # nobody wanted it
        (WAITING, False),
        (story(notifications=[email("PROCESSING")]), False),
        (story(notifications=[email("SENT"), email("FAILED"), email("UNKNOWN"), email("CANCELLED")]), True),
        (story("FAILED"), True),
    ],
)
def test_it_ends_when_all_is_final(what: dict[str, Any], is_finished: bool) -> None:
    assert finished(what) is is_finished
