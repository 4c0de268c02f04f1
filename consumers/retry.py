"""Fourth step: an attempt has ended; where does its notification go? Pure: chance comes in as `jitter`."""

from typing import NamedTuple

from app.domain import CrashPolicy, Outcome, Reason, Status
from app.settings import ChannelPolicy

RETRY_AFTER_MAX_S = 3600.0


class Result(NamedTuple):
    """What one call to a provider came to. `retry_after_s`: the provider asks for at least this wait."""

    outcome: Outcome
    error: str | None = None
    receipt: str | None = None
    retry_after_s: float | None = None
    bad_credentials: bool = False


class Move(NamedTuple):
    """The notification's next status; for PENDING the wait, and whether it is parked (the relay publishes it when due).

    `refund`: the try is given back.
    """

    status: Status
    reason: Reason | None = None
    wait_s: float | None = None
    park: bool = False
    refund: bool = False


SENT = Move(Status.SENT)


def next_move(
    result: Result, tries: int, policy: ChannelPolicy, jitter: float, reclaim_after_s: float, paused_s: float | None = None
) -> Move:
    """`tries` counts this one; `jitter` is a factor around 1. Waits of the reclaim window or more are parked.

    `paused_s`: the channel is paused, so a refusal is the provider's: it costs no try, and the next may come after so long. What
    may have been sent costs one even so, or a provider that takes a message and then breaks would take it again for ever.
    """
    if result.outcome is Outcome.SENT:
        return SENT
    if result.outcome is Outcome.REJECTED:
        return Move(Status.FAILED, Reason.REJECTED)
    if result.outcome is Outcome.UNKNOWN and policy.crash_policy is CrashPolicy.AT_MOST_ONCE:
        return Move(Status.UNKNOWN, Reason.NO_ANSWER)
    if paused_s is not None and result.outcome is Outcome.UNAVAILABLE:
        return Move(Status.PENDING, wait_s=paused_s, refund=True)
    if tries >= policy.max_tries:
        return Move(Status.FAILED, Reason.OUT_OF_TRIES)
    wait_s = _wait_s(policy.waits_s[tries] * jitter, result.retry_after_s)
    return Move(Status.PENDING, wait_s=wait_s, park=wait_s >= reclaim_after_s)


def _wait_s(scheduled_s: float, retry_after_s: float | None) -> float:
    return max(scheduled_s, min(retry_after_s or 0.0, RETRY_AFTER_MAX_S))
