"""The product's own Route in the hands of test_machine.py: with slots for what it claims, and answers that get lost."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from redis.exceptions import ConnectionError as RedisGone

from app import streams
from app.domain import Channel
from app.store import hot_route, hot_send, routing, take_over
from app.store.notifications import Claim
from app.streams import Entry
from consumers import database, publish, route, route_plain, sending, settle
from consumers.at_once import AtOnce
from consumers.in_hand import InHand
from consumers.record import Attempt, Ended
from consumers.sending import Sending, Underway
from consumers.settle import Settle

if TYPE_CHECKING:
    from tests.model.hands import Hands

LOSSES = ("none", "none", "commit", "publication", "what is published")
Call = Callable[..., Awaitable[Any]]
Step = Callable[[], Awaitable[None]]


class Writing(Sending):
    """The product's own. It writes when it is told to (recording_hands.py); what it does not write is recorded there, too."""

    def __init__(self, hands: "Hands", me: str) -> None:
        recorder: Any = hands
        super().__init__(hands.resources, database.Database(), recorder, me)
        self._hands = hands

    def follow(self, events: Sequence[Underway]) -> None:
        self._hands.unwritten += [(self, event) for event in events]

    def _queue(self, event: Underway) -> None:
        """In its time."""


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

    def at_once(self, n: int) -> bool:
        return self.slots - self.in_hand.reserved - len(self.in_hand.entries) >= n

    def quick(self) -> bool:
        """Nobody waits for room."""
        return False

    def settle(self, entry: Entry, verdict: Any) -> None:
        assert entry.id in self.in_hand.entries, f"nobody will settle {entry}"
        self.hands.told.append((self.me, self.stream, entry, verdict))

    def begin(self, entry: Entry, claim: Claim, claimed_s: float, settle: Settle, record: Callable[[Ended], None]) -> None:
        self.hands.hold(self.me, Attempt(self.channel, entry, claim, claimed_s, settle, record), self.made_at)


def at_once(hands: "Hands", me: str, channels: tuple[Channel, ...], room: int) -> AtOnce:
    slots = {channel: Slots(hands, me, channel, room, hands.passed_s) for channel in channels}
    both: Any = {channel: (slot, slot) for channel, slot in slots.items()}
    return AtOnce(Writing(hands, me), both)


async def _nothing() -> None:
    pass


@contextmanager
def losing(hands: "Hands", lost: str, committed: Step = _nothing) -> Iterator[None]:
    """The first answer of what is `lost` gets lost; `committed` is what goes on before who routes or writes learns of its commit.

    The own clock of processes is that of the test.
    """
    commit = ConnectionError("lost") if lost == "commit" else None
    calls = [
        (hot_route, "route_plain", _then(_losing(hot_route.route_plain, commit), committed)),
        (hot_send, "claim_events", _then(_losing(hot_send.claim_events, commit), committed)),
        (sending, "write", _then(_losing(hot_send.write, commit), committed)),
        (route, "take_over", _losing(take_over.take_over, commit)),
        (route, "route_events", _losing(routing.route_events, commit)),
        (streams, "publish_all", _publishing(lost)),
        (database, "REPEAT_AFTER_S", 0),
        *((module, "clock_s", lambda: hands.passed_s) for module in (route, route_plain, publish, sending, settle)),
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
    steps = [step]

    async def slow(*args: Any, **named: Any) -> Any:
        answer = await call(*args, **named)
        if steps:
            await steps.pop()()
        return answer

    return slow


def _losing(call: Call, error: Exception | None) -> Call:
    """Its first answer, after it took effect."""
    errors = [error] if error else []

    async def losing(*args: Any, **named: Any) -> Any:
        answer = await call(*args, **named)
        if errors:
            raise errors.pop()
        return answer

    return losing
