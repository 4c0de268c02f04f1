"""What the process that routes may send itself, and at once: claimed as it is inserted, and delivered to this process as it is
added to its stream. That spares a read and a claim. What finds no free slot, or would overtake others, is read from the stream.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from app.domain import Channel
from app.store.notifications import Claim, ClaimVerdict
from app.store.routing import Added, EventRow, Routing
from app.streams import Entry
from consumers.consumer import Consumer
from consumers.deliver import Deliver

Channels = Mapping[Channel, tuple[Consumer, Deliver]]


class Batch:
    """The slots reserved for a batch of events, until what was claimed has begun or was given back."""

    def __init__(self, channels: Channels) -> None:
        self._channels, self._slots = channels, Counter[Channel]()
        self._expected: list[Added] = []

    def reserve(self, routings: Sequence[Routing], first_time: Collection[int]) -> list[Routing]:
        """With what is to be sent at once: all that a channel gets, or nothing, since a backlog costs less over the stream.

        Only of events in `first_time`: who ended in silence before may take others along.
        """
        plain = {r.event.id for r in routings if r.reason is None and r.event.id in first_time}
        self._slots = Counter(channel for r in routings if r.event.id in plain for channel in r.channels)
        for channel, wanted in [*self._slots.items()]:
            if channel not in self._channels or self._channels[channel][0].room_at_once() < wanted:
                del self._slots[channel]
        for channel, slots in self._slots.items():
            self._channels[channel][0].in_hand.reserve(slots)
        return [self._marked(r) if r.event.id in plain else r for r in routings] if self._slots else list(routings)

    def _marked(self, routing: Routing) -> Routing:
        return routing._replace(at_once=tuple(c for c in routing.channels if c in self._slots))

    def expect(self, claimed: Sequence[Added]) -> None:
        """Before they are published: read from the stream they would seem claims whose answer was lost, and be sent twice."""
        self._expected.extend(claimed)
        for a in claimed:
            self._channels[a.channel][0].in_hand.rows.add(a.id)

    def begin(self, entry_ids: Sequence[bytes], events: Mapping[int, EventRow], claimed_s: float) -> None:
        """Starts the calls for all that is expected. `claimed_s`: the own clock before the claim was sent."""
        claimed = self.forget()
        for a, entry_id in zip(claimed, entry_ids, strict=True):
            (consumer, deliver), entry = self._channels[a.channel], Entry(entry_id, a.id, 1)
            added = consumer.in_hand.add(entry)
            assert added, "a row that was just inserted is in no other hand"
            deliver.begin(entry, claim_of(a, events[a.event_pk]), claimed_s, consumer.settle)

    def close(self) -> None:
        self.forget()
        for channel, slots in self._slots.items():
            self._channels[channel][0].in_hand.reserve(-slots)
        self._slots.clear()

    def forget(self) -> list[Added]:
        """What was expected, and no longer is."""
        for a in self._expected:
            self._channels[a.channel][0].in_hand.rows.discard(a.id)
        expected, self._expected = self._expected, []
        return expected


class AtOnce:
    """The channels of this process, for who routes; `me` claims."""

    def __init__(self, me: str = "", channels: Channels | None = None) -> None:
        self.me, self._channels = me, channels or {}

    def may(self, events: int) -> bool:
        """May so many events be sent at once now, on any channel?"""
        return any(consumer.room_at_once() >= events for consumer, _ in self._channels.values())

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        batch = Batch(self._channels)
        try:
            yield batch
        finally:
            batch.close()


def claim_of(a: Added, event: EventRow) -> Claim:
    """What a claim would have answered."""
    age_s, e, payload_json = (a.published_at - event.accepted_at).total_seconds(), event, event.payload_json
    assert payload_json is not None, "nothing is sent at once whose payload was not read"
    return Claim(a.id, ClaimVerdict.CLAIMED, 0.0, 1, 1, 0, False, None, e.event_id, e.type, e.user_id, payload_json, age_s)
