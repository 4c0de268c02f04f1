"""What the first look at one stream found, and what follows from it alone; and how long something may be so. Pure."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.consistency.carried import START, EntryId, Group, Pending, Seen
from app.domain import Channel
from app.settings import Settings
from app.store.consistency import OwedRow
from app.streams import CHANNEL_OF

SILENT_DELIVERIES = 2  # an entry that was delivered more often ended in silence


@dataclass(frozen=True, slots=True)
class Patience:
    """How long something may be so before it is a suspect, in seconds; all from the reclaim window."""

    grace_s: float  # no XADD comes later than this after its `published_at`
    parked_s: float
    lease_s: float
    idle_s: float
    overdue_s: float

    @classmethod
    def of(cls, settings: Settings) -> "Patience":
        window_s, spare_s = settings.reclaim_after_s, max(2.0, settings.margin_s)
        return cls(
            grace_s=settings.relay_grace_s,
            parked_s=settings.relay_sweep_s + spare_s,
            lease_s=window_s + settings.margin_s,
            idle_s=window_s + spare_s,
            overdue_s=window_s + settings.relay_grace_s,
        )


@dataclass(slots=True)
class Look:
    """The first look at one stream. Suspects by id; what is `cut` was not looked at to its end."""

    stream: str
    now: datetime  # PostgreSQL's clock, read before Redis
    group: Group
    entries: dict[EntryId, int | None] = field(default_factory=dict)
    delivered_rows: set[int] = field(default_factory=set)
    unread_rows: set[int] = field(default_factory=set)
    all_met: bool = True  # all entries; else the oldest ENTRIES_MAX, or as many as there was time for
    compared_to: datetime | None = None  # `published_at` of the last entry met, where not all were
    oldest: Seen | None = None
    doubled: int = 0
    final: int = 0
    parked_entries: int = 0
    strangers: list[EntryId] = field(default_factory=list)
    pending: dict[EntryId, Pending] = field(default_factory=dict)
    published: int = 0
    parked: int = 0
    in_flight: int = 0
    at_once: int = 0
    capped: bool = False
    uncarried: dict[int, OwedRow] = field(default_factory=dict)
    lease_over: dict[int, OwedRow] = field(default_factory=dict)
    parked_late: dict[int, OwedRow] = field(default_factory=dict)
    unread: dict[int, OwedRow] = field(default_factory=dict)
    cut: bool = False

    @property
    def channel(self) -> Channel | None:
        return CHANNEL_OF.get(self.stream)

    @property
    def forgotten(self) -> list[EntryId]:
        return [one for one in self.entries if one <= self.group.read_to and one not in self.pending] if not self.cut else []

    @property
    def emptied(self) -> list[EntryId]:
        met_to = self.group.last if self.all_met and not self.cut else max(self.entries, default=START)
        return [one for one in self.pending if one <= met_to and one not in self.entries]

    def idle(self, patience: Patience) -> list[Pending]:
        return [p for p in self.pending.values() if p.idle_s > patience.idle_s]

    def silent(self) -> list[Pending]:
        return [p for p in self.pending.values() if p.deliveries > SILENT_DELIVERIES]

    def watermark(self) -> datetime | None:
        """The relay's: what was published before this is carried no more; None: it cannot tell, and takes parked work only."""
        if self.oldest is None:
            return self.now
        at = self.oldest.published_at
        return None if at is None or at > self.now else at

    def relay_takes(self, row: OwedRow, grace_s: float) -> bool:
        """Published a grace before the watermark, due, under no live lease."""
        mark = self.watermark()
        before = mark is not None and row.published_at is not None and row.published_at < mark - timedelta(seconds=grace_s)
        return before and row.due_in_s <= 0 and (row.lease_in_s is None or row.lease_in_s < 0)
