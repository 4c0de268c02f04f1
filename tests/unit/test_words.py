"""The dashboard's words, as tables."""

from datetime import timedelta

import pytest

from tests.unit.ready_made import NOW
from web import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 ms"),
        (0, "0 ms"),
        (0.1844, "184 ms"),
        (0.9999, "999 ms"),
        (1, "1.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (190_800, "2 d 5 h"),
        (1e9, "11574 d 1 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "just now"), (-0.4, "just now"), (12.9, "12 s ago"), (-12.9, "in 12 s"), (179, "2 min ago"), (90_000, "1 d ago")],
)
def test_how_long_ago(seconds: float, text: str) -> None:
    assert words.ago(NOW - timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (10_480, "about 10,000"),
        (12_340, "about 12,000"),
        (999_600, "about 1 million"),
        (3_449_000, "about 3.4 million"),
        (123_456_789, "about 120 million"),
    ],
)
def test_estimates_do_not_look_exact(n: int, text: str) -> None:
    assert words.about(n) == text


@pytest.mark.parametrize("stored", [None, [], "x", {}, {"EMAIL": None}, {"EMAIL": "yes"}])
def test_decisions_of_another_shape_are_left_out(stored: object) -> None:
    assert list(words.each_decision(stored)) == []


def test_a_reason_without_a_sentence_is_shown_as_it_is() -> None:
    assert words.why("blocked_by_law", "article 7", "") == "blocked by law: article 7"
    assert words.decision(False, "quiet_hours", "") == "not used, quiet hours"


def test_the_rate_limit_names_its_numbers() -> None:
    assert words.rate_limit(5, 60) == "rate limited: more than 5 events in 60 s"
    assert words.rate_limit(1, 3600) == "rate limited: more than 1 event in 1 h"
