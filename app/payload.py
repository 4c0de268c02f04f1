"""What a payload may hold: everything JSON has, as far as PostgreSQL and any reader of the history can take it."""

from math import isfinite
from typing import Any, NamedTuple

DEPTH_MAX = 64  # the payload itself is the first level
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1

NUL = "text must not hold NUL (\\u0000)"
NUL_KEY = "a member's name must not hold NUL (\\u0000)"
NOT_FINITE = "a number must be finite, at most about 1.8e308"
TOO_BIG = "a whole number must fit in 64 bits: send it as text"
TOO_DEEP = f"objects and arrays must not be nested deeper than {DEPTH_MAX} levels"


class Fault(NamedTuple):
    """Where a payload breaks a rule, and which."""

    path: tuple[str | int, ...]
    rule: str


def first_fault(payload: dict[str, Any]) -> Fault | None:
    """The first spot that breaks a rule, in document order; None: all is well."""
    return _fault_in(payload, DEPTH_MAX)


def _fault_in(container: Any, levels_left: int) -> Fault | None:
    """The rules are tested in line: a call per value would double the time of this, the longest step of validation."""
    if not levels_left:
        return Fault((), TOO_DEEP)
    for key, value in container.items() if type(container) is dict else enumerate(container):
        kind = type(value)
        if type(key) is str and "\0" in key:
            return Fault((key,), NUL_KEY)
        if kind is str:
            if "\0" in value:
                return Fault((key,), NUL)
        elif kind is dict or kind is list:
            below = _fault_in(value, levels_left - 1)
            if below:
                return Fault((key, *below.path), below.rule)
        elif kind is int:
            if not INTEGER_MIN <= value <= INTEGER_MAX:
                return Fault((key,), TOO_BIG)
        elif kind is float and not isfinite(value):
            return Fault((key,), NOT_FINITE)
    return None
