"""An event that was claimed, as consumers/sending.py: its calls, until it is written with those that are over; the other ends are
recorded one by one.
"""

from dataclasses import dataclass, field

from app.domain import Outcome
from app.store.notifications import Claim
from app.streams import Entry
from consumers.sending import Underway
from consumers.settle import Acknowledge, Back
from tests.model.consumer import Settle
from tests.model.handlers import Ended, Held, Record, or_none, row_of, send, tell
from tests.model.process import Open, Process, Steps
from tests.model.rules import ANSWER_S, CHANNELS, FIRST_ATTEMPT, LINGER_S

PAUSED = 0.05  # of what is begun: its channel was paused meanwhile
LOOKS = 5


@dataclass(eq=False)
class Sending:
    """`opens` by row: what may have been claimed, and has not begun. `ends` wait until it is written."""

    process: Process
    entry: Entry
    settle: Settle
    opens: dict[int, Open] = field(default_factory=dict)
    ends: list[Ended] = field(default_factory=list)
    asked: bool = False
    answered: bool = False

    @property
    def me(self) -> str:
        return self.process.me

    def may_have(self, ids: list[int], expires_at: float | None) -> None:
        """Claimed; nobody knows yet whether that will be answered."""
        for row_id, channel in zip(ids, CHANNELS, strict=False):
            if row_id not in self.opens:
                self.opens[row_id] = self.process.opened(row_id, channel, expires_at, FIRST_ATTEMPT)

    def begin(self, entry: Entry, claim: Claim, claimed_s: float, settle: Settle, record: Record) -> None:
        """The part of Deliver: starts a call."""
        p, held = self.process, Held(entry, claim, self.opens.pop(claim.id), settle)
        if p.world.rng.random() < PAUSED:
            record(Ended(held, None))
        else:
            p.spawn(send(p, held, claimed_s, record))

    def forget_others(self) -> None:
        """Claimed, and never learned of, or in this process' hand another way: by now it is whose who found it lapsed."""
        w = self.process.world
        for lost in self.opens.values():
            w.silent[lost.row_id] += "own" in w.rules
            self.process.closed(lost)

    def follow(self, events: list[Underway]) -> None:
        """Its calls begin now."""
        if events:
            self.process.spawn(self.write())
        if events and "kept" not in self.process.world.rules:
            self.settle(self.entry, Acknowledge())

    def ended(self, _event: Underway, _place: int, end: Ended) -> None:
        """A call is over, or was not made."""
        if self.answered or (self.asked and "waits" not in self.process.world.rules):
            tell(self.process, end)
        else:
            self.ends.append(end)

    def write(self) -> Steps[None]:
        p, w = self.process, self.process.world
        for _ in range(LOOKS):
            if len(self.ends) < len(CHANNELS):
                yield LINGER_S / LOOKS
        sent, self.asked = self._sent(), True
        yield w.rng.choice(ANSWER_S)
        written = yield from or_none(p.patiently(lambda: w.routes.write(row_of(self.entry), p.me, sent)))
        yield w.rng.choice(ANSWER_S)
        self.answered = True
        self._go_on(bool(written), sent if "snapshot" in w.rules else self._sent())

    def _sent(self) -> set[int]:
        return {held.claim.id for held, ending in self.ends if ending is not None and ending.outcome is Outcome.SENT}

    def _go_on(self, written: bool, sent: set[int]) -> None:
        p = self.process
        for end in self.ends:
            c = end.held.claim
            if c.id in sent and (written or "passed" not in p.world.rules):
                p.world.told(c.id, c.attempt, Outcome.SENT)
                p.closed(end.held.open)
                end.held.settle(end.held.entry, Acknowledge())
            else:
                tell(p, end)
        if "kept" in p.world.rules:
            self.settle(self.entry, Acknowledge() if written else Back(0))
