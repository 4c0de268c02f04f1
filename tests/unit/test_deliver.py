"""What a provider's answer means, and what becomes of the entry: after a claim, a finish, a dead letter."""

import asyncio
import time
from typing import Any, cast

import pytest

from app.domain import Channel, Outcome, Status
from app.store.notifications import Claim, ClaimVerdict, Finish
from app.store.owed import DeadVerdict
from consumers.call import call_provider, message_of
from consumers.providers import Message, Provider, Receipt, Rejected, Unavailable
from consumers.retry import Result
from consumers.settle import Acknowledge, Back, Bury, Leave, Published, Verdict
from consumers.time_limit import TimeLimit
from consumers.verdicts import after_claim, after_dead, after_finish
from tests.support import HANG, NOON, Scripted

MESSAGE = Message("7-0", Channel.SMS, "ann", None, "e-1", "ORDER_PLACED", "{}", 1)
R = 60.0  # the reclaim window
LIMIT_S = 5.0


async def call(answer: Any, limit_s: float = LIMIT_S) -> Result:
    return await call_provider(Scripted(answer), MESSAGE, TimeLimit(limit_s))


# ---- call_provider: only an explicit refusal is a refusal


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (Receipt("r-1"), Result(Outcome.SENT, receipt="r-1")),
        (Receipt(), Result(Outcome.SENT)),
        (Rejected("no such number"), Result(Outcome.REJECTED, "no such number")),
        (Unavailable("busy"), Result(Outcome.UNAVAILABLE, "busy")),
        (Unavailable("busy", retry_after_s=30), Result(Outcome.UNAVAILABLE, "busy", retry_after_s=30)),
        (Unavailable("busy", cast(float, "120")), Result(Outcome.UNAVAILABLE, "busy", retry_after_s=120)),
        (Unavailable("busy", cast(float, "Wed, 21 Oct 2026")), Result(Outcome.UNAVAILABLE, "busy")),
        (Unavailable("busy", float("nan")), Result(Outcome.UNAVAILABLE, "busy")),
        (Receipt(cast(str, 7)), Result(Outcome.SENT, receipt="7")),
        (ConnectionResetError("gone"), Result(Outcome.UNKNOWN, "ConnectionResetError: gone")),
        (KeyError("id"), Result(Outcome.UNKNOWN, "KeyError: 'id'")),
        (ExceptionGroup("both", [ValueError("a")]), Result(Outcome.UNKNOWN, "ExceptionGroup: both (1 sub-exception)")),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_an_answer_is_an_outcome(answer: Any, result: Result) -> None:
    assert await call(answer) == result


async def test_a_call_ends_at_its_time_limit_and_nobody_knows() -> None:
    began = time.monotonic()
    assert await call(HANG, limit_s=0.05) == Result(Outcome.UNKNOWN, "no answer from the provider within 0.05 s")
    assert 0.045 <= time.monotonic() - began < LIMIT_S  # the event loop counts whole milliseconds


async def test_a_time_limit_of_the_providers_own_is_unknown_too() -> None:
    assert (await call(TimeoutError("read"))).outcome is Outcome.UNKNOWN


async def test_an_answer_that_is_no_receipt_is_unknown() -> None:
    assert (await call_provider(cast(Provider, Forgetful()), MESSAGE, TimeLimit(LIMIT_S))).outcome is Outcome.UNKNOWN


class Forgetful:
    """Sends, and forgets to return the receipt."""

    name = "forgetful"

    async def send(self, _message: Message) -> None: ...


async def test_a_provider_that_waited_for_something_cancelled_is_unknown() -> None:
    """Awaiting what somebody else cancelled raises CancelledError, although nobody cancelled this call."""
    assert (await call(asyncio.CancelledError())).outcome is Outcome.UNKNOWN


async def test_a_call_that_is_cancelled_is_cancelled() -> None:
    calling = asyncio.create_task(call(HANG))
    await asyncio.sleep(0)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling


async def test_each_try_of_one_notification_has_the_same_key_until_it_is_replayed() -> None:
    keys = [message_of(claimed(attempt=attempt, replays=replays), Channel.SMS) for attempt, replays in [(1, 0), (2, 0), (3, 1)]]
    assert [(m.idempotency_key, m.attempt) for m in keys] == [("7-0", 1), ("7-0", 2), ("7-1", 3)]


def test_the_message_is_what_the_claim_brought() -> None:
    assert message_of(claimed(), Channel.SMS) == Message(
        "7-0", Channel.SMS, "ann", "+49 171 1", "e-1", "ORDER_PLACED", '{"orderAmount":250}', 1
    )


# ---- the entry


def claimed(verdict: ClaimVerdict = ClaimVerdict.CLAIMED, back_in_s: float = 0.0, attempt: int = 1, replays: int = 0) -> Claim:
    return Claim(
        7, verdict, back_in_s, attempt, attempt, replays, False, "+49 171 1", "e-1", "ORDER_PLACED", "ann", '{"orderAmount":250}'
    )


@pytest.mark.parametrize(
    ("verdict", "back_in_s", "then"),
    [
        (ClaimVerdict.FINAL, 0, Acknowledge()),
        (ClaimVerdict.PARKED, 90, Acknowledge()),  # the relay publishes it when due
        (ClaimVerdict.EXPIRED, 0, Acknowledge()),
        (ClaimVerdict.UNKNOWN, 0, Acknowledge()),
        (ClaimVerdict.CRASHED, 0, Acknowledge()),
        (ClaimVerdict.LATER, 9, Back(9)),
        (ClaimVerdict.BUSY, 20, Back(20, handled=False)),
        (ClaimVerdict.BUSY, -0.1, Back(0, handled=False)),
        (ClaimVerdict.LATER, 61, Back(R)),  # no idle time lies in the future: it is asked again
    ],
)
def test_the_entry_of_what_was_not_claimed(verdict: ClaimVerdict, back_in_s: float, then: Verdict) -> None:
    assert after_claim(claimed(verdict, back_in_s), R) == then


MINE, THEIRS, AT = 3, 4, NOON


@pytest.mark.parametrize(
    ("finished", "then"),
    [
        (Finish(7, True, Status.SENT, MINE, AT, 0), Acknowledge()),
        (Finish(7, True, Status.FAILED, MINE, AT, 0), Acknowledge()),
        (Finish(7, True, Status.UNKNOWN, MINE, AT, 0), Acknowledge()),
        (Finish(7, True, Status.PENDING, MINE, AT, 9), Back(9, published=Published(AT, 5.0))),
        (Finish(7, True, Status.PENDING, MINE, None, 90), Acknowledge()),
        # not recorded: what the row says now
        (Finish(7, False, Status.SENT, THEIRS, AT, 0), Acknowledge()),
        (Finish(7, False, Status.CANCELLED, MINE, AT, 0), Acknowledge()),
        (
            Finish(7, False, Status.PENDING, MINE, AT, 8.5),
            Back(8.5, published=Published(AT, 5.0)),
        ),  # a repetition: the first answer was lost
        (Finish(7, False, Status.PENDING, MINE, AT, -1), Back(0, published=Published(AT, 5.0))),
        (Finish(7, False, Status.PENDING, MINE, None, 80), Acknowledge()),
        (Finish(7, False, Status.PROCESSING, THEIRS, AT, 0), Leave()),
        (Finish(7, False, Status.PENDING, THEIRS, AT, 9), Leave()),
        (Finish(7, False, Status.PENDING, THEIRS, None, 90), Acknowledge()),
        (None, Leave()),  # PostgreSQL refused the record: the crash rule will judge it
    ],
)
def test_the_entry_of_an_attempt_that_ended(finished: Finish | None, then: Verdict) -> None:
    assert after_finish(finished, MINE, 5.0) == then


@pytest.mark.parametrize(
    ("verdict", "then"),
    [
        (DeadVerdict.ENDED, Acknowledge()),
        (DeadVerdict.FINAL, Acknowledge()),
        (DeadVerdict.BUSY, Leave()),
        (None, Bury("no row explains it")),
    ],
)
def test_the_entry_of_a_dead_letter(verdict: DeadVerdict | None, then: Verdict) -> None:
    assert after_dead(verdict, "no row explains it") == then
