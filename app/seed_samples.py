"""What `tidings seed` tells: three users, and events of the last hours, one for each way that a notification can end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.domain import Channel, EventStatus, Outcome, Preference, Reason, Status

BUSY = "simulated failure: the provider is busy"
GONE = "the consumer was gone before it recorded an outcome"
LIMITED = "rate limit: more than 5 events for this user in the time allowed"
SILENT = "delivered 8 times, and each time the consumer was gone before it was handled"


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt: seconds after routing, how long it took, and what it came to. `heard`: the provider's answer was recorded."""

    after_s: float
    took_s: float
    outcome: Outcome = Outcome.SENT
    error: str | None = None
    possible_duplicate: bool = False
    heard: bool = True


@dataclass(frozen=True, slots=True)
class Note:
    """One notification. `error` None: the last try's. `waits_s` counts for PENDING, `ended_after_s` where nothing was tried."""

    channel: Channel
    tries: tuple[Try, ...] = ()
    status: Status = Status.SENT
    reason: Reason | None = None
    error: str | None = None
    waits_s: float = 0
    ended_after_s: float = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One event, accepted so many minutes ago, and all that followed."""

    event_id: str
    type: str
    user_id: str
    minutes_ago: float
    notes: tuple[Note, ...] = ()
    payload: Mapping[str, Any] = field(default_factory=dict)
    channels: tuple[Channel, ...] | None = None
    status: EventStatus = EventStatus.ROUTED
    reason: Reason | None = None
    error: str | None = None
    routed_after_s: float = 0.004


def _sent(channel: Channel, took_s: float, after_s: float = 0.006) -> Note:
    return Note(channel, (Try(after_s, took_s),))


def _busy(after_s: float, took_s: float) -> Try:
    return Try(after_s, took_s, Outcome.UNAVAILABLE, BUSY)


EMAIL, SMS, PUSH = Channel.EMAIL, Channel.SMS, Channel.PUSH

PREFERENCES: dict[str, Preference] = {
    "user_123": Preference(),
    "user_456": Preference(sms=False),
    "user_789": Preference(sms=False, push=False),
}

SAMPLES: tuple[Sample, ...] = (
    Sample(
        "seed-order-1", "ORDER_PLACED", "user_123", 312,
        (_sent(EMAIL, 0.482), _sent(SMS, 0.291), _sent(PUSH, 0.187)),
        {"orderAmount": 250, "items": ["Laptop", "Mouse"]},
    ),
    Sample(
        "seed-report-1", "REPORT_READY", "user_123", 241,
        (
            Note(EMAIL, (), Status.FAILED, Reason.DEAD_LETTER, SILENT, ended_after_s=482),
            Note(
                PUSH, tuple(_busy(after, 0.2) for after in (0.006, 2.1, 12.6, 74, 371)), Status.FAILED, Reason.OUT_OF_TRIES,
            ),
        ),
        {"report": "2026-W12"}, (EMAIL, PUSH),
    ),
    Sample(
        "seed-import-1", "IMPORT_FINISHED", "user_456", 205, payload={"rows": 120_000},
        status=EventStatus.FAILED, reason=Reason.DEAD_LETTER, error=SILENT, routed_after_s=482,
    ),
    Sample(
        "seed-payment-1", "PAYMENT_RECEIVED", "user_123", 163,
        (Note(EMAIL, (_busy(0.006, 0.511), Try(5.6, 0.463))), _sent(SMS, 0.314), _sent(PUSH, 0.176)),
        {"amount": 250, "currency": "EUR"},
    ),
    Sample(
        "seed-order-2", "ORDER_PLACED", "user_456", 121,
        (
            Note(
                EMAIL, (Try(0.006, 0.389, Outcome.REJECTED, "550 5.1.1 no such mailbox"),), Status.FAILED, Reason.REJECTED,
            ),
            _sent(PUSH, 0.203),
        ),
        {"orderAmount": 42, "items": ["Cable"]},
    ),
    Sample(
        "seed-code-1", "LOGIN_CODE", "user_123", 96,
        (
            Note(
                SMS, (Try(0.006, 25.0, Outcome.UNKNOWN, "no answer within 25 s"),), Status.UNKNOWN, Reason.NO_ANSWER,
            ),
        ),
        {"digits": 6}, (SMS,),
    ),
    Sample("seed-shipped-1", "ORDER_SHIPPED", "user_789", 71, (_sent(EMAIL, 0.437),), {"parcel": "JD0146"}),
    Sample(
        "seed-shipped-2", "ORDER_SHIPPED", "user_456", 58,
        (
            Note(
                EMAIL,
                (Try(0.006, 61.194, Outcome.UNKNOWN, GONE, heard=False), Try(61.2, 0.505, possible_duplicate=True)),
            ),
            _sent(PUSH, 0.164),
        ),
        {"parcel": "JD0147"},
    ),
    Sample(
        "seed-reminder-1", "CART_REMINDER", "user_456", 44,
        tuple(Note(channel, (), Status.FAILED, Reason.RATE_LIMITED, LIMITED) for channel in (EMAIL, PUSH)),
        {"items": 3},
    ),
    Sample(
        "seed-offer-1", "FLASH_SALE", "user_789", 37, payload={"discount": 20},
        status=EventStatus.FAILED, reason=Reason.EXPIRED, error="not routed before it expired", routed_after_s=30,
    ),
    Sample(
        "seed-survey-1", "SURVEY", "user_123", 26,
        (Note(PUSH, (), Status.CANCELLED, Reason.CANCELLED, "stopped on request", ended_after_s=4.2),),
        {"questions": 4}, (PUSH,),
    ),
    Sample(
        "seed-invoice-1", "INVOICE_READY", "user_789", 8,
        (
            Note(
                EMAIL, (_busy(0.006, 0.498), _busy(5.3, 0.521), _busy(34.1, 0.447), _busy(151.7, 0.533)), Status.PENDING,
                waits_s=583,
            ),
        ),
        {"invoice": "2026-0042", "amount": 119.9},
    ),
)  # fmt: skip
