"""Third step: claim notifications of one channel, call the provider, record how it ended; consumers/retry.py says where they go.

The claim is committed before the provider is called, and the outcome before the entry is acknowledged. Ends are recorded in
batches: those that come in while a batch is being written share the next.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import structlog

from app.batches import Batches
from app.domain import Channel, CrashPolicy, Outcome, Status
from app.logs import Line, info_lines
from app.resources import Resources
from app.store.hot import claim, finish
from app.store.notifications import GO, Claim, ClaimVerdict, Ending, Finish, release
from app.store.owed import DeadVerdict, end_dead_notifications
from app.streams import Entry
from consumers.call import call_provider, message_of
from consumers.circuit import Circuit
from consumers.database import Database
from consumers.providers import Provider
from consumers.retry import Result, next_move
from consumers.settle import Bury, CallOver, Settle
from consumers.verdicts import DEAD_LETTER, after_claim, after_dead, after_finish, after_release

log = structlog.get_logger()

# Goes on while the machine is suspended, as a lease in PostgreSQL does.
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

ENDED_BY_CLAIM = {
    ClaimVerdict.EXPIRED: Status.FAILED,
    ClaimVerdict.CRASHED: Status.FAILED,
    ClaimVerdict.UNKNOWN: Status.UNKNOWN,
}


CALL_OVER = CallOver()


class Attempt(NamedTuple):
    """A claim in hand: `claimed_s` is the own clock before the claim was sent, so the lease ends no sooner than it says."""

    entry: Entry
    claim: Claim
    claimed_s: float
    settle: Settle


class Ended(NamedTuple):
    """An attempt and what it came to, after `took_s` at the provider; None: released, nothing was sent.

    `paused_s`: the channel was paused when it ended, and the next probe so far away.
    """

    attempt: Attempt
    result: Result | None
    took_s: float
    paused_s: float | None = None


class Deliver:
    """The handler of one channel's stream."""

    def __init__(
        self,
        resources: Resources,
        database: Database,
        channel: Channel,
        provider: Provider,
        consumer: str,
        circuit: Circuit,
    ) -> None:
        self._resources, self._pool, self._settings = resources, resources.pool, resources.settings
        self._policy = self._settings.channel_policy(channel)
        self._limit_s, self._lease_s = self._settings.provider_limit_s, self._settings.lease_s
        self._tally = resources.tally
        self._database, self._channel, self._provider, self._consumer = database, channel, provider, consumer
        self._circuit = circuit
        self._chance = random.Random(f"{self._settings.simulated_seed}:{channel}")
        self._ended: Batches[Ended] = Batches(self._record)
        self._sends: set[asyncio.Task[None]] = set()

    def sign(self) -> int | None:
        """For the watch: changes with each batch of ends recorded; None where there is none."""
        return self._ended.sign()

    async def run(self) -> None:
        """Records ends for ever; the batch under way is safe to cancel once nothing is in hand."""
        await self._ended.run()

    async def __call__(self, entries: Sequence[Entry], settle: Settle) -> None:
        """Claims the batch and starts its sends; returns before they end."""
        by_row = {entry.row_id: entry for entry in entries if entry.row_id is not None}
        attempts = await self._claim(by_row, settle)
        for attempt in attempts:
            verdict = attempt.claim.verdict
            if verdict not in GO:
                self._tally.ended(self._channel, ENDED_BY_CLAIM.get(verdict))
                settle(attempt.entry, after_claim(attempt.claim, self._settings.reclaim_after_s))
                if verdict not in (ClaimVerdict.FINAL, ClaimVerdict.LATER, ClaimVerdict.PARKED):
                    log.info("notification not claimed", **self._ids(attempt.claim), verdict=verdict)
        for row_id in by_row.keys() - {a.claim.id for a in attempts}:
            settle(by_row[row_id], Bury(f"there is no notification {row_id}"))
        for attempt in attempts:  # last, and nothing here raises: who fails after a send began would drop entries in mid-send
            if attempt.claim.verdict in GO:
                self._start(attempt)

    async def dead(self, entries: Sequence[Entry], settle: Settle) -> None:
        for entry in entries:
            row_id, error = entry.row_id or 0, DEAD_LETTER.format(entry.deliveries - 1)
            verdict = (await self._database.patiently(partial(self._end_dead, row_id, error))).get(row_id)
            log.error("dead letter", notification_id=row_id, channel=self._channel, deliveries=entry.deliveries, verdict=verdict)
            settle(entry, after_dead(verdict, f"there is no notification {row_id}"))
            self._tally.ended(self._channel, Status.FAILED if verdict is DeadVerdict.ENDED else None)

    async def _end_dead(self, row_id: int, error: str) -> dict[int, DeadVerdict]:
        calm_s = self._settings.calm_s
        return await end_dead_notifications(self._pool, [row_id], error, calm_s, self._database.calm_left_s(calm_s))

    async def _claim(self, by_row: dict[int, Entry], settle: Settle) -> list[Attempt]:
        """A claim whose answer was lost is asked again, and RESUMED: its lease counts from the first time."""
        asked: list[float] = []

        async def ask() -> list[Claim]:
            asked.append(time.clock_gettime(CLOCK))
            return await claim(
                self._resources,
                list(by_row),
                self._consumer,
                lease_s=self._lease_s,
                at_most_once=self._policy.crash_policy is CrashPolicy.AT_MOST_ONCE,
                max_tries=self._policy.max_tries,
                calm_s=self._settings.calm_s,
                calm_left_s=self._database.calm_left_s(self._settings.calm_s),
            )

        claims = await self._database.patiently(ask)
        return [
            Attempt(by_row[c.id], c, asked[0] if c.verdict is ClaimVerdict.RESUMED else asked[-1], settle) for c in claims
        ]  # fmt: skip

    def _start(self, attempt: Attempt) -> None:
        task = asyncio.create_task(self._send(attempt))
        self._sends.add(task)
        task.add_done_callback(self._sends.discard)

    async def _send(self, attempt: Attempt) -> None:
        limit_s, began_s = self._limit_s, time.clock_gettime(CLOCK)
        fresh = began_s - attempt.claimed_s + limit_s <= self._lease_s
        result = await call_provider(self._provider, message_of(attempt.claim, self._channel), limit_s) if fresh else None
        took_s = time.clock_gettime(CLOCK) - began_s
        paused_s = None if result is None else self._circuit.heard(result, attempt.claim.attempt, attempt.claim.tries)
        self._ended.add(Ended(attempt, result, took_s, paused_s))
        attempt.settle(attempt.entry, CALL_OVER)

    async def _record(self, batch: list[Ended]) -> None:
        """What was sent by itself: who must be told again since PostgreSQL was away for one kind has not told the other twice."""
        sent = [e for e in batch if e.result is not None and e.result.outcome is Outcome.SENT]
        not_sent = [e for e in batch if e.result is not None and e.result.outcome is not Outcome.SENT]
        for called in (sent, not_sent):
            if called:
                await self._finish(called)
        unsent = [ended.attempt for ended in batch if ended.result is None]
        if unsent:
            await self._release(unsent)

    async def _finish(self, batch: list[Ended]) -> None:
        endings, now_s = [self._ending(ended) for ended in batch], time.clock_gettime(CLOCK)
        finished = {f.id: f for f in await self._database.patiently(lambda: finish(self._resources, endings))}
        for ended, ending in zip(batch, endings, strict=True):
            attempt, told = ended.attempt, finished.get(ending.id)
            if told is not None and told.recorded:
                self._tally.ended(self._channel, told.status, age_s(attempt, now_s))
            attempt.settle(attempt.entry, after_finish(told, ending.attempt))
        info_lines(self._line(ended, e, finished.get(e.id)) for ended, e in zip(batch, endings, strict=True))

    async def _release(self, batch: list[Attempt]) -> None:
        pairs = [(a.claim.id, a.claim.attempt) for a in batch]
        released = await self._database.patiently(lambda: release(self._pool, pairs))
        for attempt in batch:
            log.warning(
                "released unsent: the lease was no longer fresh", **self._ids(attempt.claim), attempt=attempt.claim.attempt
            )
            attempt.settle(attempt.entry, after_release(released.get(attempt.claim.id)))

    def _ending(self, ended: Ended) -> Ending:
        claimed, result = ended.attempt.claim, ended.result
        assert result is not None
        jitter = 1 + self._settings.retry_jitter * self._chance.uniform(-1, 1)
        move = next_move(result, claimed.tries, self._policy, jitter, self._settings.reclaim_after_s, ended.paused_s)
        return Ending(
            claimed.id,
            claimed.attempt,
            result.outcome,
            self._provider.name,
            result.error,
            result.receipt,
            move.status,
            move.reason,
            move.wait_s,
            move.park,
            move.refund,
        )

    def _line(self, ended: Ended, ending: Ending, told: Finish | None) -> Line:
        fields = self._ids(ended.attempt.claim)
        fields["attempt"], fields["status"], fields["took_ms"] = ending.attempt, ending.status, round(ended.took_s * 1000)
        if ending.outcome is not Outcome.SENT:
            fields.update(_troubles(ending))
        if told is None or not told.recorded:
            fields["recorded"] = False
        return f"notification {ending.outcome}", fields

    def _ids(self, c: Claim) -> dict[str, object]:
        return {"notification_id": c.id, "event_id": c.event_id, "user_id": c.user_id, "channel": self._channel.value}


def age_s(attempt: Attempt, now_s: float) -> float | None:
    """From acceptance until `now_s` of CLOCK; None where an operator's replay came between."""
    return None if attempt.claim.replays else attempt.claim.age_s + now_s - attempt.claimed_s


def _troubles(ending: Ending) -> dict[str, object]:
    """What a log line adds for an attempt that was not sent."""
    wait_s = None if ending.wait_s is None else round(ending.wait_s, 1)
    return {"reason": ending.reason, "error": ending.error, "next_try_in_s": wait_s}
