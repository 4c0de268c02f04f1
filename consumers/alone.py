"""Entries that ended in silence too often: each is handled with nothing else in hand in the whole process.

All streams of a process die with it. Were the others at work meanwhile, their entries would end in silence each time that the bad
one does, and be judged like it in the end.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from consumers.in_hand import InHand


class Alone:
    """Shared by the consumers of a process."""

    def __init__(self) -> None:
        self._hands: list[InHand] = []
        self._lock = asyncio.Lock()

    def join(self, hand: InHand) -> None:
        self._hands.append(hand)

    async def nobody(self) -> None:
        """For all other work: returns once no such entry is being handled. Ask before anything comes into the hand."""
        async with self._lock:
            pass

    @asynccontextmanager
    async def only(self) -> AsyncIterator[None]:
        """Inside, nothing else is in hand, and nothing new begins."""
        async with self._lock:
            while any(hand.entries for hand in self._hands):
                for hand in self._hands:
                    await hand.until_empty()
            yield
