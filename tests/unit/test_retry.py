"""Where an attempt's end leads: a table of outcomes, policies, tries and what the provider asked for."""

import pytest

from app.domain import CrashPolicy, Outcome, Reason, Status
from app.settings import ChannelPolicy
from consumers.retry import Move, Result, next_move

R = 60.0  # the reclaim window
WAITS_S = (0.0, 5.0, 59.0, 60.0, 600.0)  # before the first try, the second, ...
LAST = len(WAITS_S)
AT_LEAST, AT_MOST = CrashPolicy.AT_LEAST_ONCE, CrashPolicy.AT_MOST_ONCE
SENT, REJECTED, UNAVAILABLE, UNKNOWN = Outcome

IS_SENT = Move(Status.SENT)
IS_REJECTED = Move(Status.FAILED, Reason.REJECTED)
NO_TRIES = Move(Status.FAILED, Reason.OUT_OF_TRIES)
NOBODY_KNOWS = Move(Status.UNKNOWN, Reason.NO_ANSWER)


def wait(seconds: float) -> Move:
    return Move(Status.PENDING, wait_s=seconds)


def park(seconds: float) -> Move:
    return Move(Status.PENDING, wait_s=seconds, park=True)


def policy(crash_policy: CrashPolicy) -> ChannelPolicy:
    return ChannelPolicy(WAITS_S, crash_policy, concurrency=1, simulated_latency_ms=0, simulated_failure_rate=0)


@pytest.mark.parametrize(
    ("outcome", "crash_policy", "tries", "move"),
    [
        # the end of it, whichever try it was
        (SENT, AT_LEAST, 1, IS_SENT),
        (SENT, AT_MOST, LAST, IS_SENT),
        (REJECTED, AT_LEAST, 1, IS_REJECTED),
        (REJECTED, AT_MOST, LAST, IS_REJECTED),
        # surely not sent: try again, whatever the crash policy
        (UNAVAILABLE, AT_LEAST, 1, wait(5)),
        (UNAVAILABLE, AT_MOST, 1, wait(5)),
        (UNAVAILABLE, AT_MOST, 2, wait(59)),
        (UNAVAILABLE, AT_MOST, 3, park(60)),
        (UNAVAILABLE, AT_MOST, 4, park(600)),
        (UNAVAILABLE, AT_LEAST, LAST, NO_TRIES),
        (UNAVAILABLE, AT_MOST, LAST, NO_TRIES),
        (UNAVAILABLE, AT_LEAST, LAST + 3, NO_TRIES),  # the schedule was made shorter meanwhile
        # nobody knows: the crash policy decides
        (UNKNOWN, AT_LEAST, 1, wait(5)),
        (UNKNOWN, AT_LEAST, 4, park(600)),
        (UNKNOWN, AT_LEAST, LAST, NO_TRIES),
        (UNKNOWN, AT_MOST, 1, NOBODY_KNOWS),
        (UNKNOWN, AT_MOST, LAST, NOBODY_KNOWS),
    ],
)
def test_an_outcome_a_policy_and_the_tries_give_the_move(
    outcome: Outcome, crash_policy: CrashPolicy, tries: int, move: Move
) -> None:
    assert next_move(Result(outcome), tries, policy(crash_policy), 1.0, R) == move


@pytest.mark.parametrize(
    ("tries", "jitter", "retry_after_s", "move"),
    [
        # jitter stretches the schedule
        (1, 0.8, None, wait(4)),
        (1, 1.2, None, wait(6)),
        # a wait of the window or more is parked, one that is just shorter is not
        (3, 0.999, None, wait(59.94)),
        (3, 1.0, None, park(60)),
        (2, 60 / 59, None, park(60)),
        # the provider may ask for more, and never for less
        (1, 1.0, 30, wait(30)),
        (1, 1.0, 1, wait(5)),
        (1, 1.0, 0, wait(5)),
        (1, 1.0, -30, wait(5)),
        (1, 1.0, 60, park(60)),
        (1, 1.2, 5.5, wait(6)),
        # but for no more than an hour
        (1, 1.0, 3600, park(3600)),
        (1, 1.0, 10**9, park(3600)),
        (1, 1.0, float("inf"), park(3600)),
        (1, 1.0, float("nan"), wait(5)),
    ],
)
def test_jitter_and_the_providers_wish_give_the_wait(tries: int, jitter: float, retry_after_s: float | None, move: Move) -> None:
    result = Result(UNAVAILABLE, retry_after_s=retry_after_s)
    got = next_move(result, tries, policy(AT_LEAST), jitter, R)
    assert (got.status, got.park) == (move.status, move.park)
    assert got.wait_s == pytest.approx(move.wait_s)


def test_a_schedule_of_one_try_allows_no_retry() -> None:
    once = ChannelPolicy((0.0,), AT_LEAST, concurrency=1, simulated_latency_ms=0, simulated_failure_rate=0)
    assert next_move(Result(UNAVAILABLE, retry_after_s=5), 1, once, 1.0, R) == NO_TRIES


PAUSED = Move(Status.PENDING, wait_s=2, refund=True)


@pytest.mark.parametrize(
    ("outcome", "crash_policy", "tries", "move"),
    [
        (UNAVAILABLE, AT_LEAST, 1, PAUSED),
        (UNAVAILABLE, AT_MOST, LAST, PAUSED),  # the last try is given back, too
        (UNKNOWN, AT_LEAST, 1, wait(5)),  # perhaps it was sent
        (UNKNOWN, AT_LEAST, LAST, NO_TRIES),
        (UNKNOWN, AT_MOST, 1, NOBODY_KNOWS),
        (SENT, AT_MOST, 1, IS_SENT),
        (REJECTED, AT_LEAST, 1, IS_REJECTED),
    ],
)
def test_while_the_channel_is_paused_a_refusal_costs_no_try(
    outcome: Outcome, crash_policy: CrashPolicy, tries: int, move: Move
) -> None:
    assert next_move(Result(outcome), tries, policy(crash_policy), 1.0, R, paused_s=2) == move
