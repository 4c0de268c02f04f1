"""The words of the domain: events, channels, statuses and their allowed moves. Pure: no I/O, no clock, no chance."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple


class Channel(StrEnum):
    """A way to reach a person. Each has its own stream, schedule and provider."""

    EMAIL = "EMAIL"
    SMS = "SMS"
    PUSH = "PUSH"


PLACES = 8  # so many ids an event's notifications may take: the step of their sequence in schema.sql


class EventStatus(StrEnum):
    NEW = "NEW"
    ROUTED = "ROUTED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class Status(StrEnum):
    """The status of a notification."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    SENT = "SENT"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        return self not in (Status.PENDING, Status.PROCESSING)


class Outcome(StrEnum):
    """What one call to a provider came to."""

    SENT = "sent"
    REJECTED = "rejected"  # an explicit permanent refusal
    UNAVAILABLE = "unavailable"  # an explicit temporary refusal, or a failure before the first byte left
    UNKNOWN = "unknown"  # time limit, or connection lost once the request may have left


class Reason(StrEnum):
    """Why a row ended as FAILED, UNKNOWN or CANCELLED, for machines; `error` has the sentence."""

    REJECTED = "rejected"
    OUT_OF_TRIES = "out_of_tries"
    EXPIRED = "expired"
    DEAD_LETTER = "dead_letter"
    DISCARDED = "discarded"  # a dead letter that an operator gave up
    RATE_LIMITED = "rate_limited"
    CRASHED = "crashed"
    NO_ANSWER = "no_answer"
    CANCELLED = "cancelled"


class CrashPolicy(StrEnum):
    """May a notification be sent again when nobody knows whether it was sent?"""

    AT_LEAST_ONCE = "at_least_once"
    AT_MOST_ONCE = "at_most_once"


class DecisionReason(StrEnum):
    """Why a channel was used for an event or not."""

    DEFAULT = "default"  # no preference stored: everything is on
    OPTED_IN = "opted_in"
    OPTED_OUT = "opted_out"
    NOT_REQUESTED = "not_requested"  # the event named other channels
    RATE_LIMITED = "rate_limited"
    REQUESTED = "requested"  # a direct notification: the caller chose the channel, nothing else was asked


# From one status to the next. A row begins as PENDING or FAILED (rate limit), or, written after its call began, as SENT or
# PROCESSING. `store` holds the same moves in the WHERE of each update; a test compares the two.
MOVES: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.PROCESSING, Status.FAILED, Status.CANCELLED}),
    Status.PROCESSING: frozenset({Status.PROCESSING, Status.SENT, Status.FAILED, Status.UNKNOWN, Status.PENDING}),
    Status.UNKNOWN: frozenset({Status.SENT, Status.FAILED, Status.PENDING}),
    Status.FAILED: frozenset({Status.PENDING, Status.SENT}),
    Status.SENT: frozenset(),
    Status.CANCELLED: frozenset(),
}
EVENT_MOVES: dict[EventStatus, frozenset[EventStatus]] = {
    EventStatus.NEW: frozenset({EventStatus.ROUTED, EventStatus.FAILED, EventStatus.CANCELLED}),
    EventStatus.FAILED: frozenset({EventStatus.NEW}),
    EventStatus.ROUTED: frozenset(),
    EventStatus.CANCELLED: frozenset(),
}


class Event(NamedTuple):
    """Something that happened to a user, validated. Instants are in UTC; `payload` is what was posted, as Python values."""

    event_id: str
    type: str
    user_id: str
    payload: dict[str, Any]
    occurred_at: datetime
    source: str = ""
    channels: tuple[Channel, ...] | None = None
    send_at: datetime | None = None
    expires_at: datetime | None = None


class Outgoing(NamedTuple):
    """A row to publish. `published_at` is what the row got in the transaction that committed before.

    `case` of an event, as app/store/hot_route.py counts them, where that was looked at in the same transaction.
    """

    row_id: int
    event_id: str
    user_id: str
    event_type: str
    published_at: datetime
    case: int | None = None


@dataclass(frozen=True, slots=True)
class Preference:
    """What a user wants on which channel. No row in the table means everything is on."""

    email: bool = True
    sms: bool = True
    push: bool = True

    def wants(self, channel: Channel) -> bool:
        return {Channel.EMAIL: self.email, Channel.SMS: self.sms, Channel.PUSH: self.push}[channel]


class Decision(NamedTuple):
    """Why one channel was, or was not, used for one event."""

    use: bool
    reason: DecisionReason


@lru_cache(maxsize=1024)
def decide_channels(asked: tuple[Channel, ...] | None, preference: Preference | None) -> Mapping[Channel, Decision]:
    """One decision per channel, from what the event asks for and what the user wants (None: no preference stored)."""
    return {channel: _decide(channel, asked, preference) for channel in Channel}


def _decide(channel: Channel, asked: tuple[Channel, ...] | None, preference: Preference | None) -> Decision:
    if asked is not None and channel not in asked:
        return Decision(False, DecisionReason.NOT_REQUESTED)
    if preference is None:
        return Decision(True, DecisionReason.DEFAULT)
    if preference.wants(channel):
        return Decision(True, DecisionReason.OPTED_IN)
    return Decision(False, DecisionReason.OPTED_OUT)
