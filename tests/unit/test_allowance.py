"""How much of the rate limit is left: five tokens in 60 s, one every 12 s."""

import pytest

from web.allowance import Allowance, allowance

NOW = 1_795_318_464_247_000
SECOND = 1_000_000


@pytest.mark.parametrize(
    ("full_in_s", "expected"),
    [
        (-100, Allowance(5, 5)),
        (0, Allowance(5, 5)),
        (1, Allowance(4, 5, next_s=1, full_s=1)),
        (12, Allowance(4, 5, next_s=12, full_s=12)),
        (12.5, Allowance(3, 5, next_s=0.5, full_s=12.5)),
        (48, Allowance(1, 5, next_s=12, full_s=48)),
        (60, Allowance(0, 5, next_s=12, full_s=60)),
        (84, Allowance(0, 5, next_s=36, full_s=84)),
    ],
)
def test_what_is_left(full_in_s: float, expected: Allowance) -> None:
    assert allowance(5, 12 * SECOND, NOW + full_in_s * SECOND, 0, NOW) == expected


def test_a_promised_time_is_told() -> None:
    assert allowance(5, 12 * SECOND, NOW + 84 * SECOND, NOW + 24 * SECOND, NOW).reserved_s == 24
    assert allowance(5, 12 * SECOND, NOW + 84 * SECOND, NOW - 24 * SECOND, NOW).reserved_s == 0
