"""A fault that lasts is two lines: one when it comes, one when it is over."""

import pytest
import structlog
from structlog.testing import capture_logs

from app.trouble import Trouble


def said(steps: str, at_s: list[float] | None = None, monkeypatch: pytest.MonkeyPatch | None = None) -> list[str]:
    """What is logged for faults (f) and ends (o)."""
    times = iter(at_s or [0.0] * len(steps))
    if monkeypatch is not None:
        monkeypatch.setattr("app.trouble.time.monotonic", lambda: next(times))
    with capture_logs() as lines:
        trouble = Trouble(structlog.get_logger(), "it is back")
        for step in steps:
            trouble.say("it is away", OSError("why"), stream="s") if step == "f" else trouble.over(stream="s")
    return [line["event"] for line in lines]


@pytest.mark.parametrize(
    ("steps", "lines"),
    [
        ("", []),
        ("ooo", []),
        ("fff", ["it is away"]),
        ("fffooo", ["it is away", "it is back"]),
        ("fofofofo", ["it is away", "it is back"]),  # it comes and goes
    ],
)
def test_it_is_said_once(steps: str, lines: list[str]) -> None:
    assert said(steps) == lines


def test_after_10_s_it_is_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said("fofff", [0, 5, 9, 11], monkeypatch) == ["it is away", "it is back", "it is away"]


def test_the_line_has_the_error_and_the_facts() -> None:
    with capture_logs() as lines:
        Trouble(structlog.get_logger(), "it is back").say("it is away", TimeoutError(), stream="s")
    assert lines == [{"event": "it is away", "error": "TimeoutError", "stream": "s", "log_level": "warning"}]
