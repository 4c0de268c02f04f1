"""The Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header-07), also under the name `idempotency_key`."""

import re
from collections.abc import Iterable

from starlette.datastructures import Headers

from app.api.problem import BAD_KEY, Problem

NAMES = ("idempotency-key", "idempotency_key")
KEY_MAX_CHARACTERS = 255
QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')  # sf-string, RFC 9651 section 3.3.3
BARE = re.compile(r"[\x21\x23-\x7e][\x20-\x7e]*")


def idempotency_key(headers: Headers) -> str | None:
    """The key, without quotes; None: the request has none. Raises Problem 400."""
    return read_key(value for name in NAMES for value in headers.getlist(name))


def read_key(values: Iterable[str]) -> str | None:
    """The one key that all `values` name, quoted or bare; None where there is no value. Raises Problem 400."""
    keys = {_key(value.strip(" \t")) for value in values}
    if len(keys) > 1:
        raise Problem(BAD_KEY, "The headers Idempotency-Key and idempotency_key name different keys: send one.")
    return keys.pop() if keys else None


def _key(value: str) -> str:
    quoted = QUOTED.fullmatch(value)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else value if BARE.fullmatch(value) else ""
    if not 1 <= len(key) <= KEY_MAX_CHARACTERS:
        raise Problem(
            BAD_KEY, f"Idempotency-Key must have 1 to {KEY_MAX_CHARACTERS} printable ASCII characters, in double quotes or bare."
        )
    return key
