"""The product's own Route in the hands of test_machine.py: with slots for what it claims, and with answers that get lost."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from redis.exceptions import ConnectionError as RedisGone

from app import streams
from app.domain import Channel
from app.store import hot_route, routing
from app.store.notifications import Claim
from app.streams import Entry
from consumers import database, route
from consumers.at_once import AtOnce
from consumers.in_hand import InHand
from consumers.settle import Settle

if TYPE_CHECKING:
    from tests.model.hands import Hands

LOSSES = ("none", "none", "commit", "publication", "what is published")
Call = Callable[..., Awaitable[Any]]
Step = Callable[[], Awaitable[None]]


@dataclass(eq=False)
class Slots:
    """One channel of who routes, for its Batch: `room` slots, and what is begun in them is held."""

    hands: "Hands"
    me: str
    channel: Channel
    room: int = 0

    @property
    def stream(self) -> str:
        return streams.channel_stream(self.channel)

    @property
    def in_hand(self) -> InHand:
        return self.hands.in_hand(self.me, self.stream)

    def room_at_once(self) -> int:
        return max(0, self.room - self.in_hand.reserved - len(self.in_hand.entries))

    def settle(self, entry: Entry, verdict: Any) -> None:
        assert entry.id in self.in_hand.entries, f"nobody will settle {entry}"
        self.hands.told.append((self.me, self.stream, entry, verdict))

    def begin(self, entry: Entry, claim: Claim, claimed_s: float, settle: Settle) -> None:
        self.hands.hold(self.me, self.stream, entry, claim, settle)


def at_once(hands: "Hands", me: str, channels: tuple[Channel, ...], room: int) -> AtOnce:
    slots = {channel: Slots(hands, me, channel, room) for channel in channels}
    both: Any = {channel: (slot, slot) for channel, slot in slots.items()}
    return AtOnce(me, both)


@contextmanager
def between(lost: str, before: Step, after: Step) -> Iterator[None]:
    """`before` and `after` are what goes on while something is published; the first answer of what is `lost` gets lost."""
    commit = ConnectionError("lost") if lost == "commit" else None
    calls = [
        (hot_route, "route_plain", _losing(hot_route.route_plain, commit)),
        (route, "route_events", _losing(routing.route_events, commit)),
        (streams, "publish_all", _meanwhile(_publishing(lost), before, after)),
        (database, "REPEAT_AFTER_S", 0),
    ]
    with ExitStack() as patches:
        for module, name, made in calls:
            patches.enter_context(patch.object(module, name, made))
        yield


def _publishing(lost: str) -> Call:
    if lost == "what is published":
        return _away
    return _losing(streams.publish_all, RedisGone("lost") if lost == "publication" else None)


async def _away(*_: Any) -> Any:
    raise RedisGone("away")


def _meanwhile(call: Call, before: Step, after: Step) -> Call:
    async def slow(*args: Any) -> Any:
        await before()
        try:
            return await call(*args)
        finally:
            await after()

    return slow


def _losing(call: Call, error: Exception | None) -> Call:
    """Its first answer, after it took effect."""
    errors = [error] if error else []

    async def losing(*args: Any) -> Any:
        answer = await call(*args)
        if errors:
            raise errors.pop()
        return answer

    return losing
