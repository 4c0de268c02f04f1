"""What an operator may do to notifications: one, a selection, or all that match a filter. Pure.

Whatever is done is first narrowed to the statuses from which it is allowed; the statement that does it guards them once more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from app.domain import Reason, Status
from web.filters import ChosenStatus, Filter, Several


class Operation(StrEnum):
    REPLAY = "replay"
    CANCEL = "cancel"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True)
class Rule:
    """How an operation is called, and from which statuses it is allowed; `reason` narrows further."""

    verb: str
    done: str  # "3 notifications are ..."
    statuses: Mapping[ChosenStatus | None, ChosenStatus]  # what is filtered by -> what is taken of it
    reason: Reason | None = None
    left_out: Reason | None = None  # taken only one by one, or where it is asked for by name

    def narrow(self, wanted: Filter) -> Filter | None:
        """What the operation may take of what is wanted; None: nothing."""
        status = self.statuses.get(wanted.status)
        if status is None or (self.reason and wanted.reason not in (None, self.reason)):
            return None
        left_out = None if wanted.ids or wanted.reason else self.left_out
        return replace(wanted.without_place, status=status, reason=self.reason or wanted.reason, left_out=left_out)


RULES: dict[Operation, Rule] = {
    Operation.REPLAY: Rule(
        "Replay",
        "on the way again",
        {
            None: Several.BAD,
            Several.BAD: Several.BAD,
            Status.FAILED: Status.FAILED,
            Status.UNKNOWN: Status.UNKNOWN,
        },
        left_out=Reason.DISCARDED,
    ),
    Operation.CANCEL: Rule("Cancel", "cancelled", dict.fromkeys((None, Several.OPEN, Status.PENDING), Status.PENDING)),
    Operation.DISCARD: Rule(
        "Discard", "discarded", dict.fromkeys((None, Several.BAD, Status.FAILED), Status.FAILED), Reason.DEAD_LETTER
    ),
}


def possible(status: str) -> Operation | None:
    """What may be done to one notification of this status, in a list."""
    if status in (Status.FAILED, Status.UNKNOWN):
        return Operation.REPLAY
    return Operation.CANCEL if status == Status.PENDING else None


@dataclass(frozen=True, slots=True)
class Order:
    """What a button asks for: an operation, and on what."""

    operation: Operation
    wanted: Filter


def read_order(do: str, wanted: Filter) -> Order | None:
    """From a button's value: "replay-selected" takes the ids alone, "cancel-all" the filter. None: there is no such order."""
    name, _, of = do.partition("-")
    if name not in set(Operation) or of not in ("selected", "all"):
        return None
    if of == "selected" and not wanted.ids:
        return None
    chosen = Filter(ids=wanted.ids) if of == "selected" else replace(wanted, ids=())
    narrowed = RULES[Operation(name)].narrow(chosen)
    return None if narrowed is None else Order(Operation(name), narrowed)
