"""What one consumer has in hand: read, or begun at once, and not settled."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from app.streams import Entry


@dataclass(slots=True)
class InHand:
    """The entries that are not settled, by entry id and by row id.

    Each holds a slot until its call is over. At most `spare` more have their end recorded, so that calls go on meanwhile.
    """

    slots: int
    spare: int = 0
    entries: dict[bytes, Entry] = field(default_factory=dict)
    over: set[bytes] = field(default_factory=set)
    rows: set[int] = field(default_factory=set)
    reserved: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def free(self, ahead: int = 0) -> int:
        """`ahead`: so many may wait for a slot. Below 0 where these have become fewer."""
        held, over = len(self.entries) + self.reserved, len(self.over)
        return min(self.slots + ahead - held + over, self.slots + self.spare - held)

    def most(self, ahead: int) -> int:
        """The same with empty hands."""
        return self.slots + min(ahead, self.spare)

    def add(self, entry: Entry) -> bool:
        """False where another entry of the same row is in hand."""
        if entry.row_id in self.rows:
            return False
        self.entries[entry.id] = entry
        if entry.row_id is not None:
            self.rows.add(entry.row_id)
        return True

    def reserve(self, slots: int) -> None:
        """For what is on its way into the hand; fewer than none gives them back."""
        self.reserved += slots
        self.changed.set()

    def call_over(self, entry: Entry) -> None:
        """Only its end is still to be recorded."""
        if entry.id in self.entries:
            self.over.add(entry.id)
            self.changed.set()

    def drop(self, entry: Entry) -> None:
        if self.entries.get(entry.id) is entry:  # and not the same one, read once more
            del self.entries[entry.id]
            self.over.discard(entry.id)
            if entry.row_id is not None:
                self.rows.discard(entry.row_id)
        self.changed.set()

    async def until_empty(self) -> None:
        """Returns once nothing is in hand."""
        while self.entries or self.reserved:
            await self.until_change()

    async def until_change(self, within_s: float | None = None) -> None:
        """Returns once something left the hand, or a slot is free, or after `within_s`."""
        self.changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self.changed.wait()
