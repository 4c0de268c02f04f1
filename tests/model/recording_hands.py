"""Calls in the hands of test_machine.py, and their ends: told to their event while it is not written, otherwise recorded."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.domain import Outcome
from app.store import hot
from app.store.notifications import Claim, Ending, Finish
from app.store.release import release
from app.streams import Entry
from consumers.record import Attempt, Ended
from consumers.retry import Result, next_move
from consumers.settle import Verdict
from consumers.verdicts import after_finish, after_release
from tests.model.routing_hands import losing

if TYPE_CHECKING:
    from tests.model.hands import Hands

MAYBE_SENT = (Outcome.SENT, Outcome.UNKNOWN)


@dataclass(eq=False)
class Held:
    """A claim in hand; `outcome` once the provider was called, `told` once its event knows."""

    me: str
    attempt: Attempt
    claimed_at: float
    outcome: Outcome | None = None
    told: bool = False

    @property
    def entry(self) -> Entry:
        return self.attempt.entry

    @property
    def claim(self) -> Claim:
        return self.attempt.claim


async def call(hands: "Hands", held: Held, outcome: Outcome) -> None:
    """The provider is called, unless the lease could end in mid-send: then the claim is given back."""
    settings, c = hands.resources.settings, held.claim
    if hands.passed_s - held.claimed_at + settings.provider_limit_s > settings.lease_s:
        await give_back(hands, held)
        return
    if hands.sends[c.id]:
        assert c.possible_duplicate, f"notification {c.id}, attempt {c.attempt}: the record does not say it may be doubled"
    hands.calls[c.id] += 1
    hands.sends[c.id] += outcome in MAYBE_SENT
    hands.excuses[c.id] += outcome is Outcome.UNKNOWN
    held.outcome = outcome


async def give_back(hands: "Hands", held: Held, lost: str = "none") -> None:
    """Nothing was sent."""
    await _end(hands, held, None, lost)


async def finish(hands: "Hands", held: Held, lost: str = "none", reader: str = "") -> None:
    """It ended. Where there is a `reader`, who records stands still before it has its answer."""
    assert held.outcome is not None
    await _end(hands, held, Result(held.outcome), lost, reader)


async def write(hands: "Hands", who: str, most: int, lost: str = "none", reader: str = "") -> None:
    """Up to `most` events that it has claimed, with the ends that they know of; then the others are recorded."""
    batch = [(sending, event) for sending, event in hands.unwritten if sending.me == hands.name(who)][:most]
    if not batch:
        return
    hands.unwritten = [each for each in hands.unwritten if each not in batch]
    known = [end for _, event in batch for end in event.ends if end is not None]
    with losing(hands, lost, lambda: hands.lose_time(reader)):
        await batch[0][0]._write([event for _, event in batch])
    for end in known:
        if not any(end is left for left in hands.ends):
            _recorded(hands, _held(hands, end))
    await record(hands)
    await hands.settle_told()


async def record(hands: "Hands", lost: str = "none", reader: str = "") -> None:
    """What no event takes any more."""
    ends, hands.ends = hands.ends, []
    for end in ends:
        held = _held(hands, end)
        _recorded(hands, held)
        verdict = await (_release(hands, held, lost) if end.result is None else _finish(hands, held, end.result, lost, reader))
        with losing(hands, lost):
            held.attempt.settle(held.entry, verdict)
            await hands.settle_told()


async def _end(hands: "Hands", held: Held, result: Result | None, lost: str = "none", reader: str = "") -> None:
    held.told = True
    held.attempt.record(Ended(held.attempt, "hands", result, 0.0, None, lambda _end: _never()))
    await record(hands, lost, reader)


def _never() -> Ending:
    raise AssertionError("an end that is written with its event needs no judgement")


def _recorded(hands: "Hands", held: Held) -> None:
    hands.held.remove(held)
    if held.outcome is not None:
        hands.truths[held.claim.id, held.claim.attempt] = held.outcome


def _held(hands: "Hands", end: Ended) -> Held:
    return next(held for held in hands.held if held.attempt is end.attempt)


async def _release(hands: "Hands", held: Held, lost: str) -> Verdict:
    """Told twice where the first answer was lost."""
    for _ in range(1 + (lost == "commit")):
        parked = (await release(hands.resources.pool, [(held.claim.id, held.claim.attempt)])).get(held.claim.id)
    hands.released.add((held.claim.id, held.claim.attempt))
    return after_release(parked)


async def _finish(hands: "Hands", held: Held, result: Result, lost: str, reader: str) -> Verdict:
    """The outcome is recorded, twice where the first answer was lost."""
    settings, c = hands.resources.settings, held.claim
    move = next_move(result, c.tries, settings.channel_policy(held.attempt.channel), 1.0, settings.reclaim_after_s)
    ending = Ending(c.id, c.attempt, result.outcome, "hands", None, None, move.status, move.reason, move.wait_s, move.park)
    asked_s, finished = hands.passed_s, await _hot_finish(hands, ending)
    await hands.lose_time(reader)
    if lost == "commit":
        finished = await _hot_finish(hands, ending)
    return after_finish(finished, c.attempt, asked_s)


async def _hot_finish(hands: "Hands", ending: Ending) -> Finish:
    (finished,) = await hot.finish(hands.resources, [ending])
    return finished
