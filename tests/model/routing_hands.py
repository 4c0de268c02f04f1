"""The product's own Route in the hands of test_machine.py: with slots for what it claims, and with answers that get lost."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from redis.exceptions import ConnectionError as RedisGone

from app import streams
from app.domain import Channel
from app.store import hot
from app.store.notifications import Claim
from app.streams import Entry
from consumers import database
from consumers.at_once import AtOnce
from consumers.in_hand import InHand
from consumers.settle import Settle

if TYPE_CHECKING:
    from tests.model.hands import Hands

LOSSES = ("none", "none", "commit", "publication")


@dataclass(eq=False)
class Slots:
    """One channel of who routes, for its Batch: `room` slots, and what is begun in them is held."""

    hands: "Hands"
    me: str
    channel: Channel
    room: int
    in_hand: InHand = field(default_factory=lambda: InHand(slots=100))

    def room_at_once(self) -> int:
        return max(0, self.room - self.in_hand.reserved - len(self.in_hand.entries))

    def settle(self, entry: Entry, verdict: Any) -> None:
        raise AssertionError("the hands settle what they hold")

    def begin(self, entry: Entry, claim: Claim, claimed_s: float, settle: Settle) -> None:
        self.hands.hold(self.me, streams.channel_stream(self.channel), entry, claim)


def at_once(hands: "Hands", me: str, channels: tuple[Channel, ...], room: int) -> AtOnce:
    slots = {channel: Slots(hands, me, channel, room) for channel in channels}
    both: Any = {channel: (slot, slot) for channel, slot in slots.items()}
    return AtOnce(me, both)


@contextmanager
def losing(what: str) -> Iterator[None]:
    """The first answer of `what` gets lost after it took effect."""
    module, name, error = {
        "none": (hot, "route", None),
        "commit": (hot, "route", ConnectionError("lost")),
        "publication": (streams, "publish_all", RedisGone("lost")),
    }[what]
    with patch.object(module, name, _once(getattr(module, name), error)), patch.object(database, "REPEAT_AFTER_S", 0):
        yield


def _once(call: Callable[..., Awaitable[Any]], error: Exception | None) -> Callable[..., Awaitable[Any]]:
    errors = [error] if error else []

    async def lost(*args: Any) -> Any:
        answer = await call(*args)
        if errors:
            raise errors.pop()
        return answer

    return lost
