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
from consumers import database, publish, route, route_plain, settle
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
    """One channel of who routes, for its Batch: so many slots. What is begun in them is held, claimed when these were made."""

    hands: "Hands"
    me: str
    channel: Channel
    slots: int = 0
    made_at: float = 0.0

    @property
    def stream(self) -> str:
        return streams.channel_stream(self.channel)

    @property
    def in_hand(self) -> InHand:
        return self.hands.in_hand(self.me, self.stream)

    @property
    def room(self) -> "Slots":
        return self

    def at_once(self) -> int:
        return max(0, self.slots - self.in_hand.reserved - len(self.in_hand.entries))

    def quick(self) -> bool:
        """Nobody waits for room."""
        return False

    def settle(self, entry: Entry, verdict: Any) -> None:
        assert entry.id in self.in_hand.entries, f"nobody will settle {entry}"
        self.hands.told.append((self.me, self.stream, entry, verdict))

    def begin(self, entry: Entry, claim: Claim, _claimed_s: float, settle: Settle) -> None:
        self.hands.hold(self.me, self.stream, entry, claim, settle, self.made_at)


def at_once(hands: "Hands", me: str, channels: tuple[Channel, ...], room: int) -> AtOnce:
    slots = {channel: Slots(hands, me, channel, room, hands.passed_s) for channel in channels}
    both: Any = {channel: (slot, slot) for channel, slot in slots.items()}
    return AtOnce(me, both)


async def _nothing() -> None:
    pass


@contextmanager
def losing(hands: "Hands", lost: str, committed: Step = _nothing) -> Iterator[None]:
    """The first answer of what is `lost` gets lost; `committed` is what goes on before who routes learns of its commit.

    The own clock of processes is that of the test.
    """
    commit = ConnectionError("lost") if lost == "commit" else None
    calls = [
        (hot_route, "route_plain", _then(_losing(hot_route.route_plain, commit), committed)),
        (route, "route_events", _losing(routing.route_events, commit)),
        (streams, "publish_all", _publishing(lost)),
        (database, "REPEAT_AFTER_S", 0),
        *((module, "clock_s", lambda: hands.passed_s) for module in (route, route_plain, publish, settle)),
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


def _then(call: Call, step: Step) -> Call:
    async def slow(*args: Any) -> Any:
        answer = await call(*args)
        await step()
        return answer

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
