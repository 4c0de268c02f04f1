"""What a posted event may look like: tables of good and bad bodies, with the answer a client gets for each."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from app.api.problem import Problem
from app.api.schemas import EventBody, PreferencesBody, PreferencesPatch, read
from app.domain import Channel, Event
from app.payload import TOO_BIG, TOO_DEEP, Fault, first_fault

EVENT: dict[str, Any] = {
    "eventId": "evt-123",
    "eventType": "ORDER_PLACED",
    "userId": "user_123",
    "payload": {"orderAmount": 250, "items": ["Laptop", "Mouse"]},
    "timestamp": "2026-03-31T16:30:00Z",
}


def event_of(**change: Any) -> Event:
    return read(EventBody, json.dumps({**EVENT, **change}).encode()).event()


def refusal(body: str | bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        read(EventBody, body.encode() if isinstance(body, str) else body)
    return caught.value


def with_payload(text: str) -> str:
    return json.dumps(EVENT).replace('{"orderAmount": 250, "items": ["Laptop", "Mouse"]}', text)


def nested(levels: int) -> str:
    """A payload of so many levels, its own included."""
    return '{"a":' * (levels - 1) + "{}" + "}" * (levels - 1)


def test_the_sample_event_becomes_a_domain_event() -> None:
    assert event_of() == Event(
        event_id="evt-123",
        type="ORDER_PLACED",
        user_id="user_123",
        payload={"orderAmount": 250, "items": ["Laptop", "Mouse"]},
        occurred_at=datetime(2026, 3, 31, 16, 30, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-03-31T16:30:00Z", datetime(2026, 3, 31, 16, 30, tzinfo=UTC)),
        ("2026-03-31T16:30:00.123Z", datetime(2026, 3, 31, 16, 30, 0, 123_000, tzinfo=UTC)),
        ("2026-03-31T16:30:00.123456789Z", datetime(2026, 3, 31, 16, 30, 0, 123_456, tzinfo=UTC)),
        ("2026-03-31T16:30:00,5Z", datetime(2026, 3, 31, 16, 30, 0, 500_000, tzinfo=UTC)),
        ("2026-03-31T16:30Z", datetime(2026, 3, 31, 16, 30, tzinfo=UTC)),
        ("2026-03-31t16:30:00z", datetime(2026, 3, 31, 16, 30, tzinfo=UTC)),
        ("2026-03-31 16:30:00+02:00", datetime(2026, 3, 31, 14, 30, tzinfo=UTC)),
        ("2026-03-31T16:30:00+0200", datetime(2026, 3, 31, 14, 30, tzinfo=UTC)),
        ("2026-03-31T16:30:00-05", datetime(2026, 3, 31, 21, 30, tzinfo=UTC)),
        ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
        ("1969-12-31T23:00:00-01:00", datetime(1970, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_instants_are_taken_with_any_offset_and_kept_in_utc(text: str, instant: datetime) -> None:
    event = event_of(timestamp=text, sendAt=text, expiresAt=text)
    for got in (event.occurred_at, event.send_at, event.expires_at):
        assert got == instant
        assert got is not None
        assert got.tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    [
        "2026-03-31T16:30:00",
        "2026-03-31",
        "2026-03-31Z",
        "20260331T163000Z",
        "2026-03-31X16:30:00Z",
        "2026-13-31T16:30:00Z",
        "2026-02-30T16:30:00Z",
        "2026-03-31T24:00:01Z",
        "2026-03-31T16:30:60Z",
        "2026-03-31T16:30:00+25:00",
        "2026-03-31T16:30:00Z\n",
        "٢٠٢٦-03-31T16:30:00Z",
        "1774974600",
        "99999-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "0001-01-01T00:00:00+14:00",
        "",
        1774974600,
        1774974600.5,
        True,
        None,
        {},
    ],
    ids=repr,
)
def test_what_is_no_instant_is_refused_at_its_member(value: object) -> None:
    problem = refusal(json.dumps({**EVENT, "timestamp": value}))
    assert problem.kind.status == 422
    assert [error["pointer"] for error in problem.errors] == ["#/timestamp"]


@pytest.mark.parametrize("name", ["eventId", "eventType", "userId"])
@pytest.mark.parametrize(
    "value",
    [
        "x",
        pytest.param("x" * 255, id="255 letters"),
        pytest.param("ü" * 255, id="255 umlauts"),
        "a/b?c#d%20",
        "  ",
        "\u2028😀",
        "0",
    ],
)
def test_ids_may_hold_any_printable_character(name: str, value: str) -> None:
    event = event_of(**{name: value})
    assert value in (event.event_id, event.type, event.user_id)


@pytest.mark.parametrize("name", ["eventId", "eventType", "userId"])
@pytest.mark.parametrize(
    "value", ["", pytest.param("x" * 256, id="256 letters"), "a\nb", "a\0", "\x7f", "\x85", "a\n", None, 5, True, ["x"], {}]
)
def test_ids_that_cannot_be_are_refused_at_their_member(name: str, value: object) -> None:
    problem = refusal(json.dumps({**EVENT, name: value}))
    assert problem.kind.status == 422
    assert [error["pointer"] for error in problem.errors] == [f"#/{name}"]
    assert problem.detail.startswith(name)


@pytest.mark.parametrize("name", list(EVENT))
def test_every_member_of_an_event_must_be_there(name: str) -> None:
    problem = refusal(json.dumps({key: value for key, value in EVENT.items() if key != name}))
    assert list(problem.errors) == [{"detail": f"{name} is missing.", "pointer": f"#/{name}"}]


@pytest.mark.parametrize("name", ["event_id", "priority", "EventId", "a/b"])
def test_an_unknown_member_is_refused_by_name(name: str) -> None:
    problem = refusal(json.dumps({**EVENT, name: 1}))
    assert problem.kind.status == 422
    assert name in problem.detail
    assert [error["pointer"] for error in problem.errors] == ["#/" + name.replace("/", "~1")]


def test_everything_that_is_wrong_is_told_at_once() -> None:
    problem = refusal(json.dumps({"eventId": "", "userId": "u", "payload": {"x": "\0"}, "timestamp": "today", "extra": 1}))
    assert {error["pointer"] for error in problem.errors} == {"#/eventId", "#/eventType", "#/payload/x", "#/timestamp", "#/extra"}


def test_a_body_full_of_unknown_members_gets_a_short_answer() -> None:
    assert len(refusal(json.dumps({**EVENT, **{f"x{n}": n for n in range(10_000)}})).errors) == 50


@pytest.mark.parametrize("body", ["[]", '"text"', "5", "null", "true"])
def test_a_body_that_is_no_object_is_refused_as_a_whole(body: str) -> None:
    assert list(refusal(body).errors) == [{"detail": "The body must be a JSON object.", "pointer": "#"}]


@pytest.mark.parametrize(
    "body",
    [
        "",
        " ",
        "{",
        "{'eventId': 1}",
        json.dumps(EVENT) + "x",
        json.dumps(EVENT)[:-1],
        b"\xef\xbb\xbf{}",
        b'{"eventId": "\xff"}',
        b'{"eventId": "\xed\xa0\x80"}',
        with_payload('{"a": "\\ud800"}'),
        with_payload('{"a": "\\udc00\\ud800"}'),
        with_payload('{"\\ud800": 1}'),
        with_payload('{"a": NaN}'),
        with_payload('{"a": [Infinity]}'),
        with_payload('{"a": -Infinity}'),
        '{"eventId": NaN}',
        with_payload('{"a": 01}'),
        with_payload('{"a": "\t"}'),
        pytest.param(with_payload(nested(10_000)), id="10,000 objects"),
        pytest.param(with_payload('{"a": ' + "[" * 10_000), id="10,000 arrays"),
        pytest.param(with_payload('{"a": ' + "9" * 5_000 + "}"), id="5,000 digits"),
    ],
)
def test_what_is_no_json_is_malformed(body: str | bytes) -> None:
    problem = refusal(body)
    assert (problem.kind.status, problem.kind.slug, list(problem.errors)) == (400, "malformed-json", [])


@pytest.mark.parametrize(
    ("payload", "pointer"),
    [
        ("[]", "#/payload"),
        ("null", "#/payload"),
        ('"text"', "#/payload"),
        ('{"a": "\\u0000"}', "#/payload/a"),
        ('{"items": ["x", "y\\u0000z"]}', "#/payload/items/1"),
        ('{"a": [{"\\u0000k": 1}]}', "#/payload/a/0/%00k"),
        ('{"a": 1e999}', "#/payload/a"),
        ('{"a": [-1e999]}', "#/payload/a/0"),
        ('{"a": 9223372036854775808}', "#/payload/a"),
        ('{"a": -9223372036854775809}', "#/payload/a"),
        ('{"a": 99999999999999999999999}', "#/payload/a"),
        ('{"a/b": {"m~n": 1e999}}', "#/payload/a~1b/m~0n"),
        ('{"a b": {"ü%": 1e999}}', "#/payload/a%20b/%C3%BC%25"),
        pytest.param(nested(65), "#/payload" + "/a" * 64, id="65 objects"),
        pytest.param('{"a": ' + "[" * 64 + "]" * 64 + "}", "#/payload/a" + "/0" * 63, id="64 arrays in an object"),
    ],
)
def test_a_payload_is_refused_at_the_spot(payload: str, pointer: str) -> None:
    problem = refusal(with_payload(payload))
    assert problem.kind.status == 422
    assert [error["pointer"] for error in problem.errors] == [pointer]


@pytest.mark.parametrize(
    "payload",
    [
        "{}",
        '{"": ""}',
        '{"a": 9223372036854775807, "b": -9223372036854775808, "c": 1.7e308, "d": -0.0, "e": 1e-400}',
        '{"a": [true, false, null, [], {}]}',
        '{"a": "\\ud83d\\ude00 \\u0001 \\u007f"}',
        pytest.param(nested(64), id="64 objects"),
        pytest.param('{"a": ' + "[" * 63 + "]" * 63 + "}", id="63 arrays in an object"),
    ],
)
def test_a_payload_may_hold_all_that_json_has(payload: str) -> None:
    assert read(EventBody, with_payload(payload).encode()).event().payload == json.loads(payload)


def test_the_first_fault_of_a_payload_is_found_in_document_order() -> None:
    assert first_fault({"a": [1, {"b": 2**63}], "c": "\0"}) == Fault(("a", 1, "b"), TOO_BIG)
    assert first_fault(json.loads(nested(65))) == Fault(("a",) * 64, TOO_DEEP)
    assert first_fault({"a": True, "b": 1.5}) is None


@pytest.mark.parametrize(
    ("sent", "asked"),
    [
        (None, None),
        (["PUSH", "EMAIL"], (Channel.EMAIL, Channel.PUSH)),
        (["SMS", "SMS"], (Channel.SMS,)),
        (["PUSH", "SMS", "EMAIL"], tuple(Channel)),
    ],
)
def test_channels_are_put_in_order_without_repeats(sent: object, asked: object) -> None:
    assert event_of(channels=sent).channels == asked


@pytest.mark.parametrize(
    ("channels", "pointer"),
    [
        ([], "#/channels"),
        ("EMAIL", "#/channels"),
        (["FAX"], "#/channels/0"),
        (["EMAIL", "email"], "#/channels/1"),
        ([1], "#/channels/0"),
    ],
)
def test_channels_that_are_none_are_refused(channels: object, pointer: str) -> None:
    assert [error["pointer"] for error in refusal(json.dumps({**EVENT, "channels": channels})).errors] == [pointer]


def test_preferences_that_are_left_out_are_on() -> None:
    body = read(PreferencesBody, b'{"smsOptIn": false, "userId": "u", "createdAt": null, "updatedAt": "2026-03-31T16:30:00Z"}')
    assert (body.email_opt_in, body.sms_opt_in, body.push_opt_in) == (True, False, True)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ('{"smsOptIn": 1}', "#/smsOptIn"),
        ('{"smsOptIn": "false"}', "#/smsOptIn"),
        ('{"smsOptIn": null}', "#/smsOptIn"),
        ('{"faxOptIn": true}', "#/faxOptIn"),
        ("[]", "#"),
    ],
)
def test_preferences_are_true_or_false(body: str, pointer: str) -> None:
    with pytest.raises(Problem) as caught:
        read(PreferencesBody, body.encode())
    assert [error["pointer"] for error in caught.value.errors] == [pointer]


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        ("{}", {}),
        ('{"userId": "u", "createdAt": "x"}', {}),
        ('{"emailOptIn": false}', {"email_opt_in": False}),
        ('{"emailOptIn": null, "pushOptIn": false}', {"email_opt_in": True, "push_opt_in": False}),
    ],
)
def test_a_patch_changes_what_it_names_and_null_means_on_again(body: str, changes: dict[str, bool]) -> None:
    assert read(PreferencesPatch, body.encode()).changes() == changes
