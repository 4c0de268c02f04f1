"""One call to a provider: what it is given, and what its answer, silence or failure means."""

import asyncio
from math import isfinite

from app.domain import Channel, Outcome
from app.store.notifications import Claim
from consumers.providers import BadCredentials, Message, Provider, Rejected, Unavailable
from consumers.retry import Result
from consumers.time_limit import TimeLimit


def message_of(c: Claim, channel: Channel) -> Message:
    """What the provider gets; the idempotency key is the same for all attempts until the notification is replayed."""
    key = f"{c.id}-{c.replays}"
    return Message(key, channel, c.user_id, c.address, c.event_id, c.event_type, c.payload_json, c.attempt)


async def call_provider(provider: Provider, message: Message, limit: TimeLimit) -> Result:
    """One call, never longer than `limit`. Only an explicit refusal is a refusal: all else that goes wrong is unknown."""
    task = limit.begin()
    try:
        receipt = await provider.send(message)
        return Result(Outcome.SENT, receipt=None if receipt.id is None else str(receipt.id))
    except Rejected as error:
        return Result(Outcome.REJECTED, str(error))
    except Unavailable as error:
        locked_out = isinstance(error, BadCredentials)
        return Result(Outcome.UNAVAILABLE, str(error), retry_after_s=_seconds(error.retry_after_s), bad_credentials=locked_out)
    except asyncio.CancelledError as error:
        passed = limit.passed(task)
        if task.cancelling() > passed:  # somebody else cancels this call
            raise
        # neither: something that the provider waited for was cancelled
        return Result(Outcome.UNKNOWN, f"no answer from the provider within {limit.limit_s:g} s" if passed else _words(error))
    except Exception as error:
        return Result(Outcome.UNKNOWN, _words(error))
    finally:
        limit.end(task)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _seconds(told: object) -> float | None:
    """A provider's Retry-After as a number; None where it is none (a date, NaN, nonsense)."""
    try:
        seconds = float(told)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return seconds if isfinite(seconds) else None
