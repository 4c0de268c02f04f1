"""What the process that routes sends itself, and at once: its event is claimed as a whole, and no channel's stream hears of it,
which would carry it to nobody else. Until it is written (sending.py), PostgreSQL knows it by its event's claim.

What finds no room, or would overtake others, goes over the stream; so does what is to be tried again.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Self

from app.domain import Channel, Outgoing
from app.store.hot_route import Plain
from app.store.hot_send import Claimed
from app.store.notifications import Claim, ClaimVerdict
from app.streams import Entry
from consumers.consumer import Consumer
from consumers.deliver import Deliver
from consumers.record import Ended
from consumers.sending import Sending, Underway
from consumers.settle import Back, CallOver, Publish, Verdict

WAIT_S = 0.25
REST_S = 1.0  # after a wait in vain


class OnNoStream:
    """One notification of `event`, in the hand of `consumer`: settled without a word to Redis, unless it is to be tried again."""

    def __init__(self, consumer: Consumer, event: Claimed, row_id: int) -> None:
        self._consumer, self._event = consumer, event
        self.entry = Entry(b"row %d" % row_id, row_id, 1)

    def settle(self, entry: Entry, verdict: Verdict | CallOver) -> None:
        if isinstance(verdict, CallOver):
            self._consumer.in_hand.call_over(entry)
        elif isinstance(verdict, Back) and verdict.published is not None:
            e, (at, asked_s) = self._event, verdict.published
            self._consumer.settle(entry, Publish(Outgoing(self.entry.row_id or 0, e.event_id, e.user_id, e.type, at), asked_s))
        else:
            self._consumer.in_hand.drop(entry)


class Outlet:
    """One channel of this process, for who routes."""

    def __init__(self, consumer: Consumer, deliver: Deliver) -> None:
        self.consumer, self._deliver, self._in_vain_until_s = consumer, deliver, 0.0

    def has_room(self, n: int) -> bool:
        """For `n` that are sent at once."""
        return self.consumer.room.at_once(n)

    def may_take(self, n: int) -> bool:
        """Is there room for `n`, or could there be soon, since calls are quick?"""
        return self.has_room(n) or (self._deliver.quick() and self.consumer.room.may_come(n))

    async def until_room(self, n: int, until_s: float) -> None:
        """Waits for room for `n` until `until_s` (of time.monotonic()): where it may come, and a wait was not in vain lately."""
        while not self.has_room(n):
            now_s = time.monotonic()
            if now_s < self._in_vain_until_s or now_s >= until_s or not self.may_take(n):
                return
            await self.consumer.in_hand.until_change(until_s - now_s)
            if time.monotonic() >= until_s:
                self._in_vain_until_s = until_s + REST_S

    def begin(self, event: Claimed, row_id: int, claimed_s: float, record: Callable[[Ended], None]) -> None:
        """Starts the call for one notification.

        A process that stood still for longer than its lease may have read the row meanwhile, as anybody's: that one goes on.
        """
        begun = OnNoStream(self.consumer, event, row_id)
        if self.consumer.in_hand.add(begun.entry):
            self._deliver.begin(begun.entry, claim_of(event, row_id), claimed_s, begun.settle, record)


class Batch:
    """Those of `events` that are sent at once, and the slots reserved for them until their calls have begun.

    A channel takes its part of the batch as a whole or not at all, and an event goes where all its channels take it: what is on a
    stream comes first.
    """

    def __init__(self, sending: Sending | None, outlets: Mapping[Channel, Outlet], events: Sequence[Plain]) -> None:
        self._sending, self._outlets = sending, outlets
        parts = wanted(events)
        takes = {c for c, n in parts.items() if c in outlets and outlets[c].has_room(n)}
        self.events = [event for event in events if takes.issuperset(event.case.channels)]
        self._slots = parts if len(self.events) == len(events) else wanted(self.events)
        for channel, slots in self._slots.items():
            outlets[channel].consumer.in_hand.reserve(slots)

    def begin(self, events: Sequence[Underway], claimed_s: float) -> None:
        """Starts the calls. `claimed_s`: the own clock before the claim was sent."""
        assert self._sending is not None, "without it there is no outlet"
        self.close()
        for underway in events:
            event = underway.event
            for place, channel in enumerate(event.channels):
                record = partial(self._sending.ended, underway, place)
                self._outlets[channel].begin(event, event.first_id + place, claimed_s, record)
        self._sending.follow(events)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives back the slots in which nothing has begun."""
        for channel, slots in self._slots.items():
            self._outlets[channel].consumer.in_hand.reserve(-slots)
        self._slots.clear()


class AtOnce:
    """The channels of this process, for who routes. Without `sending` nothing is sent at once."""

    def __init__(
        self, sending: Sending | None = None, channels: Mapping[Channel, tuple[Consumer, Deliver]] | None = None
    ) -> None:
        self._sending, self._outlets = sending, {channel: Outlet(*both) for channel, both in (channels or {}).items()}
        self.me = sending.me if sending else ""

    def batch(self, events: Sequence[Plain]) -> Batch:
        """What there is room for now. `events` take a channel each, at least."""
        return Batch(self._sending, self._outlets, events)

    async def batch_soon(self, events: Sequence[Plain]) -> Batch:
        """The same, after a moment where room will come soon in all channels of an event: the streams cost twice as much."""
        batch = self.batch(events)
        if len(batch.events) < len(events):
            batch.close()
            await self._until_room(events)
            batch = self.batch(events)
        return batch

    async def _until_room(self, events: Sequence[Plain]) -> None:
        until_s, parts = time.monotonic() + WAIT_S, wanted(events)
        may = {c for c, n in parts.items() if c in self._outlets and self._outlets[c].may_take(n)}
        for channel in wanted([event for event in events if may.issuperset(event.case.channels)]):
            await self._outlets[channel].until_room(parts[channel], until_s)


def wanted(events: Sequence[Plain]) -> Counter[Channel]:
    """What they bring each channel."""
    return Counter(chain.from_iterable([event.case.channels for event in events]))


def claim_of(e: Claimed, row_id: int) -> Claim:
    """What a claim of one notification would have answered."""
    return Claim(row_id, ClaimVerdict.CLAIMED, 0.0, 1, 1, 0, False, None, e.event_id, e.type, e.user_id, e.payload_json, e.age_s)
