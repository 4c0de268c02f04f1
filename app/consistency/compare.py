"""The first look at one stream: its entries, then its pending list, then its rows. What does not fit is a suspect, no more.

In this order a row that is unfinished, and whose entry was not met, has none: it is acknowledged only after the row's own commit.
Entries are never moved, so a walk by id meets every entry that is there all the time.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from app.consistency.carried import PAGE, START, EntryId, Group, Pending, Seen, entries_page, pending_page
from app.domain import Channel
from app.settings import Settings
from app.store import consistency as store
from app.store.consistency import OwedRow
from app.streams import channel_stream

if TYPE_CHECKING:
    from app.store.consistency import Connection

CHANNEL_OF: dict[str, Channel] = {channel_stream(channel): channel for channel in Channel}
ENTRIES_MAX = 200_000  # entries, pending entries and rows of each kind that are compared, per stream
ROWS_PAGE = 5_000
SUSPECTS_MAX = 200  # of each kind, that are looked at again
SWEEPS_PER_WINDOW = 20  # the relay's
SILENT_DELIVERIES = 2  # an entry that was delivered more often ended in silence
BEFORE_ALL = datetime(1970, 1, 1, tzinfo=UTC)


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
            parked_s=sweep_s(settings) + spare_s,
            lease_s=window_s + settings.margin_s,
            idle_s=window_s + spare_s,
            overdue_s=window_s + settings.relay_grace_s,
        )


def sweep_s(settings: Settings) -> float:
    """From one sweep of the relay to the next."""
    return settings.reclaim_after_s / SWEEPS_PER_WINDOW


@dataclass(slots=True)
class Look:
    """The first look at one stream. Suspects by id; what is `cut` was not looked at to its end."""

    stream: str
    now: datetime  # PostgreSQL's clock, read before Redis
    group: Group
    entries: dict[EntryId, int | None] = field(default_factory=dict)
    delivered_rows: set[int] = field(default_factory=set)
    unread_rows: set[int] = field(default_factory=set)
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
    lease_ended: int = 0
    overdue: int = 0
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
        met_to = max(self.entries, default=START) if len(self.entries) >= ENTRIES_MAX or self.cut else self.group.last
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


async def first_look(
    connection: "Connection", redis: Redis, stream: str, now: datetime, group: Group, patience: Patience, until: float
) -> Look:
    """Reads no later than `until` (monotonic). Raises redis.RedisError and asyncpg's errors."""
    look = Look(stream, now, group)
    await _read_entries(look, connection, redis, until)
    await _read_pending(look, redis, until)
    look.oldest = look.oldest or await _oldest(look, redis)
    await _read_published(look, connection, patience, until)
    look.parked = await store.count_parked(connection, look.channel, ENTRIES_MAX)
    look.capped |= look.parked >= ENTRIES_MAX
    late = await store.late_parked(connection, look.channel, patience.parked_s, SUSPECTS_MAX + 1)
    look.parked_late = {row.id: row for row in late}
    return look


async def _read_entries(look: Look, connection: "Connection", redis: Redis, until: float) -> None:
    after, last = START, look.group.last
    while after < last and len(look.entries) < ENTRIES_MAX:
        if time.monotonic() > until:
            look.cut = True
            break
        page = await entries_page(redis, look.stream, after, last)
        ids = [seen.row_id for seen in page if seen.row_id is not None]
        _meet(look, page, await store.states(connection, look.channel, ids) if page else {})
        if len(page) < PAGE:
            return
        after = page[-1].id
        look.compared_to = page[-1].published_at or look.compared_to
    if after >= last:
        look.compared_to = None


def _meet(look: Look, page: Iterable[Seen], states: dict[int, str]) -> None:
    """Count one page of entries, their rows' states known."""
    for seen in page:
        look.entries[seen.id] = seen.row_id
        state = None if seen.row_id is None else states.get(seen.row_id)
        if seen.row_id is None or state is None:
            look.strangers.append(seen.id)
            continue
        look.doubled += seen.row_id in look.delivered_rows or seen.row_id in look.unread_rows
        look.final += state == "final"
        look.parked_entries += state == "parked"
        (look.delivered_rows if seen.id <= look.group.read_to else look.unread_rows).add(seen.row_id)


async def _read_pending(look: Look, redis: Redis, until: float) -> None:
    after = START
    while len(look.pending) < ENTRIES_MAX:
        if time.monotonic() > until:
            look.cut = True
            return
        page = await pending_page(redis, look.stream, after, look.group.last)
        look.pending.update({p.id: p for p in page})
        if len(page) < PAGE:
            return
        after = page[-1].id


async def _oldest(look: Look, redis: Redis) -> Seen | None:
    """The oldest entry that the group still carries: pending, or not delivered when the walk began."""
    carried = (one for one in look.entries if one > look.group.read_to or one in look.pending)
    oldest = min(carried, default=None)
    if oldest is None:
        return None
    page = await entries_page(redis, look.stream, (oldest[0], oldest[1] - 1) if oldest[1] else (oldest[0] - 1, 2**63), oldest)
    return page[0] if page else None


async def _read_published(look: Look, connection: "Connection", patience: Patience, until: float) -> None:
    after = (BEFORE_ALL, 0)
    while look.published < ENTRIES_MAX:
        if time.monotonic() > until:
            look.cut = True
            return
        page = await store.published_page(connection, look.channel, after, ROWS_PAGE)
        for row in page:
            _weigh(look, row, patience)
        if len(page) < ROWS_PAGE:
            return
        assert page[-1].published_at is not None
        after = (page[-1].published_at, page[-1].id)
    look.capped = True


def _weigh(look: Look, row: OwedRow, patience: Patience) -> None:
    """Count one row, and suspect it where it does not fit."""
    look.published += 1
    look.in_flight += row.lease_in_s is not None and row.lease_in_s >= 0
    look.lease_ended += row.lease_in_s is not None and row.lease_in_s < 0
    overdue = row.due_in_s < -patience.overdue_s and (row.lease_in_s is None or row.lease_in_s < 0)
    look.overdue += overdue
    if row.lease_in_s is not None and row.lease_in_s < -patience.lease_s and row.id not in look.unread_rows:
        look.lease_over[row.id] = row
    elif row.id in look.unread_rows:
        if overdue and row.id not in look.delivered_rows:
            look.unread[row.id] = row
    elif row.id not in look.delivered_rows and _should_be_carried(look, row, patience):
        look.uncarried[row.id] = row


def _should_be_carried(look: Look, row: OwedRow, patience: Patience) -> bool:
    """Published a grace ago, under no live lease, and within what was compared of the stream."""
    assert row.published_at is not None
    bound = min(look.now, look.compared_to or look.now) - timedelta(seconds=patience.grace_s)
    return not look.cut and row.published_at < bound and (row.lease_in_s is None or row.lease_in_s < 0)
