"""Events that this process has claimed as a whole: their calls are under way, and then they are written with their ends.

An event is written once all its calls are over, or a moment after it was claimed. What ends later, or was not sent, is recorded
as any other end (record.py); so is what another has taken over meanwhile.
"""

import asyncio
from collections.abc import Sequence
from itertools import chain

from app.batches import Batches
from app.domain import Outcome, Status
from app.logs import info_lines
from app.resources import Resources
from app.store.hot_send import Claimed, Sent, Write, write
from app.streams import Entry
from consumers.clock import clock_s
from consumers.database import Database
from consumers.record import Ended, Recorder, age_s, sent_line
from consumers.routed_line import routed_line
from consumers.settle import Acknowledge, Back, Settle

LINGER_S = 0.02  # what is over by then is not recorded sooner
WRITE_MAX = 250
DONE = Acknowledge()


class Underway:
    """One event, and the ends of its calls in the order of its channels; None: not over."""

    __slots__ = ("ends", "entry", "event", "left", "queued", "settle", "written")

    def __init__(self, event: Claimed, entry: Entry, settle: Settle) -> None:
        self.event, self.entry, self.settle = event, entry, settle
        self.ends: list[Ended | None] = [None] * len(event.channels)
        self.left, self.queued, self.written = len(event.channels), False, False


class Sending:
    """Writes the events of one process; `me` has claimed them."""

    def __init__(self, resources: Resources, database: Database, recorder: Recorder, me: str) -> None:
        self._resources, self._database, self._recorder, self.me = resources, database, recorder, me
        self._writes: Batches[Underway] = Batches(self._write, WRITE_MAX)

    def follow(self, events: Sequence[Underway]) -> None:
        """Their calls begin now."""
        asyncio.get_running_loop().call_later(LINGER_S, self._queue_rest, events)

    def ended(self, event: Underway, place: int, end: Ended) -> None:
        """One of its calls is over, or was not made."""
        if event.written:
            self._recorder.add(end)
            return
        event.ends[place] = end
        event.left -= 1
        if not event.left:
            self._queue(event)

    def sign(self) -> int | None:
        """For the watch: as of Batches."""
        return self._writes.sign()

    async def run(self) -> None:
        """Writes for ever; the batch under way is safe to cancel once nothing is in hand."""
        await self._writes.run()

    def _queue_rest(self, events: Sequence[Underway]) -> None:
        for event in events:
            self._queue(event)

    def _queue(self, event: Underway) -> None:
        if not event.queued:
            event.queued = True
            self._writes.add(event)

    async def _write(self, batch: list[Underway]) -> None:
        """What ends while this is under way was not told."""
        writes, asked_s = [Write(e.event.event_pk, e.event.channels, [told(end) for end in e.ends]) for e in batch], clock_s()
        written = await self._database.patiently(lambda: write(self._resources, self.me, writes))
        recorded = list[Ended]()
        for event, its in zip(batch, writes, strict=True):
            recorded += self._written(event, its.sent if its.event_pk in written else None)
        for end in recorded:
            self._resources.tally.ended(end.attempt.channel, Status.SENT, age_s(end.attempt, asked_s))
            end.attempt.settle(end.attempt.entry, DONE)
        routed = (routed_line(e.event.event_id, e.event.user_id, e.event.channels) for e in batch)
        info_lines(chain(routed, map(sent_line, recorded)))  # only now: no call waits for the log

    def _written(self, event: Underway, sent: Sequence[Sent | None] | None) -> list[Ended]:
        """The ends that are recorded; all others are still to be. `sent` None: another wrote it, or nobody knows who."""
        event.written = True
        event.settle(event.entry, Back(0) if sent is None else DONE)
        recorded = list[Ended]()
        for place, end in enumerate(event.ends):
            if end is not None:
                if sent is not None and sent[place] is not None:
                    recorded.append(end)
                else:
                    self._recorder.add(end)
        event.ends = []  # they refer to the event: a ring, which the garbage collector would find much later
        return recorded


def told(end: Ended | None) -> Sent | None:
    """How it was sent, where that can be written with its event: neither empty nor strange."""
    if end is None or end.result is None or end.result.outcome is not Outcome.SENT:
        return None
    provider, receipt = end.provider, end.result.receipt
    plain = provider and provider.isprintable() and (receipt is None or (receipt and receipt.isprintable()))
    return (provider, receipt) if plain else None
