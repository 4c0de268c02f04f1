"""What clients may send, as pydantic models in camelCase, and what is wrong with it as sentences with JSON pointers."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

from app.api.problem import MALFORMED, Problem, invalid, pointer
from app.api.wire import ID_MAX_CHARACTERS
from app.domain import Channel, Event
from app.payload import first_fault

ERRORS_MAX = 50  # of one body
CLIP_CHARACTERS = 60
FIRST_YEAR, LAST_YEAR = 1970, 9999
INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:[Zz]|[+-]\d\d(?::?\d\d)?)", re.ASCII)
INSTANT_RULE = "must be an ISO 8601 date and time with Z or an offset, such as 2026-03-31T16:30:00Z"
YEAR_RULE = f"must lie in the years {FIRST_YEAR} to {LAST_YEAR} (UTC)"

Model = TypeVar("Model", bound=BaseModel)


def read_instant(value: object) -> datetime:
    """The instant in UTC, microseconds kept, further digits dropped. Raises PydanticCustomError."""
    if not isinstance(value, str) or not INSTANT.fullmatch(value):
        raise PydanticCustomError("instant", INSTANT_RULE)
    try:
        instant = datetime.fromisoformat(value.upper())
    except ValueError:
        raise PydanticCustomError("instant", INSTANT_RULE) from None
    try:
        instant = instant.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("instant", YEAR_RULE) from None
    if not FIRST_YEAR <= instant.year <= LAST_YEAR:
        raise PydanticCustomError("instant", YEAR_RULE)
    return instant


def _check_payload(payload: dict[str, Any]) -> dict[str, Any]:
    fault = first_fault(payload)
    if fault:
        raise PydanticCustomError("payload", "{rule}", {"rule": fault.rule, "path": fault.path})
    return payload


Id = Annotated[str, Field(min_length=1, max_length=ID_MAX_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Instant = Annotated[datetime, PlainValidator(read_instant, json_schema_input_type=datetime)]
Payload = Annotated[dict[str, Any], AfterValidator(_check_payload)]


class Body(BaseModel):
    """Nothing is converted, nothing unknown is let through."""

    model_config = ConfigDict(strict=True, extra="forbid", alias_generator=to_camel)


class EventBody(Body):
    """The body of POST /api/events."""

    event_id: Id
    event_type: Id
    user_id: Id
    payload: Payload
    timestamp: Instant
    channels: Annotated[list[Channel], Field(min_length=1)] | None = None
    send_at: Instant | None = None
    expires_at: Instant | None = None

    def event(self) -> Event:
        told = (self.event_id, self.event_type, self.user_id, self.payload, self.timestamp)
        asked = self.channels
        channels = None if asked is None else tuple([channel for channel in Channel if channel in asked])
        return Event(*told, "", channels, self.send_at, self.expires_at)  # by position: by name it would take half as long again


class _PreferencesMembers(Body):
    """What GET answers may be sent back: `userId` must be that of the path, the two times are ignored."""

    user_id: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


class PreferencesBody(_PreferencesMembers):
    """The body of PUT /api/preferences/{userId}."""

    email_opt_in: bool = True
    sms_opt_in: bool = True
    push_opt_in: bool = True


class PreferencesPatch(_PreferencesMembers):
    """The body of PATCH (RFC 7396): null takes a member away, so that the default, true, counts again."""

    email_opt_in: bool | None = None
    sms_opt_in: bool | None = None
    push_opt_in: bool | None = None

    def changes(self) -> dict[str, bool]:
        """Only the members that were sent."""
        sent = self.model_fields_set & {"email_opt_in", "sms_opt_in", "push_opt_in"}
        return {name: getattr(self, name) is not False for name in sent}


def read(model: type[Model], body: bytes) -> Model:
    """The body as `model`. Raises Problem: 400 where it is no JSON, 422 with a pointer to each thing that is wrong."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        _refuse(body, error)


def _refuse(body: bytes, error: ValidationError) -> NoReturn:
    wrong = error.errors(include_url=False, include_input=False)
    if wrong[0]["type"] == "json_invalid":
        raise Problem(MALFORMED, f"The body is not JSON: {wrong[0]['ctx']['error']}.")
    try:
        json.loads(body, parse_constant=_no_constant)  # pydantic takes NaN and Infinity, which are no JSON
    except ValueError as reason:
        raise Problem(MALFORMED, f"The body is not JSON: {reason}.") from None
    raise invalid([_described(one) for one in wrong[:ERRORS_MAX]])


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _described(error: ErrorDetails) -> dict[str, str]:
    context = error.get("ctx", {})
    path = (*error["loc"], *context.get("path", ()))
    return {"detail": _sentence(error, context), "pointer": pointer(path)}


def _sentence(error: ErrorDetails, context: Mapping[str, Any]) -> str:
    if not error["loc"]:
        return "The body must be a JSON object."
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return f"{name[:CLIP_CHARACTERS]!r} is not known here: leave it out, or correct its name."
    rule = RULES.get(f"{name} {error['type']}") or RULES.get(error["type"], error["msg"])
    return f"{name}: {rule}." if error["type"] == "payload" else f"{name} {rule}."


RULES = {
    "missing": "is missing",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "string_too_long": f"must have at most {ID_MAX_CHARACTERS} characters",
    "string_pattern_mismatch": "must not hold control characters",
    "dict_type": "must be a JSON object",
    "bool_type": "must be true or false",
    "list_type": "must be an array of channels",
    "too_short": "must name at least one channel; leave it out for all of them",
    "events list_type": "must be an array of events",
    "events too_short": "must hold at least one event",
    "events too_long": "may hold 1,000 events at most",
    "enum": f"may hold {', '.join(Channel)} only",
}
