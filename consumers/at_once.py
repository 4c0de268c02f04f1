"""What the process that routes sends itself, and at once: claimed as it is inserted, and on no stream, which would carry it to
nobody else. PostgreSQL alone knows of it: it is parked until its lease is over, and then the relay's.

What finds no room, or would overtake others, goes over the stream; so does what is to be tried again.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from app.domain import Channel, Outgoing
from app.store.hot_route import Routed
from app.store.notifications import Claim, ClaimVerdict
from app.streams import Entry
from consumers.consumer import Consumer
from consumers.deliver import Deliver
from consumers.settle import Back, CallOver, Publish, Verdict

WAIT_S = 0.25
REST_S = 1.0  # after a wait in vain


class Claimed(NamedTuple):
    """A notification that was claimed as it was inserted."""

    id: int
    channel: Channel
    event: Routed


class OnNoStream:
    """In the hand of `consumer`, and settled without a word to Redis, unless it is to be tried again."""

    def __init__(self, consumer: Consumer, claimed: Claimed) -> None:
        self._consumer, self._claimed = consumer, claimed
        self.entry = Entry(b"row %d" % claimed.id, claimed.id, 1)

    def settle(self, entry: Entry, verdict: Verdict | CallOver) -> None:
        if isinstance(verdict, CallOver):
            self._consumer.settle(entry, verdict)
        elif isinstance(verdict, Back) and verdict.published is not None:
            e, (at, asked_s) = self._claimed.event, verdict.published
            self._consumer.settle(entry, Publish(Outgoing(self._claimed.id, e.event_id, e.user_id, e.type, at), asked_s))
        else:
            self._consumer.in_hand.drop(entry)


class Outlet:
    """One channel of this process, for who routes."""

    def __init__(self, consumer: Consumer, deliver: Deliver) -> None:
        self.consumer, self._deliver, self._in_vain_until_s = consumer, deliver, 0.0

    def has_room(self, n: int) -> bool:
        """For `n` that are sent at once."""
        return self.consumer.room.at_once() >= n

    async def until_room(self, n: int, until_s: float) -> None:
        """Waits for room for `n` until `until_s` (of time.monotonic()): where calls are quick, and it was not in vain lately."""
        while not self.has_room(n):
            now_s = time.monotonic()
            if (
                now_s < self._in_vain_until_s
                or now_s >= until_s
                or not self._deliver.quick()
                or not self.consumer.room.may_come(n)
            ):
                return
            await self.consumer.in_hand.until_change(until_s - now_s)
            if time.monotonic() >= until_s:
                self._in_vain_until_s = until_s + REST_S

    def begin(self, claimed: Claimed, claimed_s: float) -> None:
        """Starts the call.

        A process that stood still for longer than its lease may have read the row meanwhile, as anybody's: that one goes on.
        """
        begun = OnNoStream(self.consumer, claimed)
        if self.consumer.in_hand.add(begun.entry):
            self._deliver.begin(begun.entry, claim_of(claimed), claimed_s, begun.settle)


class Batch:
    """The slots reserved for a batch of events, until what was claimed in them has begun.

    `wanted`: what they bring each channel. It is sent at once as a whole, or not at all: what is on the stream comes first.
    """

    def __init__(self, outlets: Mapping[Channel, Outlet], wanted: Mapping[Channel, int]) -> None:
        self._outlets = outlets
        self._slots = {c: n for c, n in wanted.items() if c in outlets and outlets[c].has_room(n)}
        for channel, slots in self._slots.items():
            outlets[channel].consumer.in_hand.reserve(slots)

    def channels(self) -> list[Channel]:
        """Those whose notifications are to be claimed."""
        return [*self._slots]

    def begin(self, claimed: Sequence[Claimed], claimed_s: float) -> None:
        """Starts the calls. `claimed_s`: the own clock before the claim was sent."""
        self.close()
        for c in claimed:
            self._outlets[c.channel].begin(c, claimed_s)

    def close(self) -> None:
        """Gives back the slots in which nothing has begun."""
        for channel, slots in self._slots.items():
            self._outlets[channel].consumer.in_hand.reserve(-slots)
        self._slots = {}


class AtOnce:
    """The channels of this process, for who routes; `me` claims."""

    def __init__(self, me: str = "", channels: Mapping[Channel, tuple[Consumer, Deliver]] | None = None) -> None:
        self.me, self._outlets = me, {channel: Outlet(*both) for channel, both in (channels or {}).items()}

    async def until_room(self, wanted: Mapping[Channel, int]) -> None:
        """Waits a moment where room will come soon: over the stream it costs half as much again."""
        until_s = time.monotonic() + WAIT_S
        for channel, n in wanted.items():
            if channel in self._outlets:
                await self._outlets[channel].until_room(n, until_s)

    @contextmanager
    def batch(self, wanted: Mapping[Channel, int]) -> Iterator[Batch]:
        batch = Batch(self._outlets, wanted)
        try:
            yield batch
        finally:
            batch.close()


def claim_of(claimed: Claimed) -> Claim:
    """What a claim would have answered."""
    e = claimed.event
    assert e.payload_json is not None, "nothing is claimed whose payload was not read"
    return Claim(
        claimed.id, ClaimVerdict.CLAIMED, 0.0, 1, 1, 0, False, None, e.event_id, e.type, e.user_id, e.payload_json, e.age_s
    )
