"""How many entries one consumer may begin: by its slots, its breaker and its limit; and of these, how many sent at once."""

import asyncio
from collections.abc import Callable

from consumers.channel_limit import ChannelLimit
from consumers.circuit import Circuit
from consumers.in_hand import InHand

KEPT_FREE = 4  # a quarter of the slots is for what is read


def none_ahead() -> int:
    return 0


class Room:
    """The room of one consumer. `ahead`: so many may wait for a slot, as each has one soon."""

    def __init__(
        self,
        in_hand: InHand,
        limit: ChannelLimit | None = None,
        circuit: Circuit | None = None,
        ahead: Callable[[], int] = none_ahead,
    ) -> None:
        self._in_hand, self.limit, self._circuit, self._ahead = in_hand, limit, circuit, ahead
        self.kept_free = max(1, in_hand.slots // KEPT_FREE)
        self.drained = False  # the last read left nothing
        self.promised = 0  # so many the turn under way may fill
        self.stopping: asyncio.Event | None = None  # None: it does not run yet

    def free(self) -> int:
        """So many may be begun, the last of them before they have a slot."""
        return max(0, self._in_hand.free(self._ahead()))

    async def until_free(self) -> None:
        """Nothing comes before what waits on the stream meanwhile."""
        while self.free() <= 0:
            self.drained = False
            await self._in_hand.until_change()

    async def to_take(self, most: int) -> int:
        """How many entries may be taken from the stream now."""
        free = min(self.free(), most)
        if self._circuit is not None:
            free = self._circuit.room(free, len(self._in_hand.entries))
        return free if self.limit is None or not free else await self.limit.allowed(free)

    def at_once(self, n: int) -> bool:
        """May `n` come another way than over the stream? None before what waits there."""
        if not self.drained or not self._may_begin():
            return False
        kept = max(self.kept_free, self.promised)
        return self._in_hand.free() - kept >= n or self.free() - kept >= n  # what is ahead only adds

    def may_come(self, n: int) -> bool:
        """Could there be room at once for `n` soon?"""
        return self._may_begin() and self._in_hand.most(self._ahead()) - self.kept_free >= n

    def stops(self) -> bool:
        """Shall nothing more be begun?"""
        return self.stopping is not None and self.stopping.is_set()

    def was_read(self, n: int, most: int) -> None:
        """A read of up to `most` entries brought `n`."""
        self.drained = n < most
        self._in_hand.changed.set()

    def _may_begin(self) -> bool:
        """What a limit counts, or is held back, waits on the stream."""
        if self.limit is not None or self.stopping is None or self.stops():
            return False
        return self._circuit is None or self._circuit.closed()
