"""What a list is asked for: read, written into links, and said in words; and what cannot be understood is said, never guessed."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from app.domain import Channel, Status
from web.filters import IDS_MAX, Filter, Several, filter_words, iso, query_of, read_filter, row_ids
from web.walk_queries import escaped

NOW = datetime(2026, 3, 31, 16, 30, tzinfo=UTC)
FULL = Filter(
    status=Status.FAILED, channel=Channel.SMS, user="ann", event="evt-1", type="ORDER_PLACED", provider="webhook", error="busy",
    reason="rejected", since=NOW - timedelta(days=1), until=NOW,
)  # fmt: skip


def read(**asked: str) -> Filter:
    found = read_filter(asked, NOW)
    assert found.faults == ()
    return found.filter


def test_nothing_asked_is_everything() -> None:
    assert read() == read(status="", channel="", since="  ", error="", before="") == Filter()
    assert query_of(Filter()) == {}


def test_a_filter_survives_its_link() -> None:
    for wanted in (FULL, Filter(status=Several.BAD), Filter(user="a&b=c", error="100%")):
        link = urlencode({name: str(value) for name, value in query_of(wanted).items()})
        assert read(**dict(parse_qsl(link))) == wanted


def test_statuses_are_found_in_letters_of_any_case() -> None:
    assert read(status="failed").statuses == (Status.FAILED,)
    assert read(status="FAILED or UNKNOWN").statuses == (Status.FAILED, Status.UNKNOWN)
    assert read(status="pending OR processing").statuses == (Status.PENDING, Status.PROCESSING)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("30m", NOW - timedelta(minutes=30)),
        ("2026-03-31", datetime(2026, 3, 31, tzinfo=UTC)),
        ("2026-03-31T16:30", NOW),
        ("2026-03-31 16:30:00", NOW),
        ("2026-03-31T16:30:00Z", NOW),
        ("2026-03-31T18:30:00+02:00", NOW),
        (iso(NOW + timedelta(microseconds=7)), NOW + timedelta(microseconds=7)),
    ],
)
def test_a_time_without_an_offset_is_utc(text: str, at: datetime) -> None:
    assert read(since=text).since == at


@pytest.mark.parametrize(
    "asked",
    [
        {"status": "sent!"}, {"channel": "FAX"}, {"since": "yesterday"}, {"until": "2026-13-01"}, {"since": "0001-01-01"},
        {"since": "9999-12-31T23:59:59-14:00"}, {"since": "9" * 400 + "d"}, {"since": "999999d"}, {"until": "\0\0x"},
        {"status": "x" * 10_000}, {"channel": "<script>"}, {"since": "２h"},
    ],
)  # fmt: skip
def test_what_is_not_understood_is_said_and_not_used(asked: dict[str, str]) -> None:
    found = read_filter(asked, NOW)
    assert found.filter == Filter()
    assert len(found.faults) == 1
    assert len(found.faults[0]) < 200


def test_texts_are_cut_and_have_no_nul() -> None:
    assert read(user="a\0b").user == "ab"
    assert read(error="\0").error is None
    assert len(read(event="x" * 5000).event or "") == 255


def test_numbers_that_are_none_count_as_not_asked() -> None:
    assert read(before="²", after="-1") == read(before="9" * 5000) == Filter()
    assert (read(before="7").before, read(after="8").after) == (7, 8)


def test_a_selection_is_bounded_and_has_each_id_once() -> None:
    assert row_ids(["3", "x", "3", "", "5", str(2**63)]) == (3, 5)
    assert len(row_ids([str(n) for n in range(5000)])) == IDS_MAX


def test_a_filter_in_words() -> None:
    assert filter_words(Filter()) == "notifications"
    assert filter_words(FULL) == (
        "FAILED notifications on SMS of ann of event evt-1 of type ORDER_PLACED tried by webhook with reason rejected "
        "with “busy” in their error made since 2026-03-30 16:30:00Z made before 2026-03-31 16:30:00Z"
    )


@pytest.mark.parametrize(("part", "pattern"), [("100%", "100\\%"), ("a_b", "a\\_b"), ("c:\\d", "c:\\\\d"), ("plain", "plain")])
def test_a_text_stands_for_itself(part: str, pattern: str) -> None:
    assert escaped(part) == pattern


@pytest.mark.parametrize("field", ["status", "user"])
def test_the_place_is_not_part_of_the_filter(field: str) -> None:
    values: dict[str, Any] = {"status": Status.SENT, "user": "ann"}
    assert Filter(**{field: values[field]}, before=3, after=4).without_place == Filter(**{field: values[field]})
