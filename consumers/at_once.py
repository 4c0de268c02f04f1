"""What the process that routes may send itself, and at once: claimed as it is inserted, and delivered to this process as it is
added to its stream, while its call is under way. That spares a read and a claim. What finds no free slot, or would overtake
others, is read from the stream.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from app.domain import Channel
from app.store.hot_route import Routed
from app.store.notifications import Claim, ClaimVerdict
from app.streams import Entry
from consumers.consumer import Consumer
from consumers.deliver import Deliver
from consumers.settle import CallOver, Leave, Verdict

Channels = Mapping[Channel, tuple[Consumer, Deliver]]


class Claimed(NamedTuple):
    """A notification that was claimed as it was inserted."""

    id: int
    channel: Channel
    event: Routed


class Begun:
    """A call that begins before it is known which entry of the stream it is for: its verdict waits for that."""

    def __init__(self, consumer: Consumer, row_id: int) -> None:
        self._consumer, self.entry = consumer, Entry(b"row %d" % row_id, row_id, 1)
        self._published: bool | None = None
        self._early: Verdict | None = None
        self.mine = consumer.in_hand.add(self.entry)  # or this process stood still, and was given the row as anybody's

    def settle(self, _entry: Entry, verdict: Verdict | CallOver) -> None:
        if isinstance(verdict, CallOver):
            self._consumer.settle(self.entry, verdict)
        elif self._published is None:
            self._early = verdict
        else:
            self._consumer.settle(self.entry, verdict if self._published else Leave())

    def published(self, entry_id: bytes | None) -> None:
        """None: nobody knows; the relay and reclaim see to what is not final."""
        if entry_id is not None and self.mine:
            self.entry = self._consumer.in_hand.rename(self.entry, entry_id)
        self._published = entry_id is not None
        if self._early is not None:
            self.settle(self.entry, self._early)


class Batch:
    """The slots reserved for a batch of events, until what was claimed in them has begun; and that, until it is published.

    `wanted`: what they bring each channel. It is sent at once as a whole, or not at all: a backlog costs less over the stream.
    """

    def __init__(self, channels: Channels, wanted: Mapping[Channel, int]) -> None:
        self._channels = channels
        self._slots = {c: n for c, n in wanted.items() if c in channels and channels[c][0].room_at_once() >= n}
        self._at_once, self._begun = [*self._slots], list[Begun]()
        for channel, slots in self._slots.items():
            channels[channel][0].in_hand.reserve(slots)

    def channels(self) -> list[Channel]:
        """Those whose notifications are to be claimed."""
        return self._at_once

    def begin(self, claimed: Sequence[Claimed], claimed_s: float) -> None:
        """Starts the calls, which need not wait for Redis. `claimed_s`: the own clock before the claim was sent."""
        self._release()
        for c in claimed:
            consumer, deliver = self._channels[c.channel]
            begun = Begun(consumer, c.id)
            self._begun.append(begun)
            if begun.mine:
                deliver.begin(begun.entry, claim_of(c), claimed_s, begun.settle)

    def published(self, entry_ids: Sequence[bytes] | None) -> None:
        """What was begun has these entries, in its order; None: that is not known."""
        begun, self._begun = self._begun, []
        for call, entry_id in zip(begun, [None] * len(begun) if entry_ids is None else entry_ids, strict=True):
            call.published(entry_id)

    def close(self) -> None:
        self._release()
        self.published(None)

    def _release(self) -> None:
        for channel, slots in self._slots.items():
            self._channels[channel][0].in_hand.reserve(-slots)
        self._slots.clear()


class AtOnce:
    """The channels of this process, for who routes; `me` claims."""

    def __init__(self, me: str = "", channels: Channels | None = None) -> None:
        self.me, self._channels = me, channels or {}

    @contextmanager
    def batch(self, wanted: Mapping[Channel, int]) -> Iterator[Batch]:
        batch = Batch(self._channels, wanted)
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
