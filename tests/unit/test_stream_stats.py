"""What the numbers of a stream mean where Redis itself is not sure."""

import pytest

from app.stream_stats import age_s, known_lag


@pytest.mark.parametrize(
    ("length", "pending", "told", "lag"),
    [
        (5, 2, 3, 3),
        (0, 0, 0, 0),
        (4, 2, None, 2),  # an unread entry was deleted
        (500, 0, 900, 500),  # trimmed: XINFO says more than there are
        (1, 3, None, None),  # pending entries have lost their bodies
        (1, 3, 2, None),
        (3, 5, 0, 0),
    ],
)
def test_lag_is_told_counted_or_unknown(length: int, pending: int, told: int | None, lag: int | None) -> None:
    assert known_lag(length, pending, told) == lag


def test_age_comes_from_the_id_and_redis_own_clock() -> None:
    assert age_s(b"1795312877196-3", 1795312877196 + 1500) == 1.5
    assert age_s(b"1795312877196-3", 1795312877196 - 1500) == 0, "the clock was set back"
