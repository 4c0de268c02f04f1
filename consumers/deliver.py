"""Third step: claim notifications of one channel and call the provider; consumers/retry.py says where they go.

The claim is committed before the provider is called, and the outcome (consumers/record.py) before the entry is acknowledged.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from app.domain import Channel, CrashPolicy, Outcome, Status
from app.resources import Resources
from app.store.hot import claim
from app.store.notifications import GO, Claim, ClaimVerdict, Ending
from app.store.owed import DeadVerdict, end_dead_notifications
from app.streams import Entry
from consumers.call import call_provider, message_of
from consumers.calls import Calls
from consumers.circuit import ANSWERS, Circuit
from consumers.clock import clock_s
from consumers.database import Database
from consumers.providers import Provider
from consumers.record import Attempt, Ended, Recorder, ids_of
from consumers.retry import SENT, Move, Result, next_move
from consumers.settle import Back, Bury, CallOver, Settle
from consumers.time_limit import TimeLimit
from consumers.verdicts import DEAD_LETTER, after_claim, after_dead

log = structlog.get_logger()

ENDED_BY_CLAIM = {
    ClaimVerdict.EXPIRED: Status.FAILED,
    ClaimVerdict.CRASHED: Status.FAILED,
    ClaimVerdict.UNKNOWN: Status.UNKNOWN,
}


CALL_OVER = CallOver()


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
        claim_due: Callable[[Sequence[int]], Awaitable[list[Claim]]],
        recorder: Recorder,
    ) -> None:
        self._pool, self._settings = resources.pool, resources.settings
        self._policy = self._settings.channel_policy(channel)
        self._limit, self._lease_s = TimeLimit(self._settings.provider_limit_s), self._settings.lease_s
        self._tally = resources.tally
        self._database, self._channel, self._provider, self._consumer = database, channel, provider, consumer
        self._circuit, self._claim_due, self._recorder = circuit, claim_due, recorder
        self._chance = random.Random(f"{self._settings.simulated_seed}:{channel}")
        self._calls = Calls(self._policy.concurrency, self._settings.margin_s, self._send, self._give_back, self._limit.longest_s)

    async def __call__(self, entries: Sequence[Entry], settle: Settle) -> None:
        """Claims the batch and starts its sends; returns before they end."""
        by_row = {entry.row_id: entry for entry in entries if entry.row_id is not None}
        if self._circuit.held or (len(by_row) > 1 and not self._circuit.closed()):  # read before that: a probe is one
            for entry in by_row.values():
                settle(entry, Back(0, handled=False))
            return
        attempts = await self._claim(by_row, settle)
        for attempt in attempts:
            verdict = attempt.claim.verdict
            if verdict not in GO:
                self._tally.ended(self._channel, ENDED_BY_CLAIM.get(verdict))
                settle(attempt.entry, after_claim(attempt.claim, self._settings.reclaim_after_s))
                if verdict not in (ClaimVerdict.FINAL, ClaimVerdict.LATER, ClaimVerdict.PARKED):
                    log.info("notification not claimed", **ids_of(attempt.claim, self._channel), verdict=verdict)
        for row_id in by_row.keys() - {a.claim.id for a in attempts}:
            settle(by_row[row_id], Bury(f"there is no notification {row_id}"))
        for attempt in attempts:  # last, and nothing here raises: who fails after a send began would drop entries in mid-send
            if attempt.claim.verdict in GO:
                self._calls.add(attempt)

    def begin(self, entry: Entry, claim: Claim, claimed_s: float, settle: Settle, record: Callable[[Ended], None]) -> None:
        """Starts the call for what was claimed elsewhere; `claimed_s` by the own clock, before it was."""
        self._calls.add(Attempt(self._channel, entry, claim, claimed_s, settle, record))

    def ahead(self) -> int:
        """So many may be claimed beyond those that have a slot."""
        return self._calls.ahead()

    def quick(self) -> bool:
        """Do calls take next to no time?"""
        return self._calls.quick()

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
            asked.append(clock_s())
            return await claim(
                self._claim_due,
                self._pool,
                list(by_row),
                self._consumer,
                lease_s=self._lease_s,
                at_most_once=self._policy.crash_policy is CrashPolicy.AT_MOST_ONCE,
                max_tries=self._policy.max_tries,
                calm_s=self._settings.calm_s,
                calm_left_s=self._database.calm_left_s(self._settings.calm_s),
            )

        probes = not self._circuit.closed()
        claims = await self._database.patiently(ask)
        if len(asked) == 1:  # no answer was lost: whatever claimed it for this process has it in hand, or is done with it
            claims = [c._replace(verdict=ClaimVerdict.BUSY) if c.verdict is ClaimVerdict.RESUMED else c for c in claims]
        since_s = {ClaimVerdict.RESUMED: asked[0]}
        record = self._recorder.add
        return [
            Attempt(self._channel, by_row[c.id], c, since_s.get(c.verdict, asked[-1]), settle, record, probes) for c in claims
        ]

    async def _send(self, attempt: Attempt) -> None:
        began_s = clock_s()
        if not self._may_send(attempt, began_s):
            self._give_back(attempt)
            return
        result = await call_provider(self._provider, message_of(attempt.claim, self._channel), self._limit)
        took_s = clock_s() - began_s
        if result.outcome in ANSWERS:  # a provider that refuses quickly is not quick
            self._calls.took(took_s)
        paused_s = self._circuit.heard(result, attempt.claim.attempt, attempt.claim.tries)
        attempt.record(Ended(attempt, self._provider.name, result, took_s, paused_s, self._judge))
        attempt.settle(attempt.entry, CALL_OVER)

    def _may_send(self, attempt: Attempt, now_s: float) -> bool:
        """Not where the lease could end in mid-send, nor where the channel was paused since; no probe where it is by hand."""
        fresh = now_s - attempt.claimed_s + self._limit.limit_s <= self._lease_s
        return fresh and not self._circuit.held and (attempt.probes or self._circuit.closed())

    def _give_back(self, attempt: Attempt) -> None:
        """Nothing was sent."""
        attempt.record(Ended(attempt, self._provider.name, None, 0.0, None, self._judge))
        attempt.settle(attempt.entry, CALL_OVER)

    def _judge(self, ended: Ended) -> Ending:
        claimed, result = ended.attempt.claim, ended.result
        assert result is not None
        move = SENT if result.outcome is Outcome.SENT else self._next_move(result, claimed.tries, ended.paused_s)
        return Ending(claimed.id, claimed.attempt, result.outcome, ended.provider, result.error, result.receipt, *move)

    def _next_move(self, result: Result, tries: int, paused_s: float | None) -> Move:
        jitter = 1 + self._settings.retry_jitter * self._chance.uniform(-1, 1)
        return next_move(result, tries, self._policy, jitter, self._settings.reclaim_after_s, paused_s)
