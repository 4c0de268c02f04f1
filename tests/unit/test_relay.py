"""The watermark: what was published before it (less the grace) its stream no longer carries."""

from datetime import UTC, datetime, timedelta

import pytest

from app.streams import Head
from consumers.relay import watermark

NOW = datetime(2026, 3, 31, 12, 0, tzinfo=UTC)
EARLIER, LATER = NOW - timedelta(minutes=5), NOW + timedelta(microseconds=1)
ID = b"1774958400000-0"


@pytest.mark.parametrize(
    ("head", "mark"),
    [
        (Head(None, None, 0), NOW),  # nothing is carried: whatever is old enough is missing
        (Head(None, None, forgotten=3), NOW),
        (Head(ID, EARLIER, 0), EARLIER),  # a backlog: what is younger is still carried
        (Head(ID, EARLIER, forgotten=3), EARLIER),
        (Head(ID, NOW, 0), NOW),
        (Head(ID, LATER, 0), None),  # PostgreSQL's clock went back: nobody knows
        (Head(ID, None, 0), None),  # an entry without a readable time
    ],
)
def test_the_watermark(head: Head, mark: datetime | None) -> None:
    assert watermark(head, NOW) == mark
