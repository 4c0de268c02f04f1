"""What one consumer has in hand: read and not settled."""

import asyncio
from dataclasses import dataclass, field

from app.streams import Entry


@dataclass(slots=True)
class InHand:
    """The entries that were read and are not settled, by entry id and by row id."""

    slots: int
    entries: dict[bytes, Entry] = field(default_factory=dict)
    rows: set[int] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def free(self) -> int:
        return self.slots - len(self.entries)

    def add(self, entry: Entry) -> bool:
        """False where another entry of the same row is in hand."""
        if entry.row_id in self.rows:
            return False
        self.entries[entry.id] = entry
        if entry.row_id is not None:
            self.rows.add(entry.row_id)
        return True

    def drop(self, entry: Entry) -> None:
        if self.entries.pop(entry.id, None) is not None and entry.row_id is not None:
            self.rows.discard(entry.row_id)
        self.changed.set()

    async def until(self, most: int) -> None:
        """Returns once at most `most` entries are in hand."""
        while len(self.entries) > most:
            self.changed.clear()
            await self.changed.wait()
