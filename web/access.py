"""Who asks, and what they may do: known to every handler and template while a request is handled.

`access()` answers in a handler; a template writes `access().may_act` before a button that changes something, and the macro
`proof()` into its form. The gate (web/gate.py) sets it, after it has found out who asks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    VIEWER = "viewer"  # sees everything
    OPERATOR = "operator"  # and changes what can be changed


@dataclass(frozen=True, slots=True)
class Access:
    """One person, for one request. `token` is what their forms send back; `can_leave`: they signed in here, by a password."""

    name: str
    role: Role
    token: str = ""
    read_only: bool = False
    can_leave: bool = False

    @property
    def may_act(self) -> bool:
        """Are the buttons that change something shown, and do they work?"""
        return self.role is Role.OPERATOR and not self.read_only


NOBODY = Access("", Role.VIEWER)
_ACCESS: ContextVar[Access] = ContextVar("access", default=NOBODY)


def access() -> Access:
    """Of the request that is being handled."""
    return _ACCESS.get()


@contextmanager
def accessed_by(who: Access) -> Iterator[None]:
    """While inside, `who` is the one who asks."""
    before = _ACCESS.set(who)
    try:
        yield
    finally:
        _ACCESS.reset(before)
