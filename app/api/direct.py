"""/api/v1/notifications: one message on one channel, of the caller's choice; and what became of it."""

import re
from functools import partial
from typing import Annotated, NamedTuple

import orjson
from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.api.idempotency import idempotency_key
from app.api.problem import KEY_REUSED, NOT_FOUND, Problem, invalid, pointer, unavailable
from app.api.schemas import Body, Id, read
from app.api.wire import JSON, json_answer, path_row_id, read_json_body
from app.direct import Direct, KeyReused, accept_direct, shown
from app.domain import Channel
from app.payload import NUL
from app.resources import Resources
from app.store.batch import AWAY
from app.store.direct import get_direct

PATH = "/api/v1/notifications"
AWAY_DETAIL = (
    "Not known to be stored: PostgreSQL is away. "
    "Send the request again a little later; with an Idempotency-Key nothing is sent twice."
)


class AddressRule(NamedTuple):
    """The member that holds a channel's address, and what it must look like."""

    member: str
    shape: re.Pattern[str]
    rule: str


ADDRESSES = {
    Channel.EMAIL: AddressRule(
        "email",
        re.compile(r"(?=.{3,254}$)[^\s@,;<>\x00-\x1f\x7f-\x9f]+@[^\s@,;<>\x00-\x1f\x7f-\x9f]+"),
        "must be one e-mail address, such as user@email.com",
    ),
    Channel.SMS: AddressRule(
        "phone", re.compile(r"\+?[1-9][0-9]{4,14}"), "must be a phone number with country code, such as +4915112345678"
    ),
    Channel.PUSH: AddressRule(
        "device_token", re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,4096}"), "must have 1 to 4,096 characters, no control characters"
    ),
}


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("nul", NUL.removeprefix("text "))
    return text


class DirectBody(Body):
    """The body of POST /api/v1/notifications."""

    model_config = ConfigDict(alias_generator=None)

    user_id: Id
    type: Channel
    message: Annotated[str, Field(min_length=1), AfterValidator(_without_nul)]
    email: str | None = None
    phone: str | None = None
    device_token: str | None = None

    def direct(self) -> Direct:
        """Raises Problem 422 where the address is not the one that the type takes."""
        given = {channel: getattr(self, rule.member) for channel, rule in ADDRESSES.items()}
        address = given.pop(self.type)
        errors = [_error(other, f"is not for {self.type}: leave it out") for other, value in given.items() if value is not None]
        if address is None:
            errors.insert(0, _error(self.type, f"is missing: {self.type} needs it"))
        elif not ADDRESSES[self.type].shape.fullmatch(address):
            errors.insert(0, _error(self.type, ADDRESSES[self.type].rule))
        if errors:
            raise invalid(errors)
        return Direct(self.user_id, self.type, address or "", self.message)


def _error(channel: Channel, rule: str) -> dict[str, str]:
    member = ADDRESSES[channel].member
    return {"detail": f"{member} {rule}.", "pointer": pointer([member])}


def routes(resources: Resources) -> list[Route]:
    return [
        Route(PATH, partial(post_direct, resources), methods=["POST"], name="post_direct"),
        Route(f"{PATH}/{{id}}", partial(get_direct_notification, resources), name="get_direct"),
    ]


async def post_direct(resources: Resources, request: Request) -> Response:
    """POST: 202 with the notification. The same Idempotency-Key again: the first answer, nothing sent twice."""
    key = idempotency_key(request.headers)
    direct = read(DirectBody, await read_json_body(request.scope, request.receive)).direct()
    try:
        answer = await accept_direct(resources, direct, f"POST {PATH}", key)
    except KeyReused:
        raise Problem(KEY_REUSED, "This Idempotency-Key came with another body before. Take a new key.") from None
    except AWAY as error:
        raise unavailable(AWAY_DETAIL) from error
    headers = {"Location": f"{PATH}/{orjson.loads(answer.body)['id']}"}
    if answer.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(answer.body, answer.status, headers, JSON)


async def get_direct_notification(resources: Resources, request: Request) -> Response:
    """GET /api/v1/notifications/{id}: the same shape, as it is now."""
    row = await get_direct(resources.pool, path_row_id(request, "id"))
    if row is None:
        raise Problem(NOT_FOUND, "There is no direct notification with this id.")
    return json_answer(shown(row, resources.settings))
