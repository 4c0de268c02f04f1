"""What the consistency check knows: per stream what PostgreSQL owes beside what the stream carries. Records only."""

from dataclasses import dataclass, field
from datetime import datetime

from app.store.consistency import Unsent


@dataclass(frozen=True, slots=True)
class Suspects:
    """What does not add up, and did not at a second look either. `ids` of rows, entries or consumers; `worst_s` the longest time
    it is so. `more`: there were more at the first look than were looked at again.
    """

    ids: tuple[str, ...] = ()
    worst_s: float = 0.0
    more: bool = False

    def __bool__(self) -> bool:
        return bool(self.ids)

    def count(self, one: str, many: str) -> str:
        """How many of what: "1 entry", "200 or more entries"."""
        return counted(len(self.ids), one, many, self.more)


NONE = Suspects()


@dataclass(frozen=True, slots=True)
class Owed:
    """Unfinished rows of one stream: published, parked, or sent `at_once`. `in_flight`: all of them that are under a live lease.

    `capped`: only so many were counted, oldest first.
    """

    published: int = 0
    parked: int = 0
    in_flight: int = 0
    at_once: int = 0
    capped: bool = False

    @property
    def all(self) -> int:
        return self.published + self.parked + self.at_once


@dataclass(frozen=True, slots=True)
class Carried:
    """What one stream holds. `lag` None: Redis does not know. `difference`: entries beyond lag and pending, at both looks.

    `compared` entries were held against their rows; of these `doubled` belong to a row that has an earlier one,
    `final` and `parked` to rows that need no entry.
    """

    length: int = 0
    lag: int | None = 0
    pending: int = 0
    difference: int = 0
    compared: int = 0
    doubled: int = 0
    final: int = 0
    parked: int = 0
    group: bool = True


@dataclass(frozen=True, slots=True)
class Book:
    """One stream. The first two kinds of suspects are published rows that no entry carries: `lost` the relay can take now,
    `hidden` it takes once older entries are done, or they are due.
    """

    stream: str
    owed: Owed = field(default_factory=Owed)
    carried: Carried = field(default_factory=Carried)
    lost: Suspects = NONE
    hidden: Suspects = NONE
    parked_late: Suspects = NONE  # parked, due, and not published
    lease_over: Suspects = NONE  # in mid-send, its lease over for long, and nobody took it over
    unread: Suspects = NONE  # long overdue, its entry unread, and nobody reads on
    strangers: Suspects = NONE  # entries without a row
    forgotten: Suspects = NONE  # entries that are neither pending nor unread
    emptied: Suspects = NONE  # pending, and their entry is gone
    idle: Suspects = NONE  # consumers with entries that are pending and idle for too long
    silent: Suspects = NONE  # entries delivered more than twice without an end; worst_s is that count
    paused: bool = False  # its provider does not answer, or by hand: nothing is read or taken over but for a probe now and then


@dataclass(frozen=True, slots=True)
class History:
    """What is wrong within the newest rows. None: not found out in time. At most SHOWN of each are answered."""

    unsent: list[Unsent] | None = None
    orphans: dict[int, bool] | None = None
    too_far: list[int] | None = None
    unproved: list[int] | None = None

    @property
    def complete(self) -> bool:
        return None not in (self.unsent, self.orphans, self.too_far, self.unproved)


@dataclass(frozen=True, slots=True)
class Facts:
    """`waited_s`: between the two looks, 0 where the first found nothing. `cut`: the time was over before all was compared.

    `kept`: keys of ours that should expire and do not.
    """

    now: datetime
    books: tuple[Book, ...]
    history: History
    kept: Suspects = NONE
    waited_s: float = 0.0
    cut: bool = False


def counted(n: int, one: str, many: str, more: bool = False) -> str:
    """A number and its noun; `more`: at least so many."""
    return f"{n:,}{' or more' if more else ''} {one if n == 1 and not more else many}"
