"""Direct notifications without servers: which bodies are taken, how a key is spelled, and what a client is shown."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from app.api.direct import DirectBody
from app.api.idempotency import read_key
from app.api.problem import Problem
from app.api.schemas import read
from app.direct import Direct, body_hash, shown
from app.domain import Channel, Reason, Status
from app.settings import load_settings
from app.store.direct import DirectRow

EMAIL, SMS, PUSH = Channel
GOOD = {"user_id": "user_123", "type": "EMAIL", "message": "Hello", "email": "user@email.com"}
ADDRESS = {EMAIL: ("email", "user@email.com"), SMS: ("phone", "+4915112345678"), PUSH: ("device_token", "token")}


def body(channel: Channel = EMAIL, **change: Any) -> dict[str, Any]:
    """A good body for one channel; None takes a member away."""
    member, address = ADDRESS[channel]
    changed = {"user_id": "user_123", "type": channel.value, "message": "Hello", member: address, **change}
    return {name: value for name, value in changed.items() if value is not None}


def parse(sent: dict[str, Any]) -> Direct:
    return read(DirectBody, orjson.dumps(sent)).direct()


def refusal(sent: dict[str, Any]) -> dict[str, str]:
    """Pointer and sentence of everything that is wrong with a body."""
    with pytest.raises(Problem) as problem:
        parse(sent)
    assert problem.value.kind.status == 422
    return {error["pointer"]: error["detail"] for error in problem.value.errors}


# ---- the body


@pytest.mark.parametrize("channel", Channel)
def test_each_type_takes_its_own_address(channel: Channel) -> None:
    assert parse(body(channel)) == Direct("user_123", channel, ADDRESS[channel][1], "Hello")


@pytest.mark.parametrize(
    ("channel", "address"),
    [
        (EMAIL, "a@b"),
        (EMAIL, "jörg+news@bücher.example"),
        (EMAIL, "x" * 248 + "@a.b"),
        (SMS, "4915112345678"),
        (SMS, "+12345"),
        (PUSH, "x" * 4096),
        (PUSH, "APA91b:with spaces"),
    ],
)
def test_addresses_that_are_taken(channel: Channel, address: str) -> None:
    assert parse(body(channel, **{ADDRESS[channel][0]: address})).address == address


@pytest.mark.parametrize(
    ("channel", "address"),
    [
        *((EMAIL, bad) for bad in ("", "user", "@b", "a@", "a@b@c", "a b@c", "a@b\n", "a@b\0", "a@b,c", "<a@b>", "a@b\u2028")),
        (EMAIL, "x" * 252 + "@a.b"),
        *(
            (SMS, bad)
            for bad in ("", "+", "+0123456", "1234", "+1234567890123456", "+49 151 1234", "+49151abc", "+٤٩١٥١١٢", "+12345\n")
        ),
        *((PUSH, bad) for bad in ("", "x" * 4097, "a\nb", "a\0b")),
    ],
)
def test_addresses_that_cannot_be_one_are_refused(channel: Channel, address: str) -> None:
    member = ADDRESS[channel][0]
    wrong = refusal(body(channel, **{member: address}))
    assert list(wrong) == [f"#/{member}"]
    assert wrong[f"#/{member}"].startswith(f"{member} must ")


def test_a_missing_address_is_named() -> None:
    assert refusal(body(SMS, phone=None)) == {"#/phone": "phone is missing: SMS needs it."}


def test_addresses_of_other_types_are_refused_by_name() -> None:
    assert refusal(body(EMAIL, phone="+4915112345678", device_token="x")) == {
        "#/phone": "phone is not for EMAIL: leave it out.",
        "#/device_token": "device_token is not for EMAIL: leave it out.",
    }


def test_null_is_as_good_as_left_out() -> None:
    assert parse({**GOOD, "phone": None, "device_token": None}).address == "user@email.com"


@pytest.mark.parametrize(
    ("change", "pointer", "says"),
    [
        ({"user_id": None}, "#/user_id", "is missing"),
        ({"user_id": ""}, "#/user_id", "must not be empty"),
        ({"user_id": "a\nb"}, "#/user_id", "control characters"),
        ({"user_id": "x" * 256}, "#/user_id", "at most 255 characters"),
        ({"user_id": 5}, "#/user_id", "must be a string"),
        ({"type": None}, "#/type", "is missing"),
        ({"type": "email"}, "#/type", "EMAIL, SMS, PUSH only"),
        ({"type": "FAX"}, "#/type", "EMAIL, SMS, PUSH only"),
        ({"message": None}, "#/message", "is missing"),
        ({"message": ""}, "#/message", "must not be empty"),
        ({"message": "a\0b"}, "#/message", "must not hold NUL"),
        ({"message": {"text": "a"}}, "#/message", "must be a string"),
        ({"email": 5}, "#/email", "must be a string"),
        ({"userId": "u"}, "#/userId", "is not known here"),
    ],
)
def test_what_is_wrong_is_said_with_its_name(change: dict[str, Any], pointer: str, says: str) -> None:
    assert says in refusal(body(**change))[pointer]


def test_a_message_may_have_lines_and_any_script() -> None:
    assert parse(body(message="Zeile 1\n\tשלום 👋")).message == "Zeile 1\n\tשלום 👋"


def test_equal_requests_have_one_hash_however_they_are_spelled() -> None:
    spelled = b'{"email":"user@email.com","message":"\\u0048ello","type":"EMAIL","phone":null,"user_id":"user_123"}'
    same = body_hash(read(DirectBody, spelled).direct())
    assert same == body_hash(parse(GOOD))
    others = [parse({**GOOD, name: f"x{value}"}) for name, value in GOOD.items() if name != "type"]
    assert same not in {body_hash(other) for other in others}


# ---- the key


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ([], None),
        (["unique-key-123"], "unique-key-123"),
        (['"unique-key-123"'], "unique-key-123"),
        ([' "a" \t'], "a"),
        (['"two words"'], "two words"),
        (["two words"], "two words"),
        ([r'"a \"quoted\" \\ one"'], r'a "quoted" \ one'),
        ([r"back\slash"], r"back\slash"),
        (["a", '"a"'], "a"),
        (["x" * 255], "x" * 255),
        (['"' + "x" * 255 + '"'], "x" * 255),
    ],
)
def test_a_key_is_read_quoted_or_bare(values: list[str], key: str | None) -> None:
    assert read_key(values) == key


@pytest.mark.parametrize(
    "values",
    [
        [""],
        ['""'],
        ["x" * 256],
        ['"' + "x" * 256 + '"'],
        ['"open'],
        ['"a"b'],
        ['"a";p=1'],
        [r'"a\b"'],
        ['"'],
        ["schlüssel"],
        ["a\x01"],
    ],
)
def test_what_is_no_key_is_refused(values: list[str]) -> None:
    with pytest.raises(Problem, match="1 to 255 printable") as problem:
        read_key(values)
    assert problem.value.kind.status == 400


def test_two_headers_with_different_keys_are_refused() -> None:
    with pytest.raises(Problem, match="different keys") as problem:
        read_key(["a", "b"])
    assert problem.value.kind.status == 400


# ---- what a client is shown


def row(status: Status, reason: Reason | None = None, error: str | None = None, attempt: int = 0) -> DirectRow:
    return DirectRow(7, "user_123", EMAIL, "Hello", status, reason, error, attempt, datetime(2026, 3, 31, tzinfo=UTC))


def show(told: DirectRow) -> dict[str, object]:
    return shown(told, load_settings(_env_file=None, email_waits_s="0,5,30"))


def test_the_shape_is_that_of_the_contract() -> None:
    assert show(row(Status.PENDING)) == {
        "id": 7,
        "user_id": "user_123",
        "type": "EMAIL",
        "message": "Hello",
        "status": "PENDING",
        "retry_count": 0,
        "max_retries": 2,
        "error": None,
        "created_at": datetime(2026, 3, 31, tzinfo=UTC),
    }


@pytest.mark.parametrize(
    ("told", "status", "error"),
    [
        (row(Status.PENDING, error="busy"), "PENDING", "busy"),
        (row(Status.PROCESSING, error="busy"), "PROCESSING", "busy"),
        (row(Status.SENT), "SENT", None),
        (row(Status.FAILED, Reason.REJECTED, "no such box"), "FAILED", "rejected: no such box"),
        (row(Status.FAILED, Reason.REJECTED), "FAILED", "rejected"),
        (row(Status.UNKNOWN, Reason.CRASHED, "gone in mid-send"), "FAILED", "crashed: gone in mid-send"),
        (row(Status.CANCELLED, Reason.CANCELLED, "stopped on request"), "FAILED", "cancelled: stopped on request"),
    ],
)
def test_clients_see_four_statuses_and_the_reason(told: DirectRow, status: str, error: str | None) -> None:
    assert (show(told)["status"], show(told)["error"]) == (status, error)


@pytest.mark.parametrize(("attempt", "retries"), [(0, 0), (1, 0), (2, 1), (7, 6)])
def test_the_first_attempt_is_no_retry(attempt: int, retries: int) -> None:
    assert show(row(Status.PROCESSING, attempt=attempt))["retry_count"] == retries
