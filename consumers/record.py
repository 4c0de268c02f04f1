"""Fourth step: an attempt has ended; its end is recorded, and then its entry is settled.

What ends while a batch is being written shares the next, whatever its channel.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from app.batches import Batches
from app.domain import Channel, Outcome, Status
from app.logs import Line, info_lines
from app.resources import Resources
from app.store.hot import finish
from app.store.notifications import Claim, Ending, Finish
from app.store.release import release
from app.streams import Entry
from consumers.clock import clock_s
from consumers.database import Database
from consumers.retry import Result
from consumers.settle import Settle
from consumers.verdicts import after_finish, after_release

SENT_LINE = f"notification {Outcome.SENT}"
RELEASED = "released unsent: its turn came too late, or its channel was paused"


class Attempt(NamedTuple):
    """A claim in hand: `claimed_s` is the own clock before the claim was sent, so the lease ends no sooner than it says.

    `record` is told how it ended. `probes`: the channel's breaker was open even then.
    """

    channel: Channel
    entry: Entry
    claim: Claim
    claimed_s: float
    settle: Settle
    record: Callable[["Ended"], None]
    probes: bool = False


class Ended(NamedTuple):
    """An attempt and what it came to, after `took_s` at the provider; None: to be released, nothing was sent.

    `paused_s`: the channel was paused when it ended, and the next probe so far away. `judge` says where the notification goes.
    """

    attempt: Attempt
    provider: str
    result: Result | None
    took_s: float
    paused_s: float | None
    judge: Callable[["Ended"], Ending]


class Recorder:
    """Records ends in batches, those of all channels together."""

    def __init__(self, resources: Resources, database: Database) -> None:
        self._resources, self._database = resources, database
        self._ended: Batches[Ended] = Batches(self._record)

    def add(self, ended: Ended) -> None:
        self._ended.add(ended)

    def sign(self) -> int | None:
        """For the watch: changes with each batch of ends recorded; None where there is none."""
        return self._ended.sign()

    async def run(self) -> None:
        """Records ends for ever; the batch under way is safe to cancel once nothing is in hand."""
        await self._ended.run()

    async def _record(self, batch: list[Ended]) -> None:
        """What was sent by itself: where PostgreSQL went away after one kind, only the other is told again."""
        called = [(e, e.judge(e)) for e in batch if e.result is not None]
        for sent in (True, False):
            part = [(e, ending) for e, ending in called if (ending.outcome is Outcome.SENT) == sent]
            if part:
                await self._finish(part)
        unsent = [e.attempt for e in batch if e.result is None]
        if unsent:
            await self._release(unsent)

    async def _finish(self, batch: list[tuple[Ended, Ending]]) -> None:
        endings, asked_s = [ending for _, ending in batch], clock_s()
        finished = {f.id: f for f in await self._database.patiently(lambda: finish(self._resources, endings))}
        for ended, ending in batch:
            attempt, told = ended.attempt, finished.get(ending.id)
            if told is not None and told.recorded:
                self._resources.tally.ended(attempt.channel, told.status, age_s(attempt, asked_s))
            attempt.settle(attempt.entry, after_finish(told, ending.attempt, asked_s))
        info_lines(_line(ended, ending, finished.get(ending.id)) for ended, ending in batch)

    async def _release(self, batch: Sequence[Attempt]) -> None:
        pairs = [(a.claim.id, a.claim.attempt) for a in batch]
        released = await self._database.patiently(lambda: release(self._resources.pool, pairs))
        for attempt in batch:
            attempt.settle(attempt.entry, after_release(released.get(attempt.claim.id)))
        info_lines((RELEASED, {**ids_of(a.claim, a.channel), "attempt": a.claim.attempt}) for a in batch)


def ids_of(c: Claim, channel: Channel) -> dict[str, object]:
    """What every log line of a notification says first."""
    return {"notification_id": c.id, "event_id": c.event_id, "user_id": c.user_id, "channel": channel}


def age_s(attempt: Attempt, now_s: float) -> float | None:
    """From acceptance until `now_s` of the own clock; None where an operator's replay came between."""
    return None if attempt.claim.replays else attempt.claim.age_s + now_s - attempt.claimed_s


def sent_line(ended: Ended) -> Line:
    """What is logged of an attempt that was sent and recorded."""
    return SENT_LINE, _fields(ended, Status.SENT)


def _fields(ended: Ended, status: Status) -> dict[str, object]:
    """Those of ids_of, in one step: this is done for each attempt."""
    c = ended.attempt.claim
    return {
        "notification_id": c.id,
        "event_id": c.event_id,
        "user_id": c.user_id,
        "channel": ended.attempt.channel,
        "attempt": c.attempt,
        "status": status,
        "took_ms": round(ended.took_s * 1000),
    }


def _line(ended: Ended, ending: Ending, told: Finish | None) -> Line:
    fields = _fields(ended, ending.status)
    if ending.outcome is not Outcome.SENT:
        fields.update(_troubles(ending))
    if told is None or not told.recorded:
        fields["recorded"] = False
    return f"notification {ending.outcome}", fields


def _troubles(ending: Ending) -> dict[str, object]:
    """What a log line adds for an attempt that was not sent."""
    wait_s = None if ending.wait_s is None else round(ending.wait_s, 1)
    return {"reason": ending.reason, "error": ending.error, "next_try_in_s": wait_s}
