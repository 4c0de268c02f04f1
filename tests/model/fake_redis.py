"""Redis as the product uses it: streams with one group, idle times, delivery counts, and a clock that drifts and jumps.

The rules are those measured on Valkey 9.1. An answer may get lost after the command took effect.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import NamedTuple

from app.streams import Entry, Head

BEGAN_S = 10_000.0  # so that no jump of the clock makes an id negative


class Away(Exception):
    """The server cannot be reached, or its answer was lost."""


class NoGroup(Exception):
    """The group is missing: FLUSHALL, DEL, failover."""


class Carried(NamedTuple):
    """What an entry says."""

    row_id: int
    published_at: float


@dataclass(slots=True)
class Pending:
    """An entry that was delivered and not acknowledged."""

    owner: str
    since: float
    deliveries: int


@dataclass(slots=True)
class Group:
    """The consumer group: the last id delivered, and the pending entries in the order of ids."""

    delivered: bytes = b""
    pending: dict[bytes, Pending] = field(default_factory=dict)


@dataclass(slots=True)
class Stream:
    """Entries in the order of ids."""

    entries: dict[bytes, Carried] = field(default_factory=dict)
    last: tuple[int, int] = (0, 0)
    group: Group | None = None

    def copy(self) -> "Stream":
        group = self.group and Group(
            self.group.delivered, {i: Pending(p.owner, p.since, p.deliveries) for i, p in self.group.pending.items()}
        )
        return Stream(dict(self.entries), self.last, group)

    def last_id_s(self) -> float:
        return self.last[0] / 1000


class FakeRedis:
    """`now` is the world's clock, `lose` may raise Away once a command is done."""

    def __init__(self, now: Callable[[], float], lose: Callable[[], None], rng: Random) -> None:
        self._now, self._lose = now, lose
        self.down, self.offset_s, self.rate = False, rng.uniform(-2, 2), rng.choice((1, 1, 1.001, 0.999))
        self.streams: dict[str, Stream] = {}
        self.buckets: dict[str, dict[int | str, float]] = {}

    def time(self) -> float:
        return BEGAN_S + self._now() * self.rate + self.offset_s

    def stream(self, name: str) -> Stream:
        if self.down:
            raise Away
        return self.streams.setdefault(name, Stream())

    def add(self, name: str, row_id: int, published_at: float) -> None:
        stream = self.stream(name)
        stream.last = max((round(self.time() * 1000), 0), (stream.last[0], stream.last[1] + 1))
        stream.entries[b"%013d-%04d" % stream.last] = Carried(row_id, published_at)
        self._lose()

    def create_group(self, name: str) -> None:
        stream = self.stream(name)
        stream.group = stream.group or Group()

    def read(self, name: str, me: str, count: int) -> list[Entry]:
        """Entries never delivered before. Where the answer is lost they are pending, and nobody knows."""
        stream, group = self._group(name)
        new = [i for i in stream.entries if i > group.delivered][:count]
        for entry_id in new:
            group.delivered, group.pending[entry_id] = entry_id, Pending(me, self.time(), 1)
        self._lose()
        return [Entry(i, stream.entries[i].row_id, 1) for i in new]

    def reclaim(self, name: str, me: str, min_idle_s: float, count: int) -> list[Entry]:
        stream, group = self._group(name)
        found: list[Entry] = []
        for entry_id, pending in sorted(group.pending.items()):
            if entry_id not in stream.entries:
                del group.pending[entry_id]
            elif len(found) < count and (min_idle_s <= 0 or self.time() - pending.since >= min_idle_s):
                pending.owner, pending.since, pending.deliveries = me, self.time(), pending.deliveries + 1
                found.append(Entry(entry_id, stream.entries[entry_id].row_id, pending.deliveries))
        return found

    def has(self, name: str, me: str, entry_id: bytes) -> bool:
        """XPENDING of one entry and one consumer."""
        pending = self._group(name)[1].pending.get(entry_id)
        return pending is not None and pending.owner == me

    def put_back(self, name: str, me: str, entry_id: bytes, idle_s: float, deliveries: int | None) -> None:
        """XCLAIM .. IDLE idle [RETRYCOUNT deliveries] JUSTID: idle time cannot be set into the future."""
        stream, group = self._group(name)
        if entry_id in group.pending and entry_id in stream.entries:
            kept = group.pending[entry_id].deliveries if deliveries is None else deliveries
            group.pending[entry_id] = Pending(me, self.time() - max(0.0, idle_s), kept)

    def acknowledge(self, name: str, entry_id: bytes) -> None:
        stream = self.stream(name)
        if stream.group:
            stream.group.pending.pop(entry_id, None)
        stream.entries.pop(entry_id, None)

    def head(self, name: str, ask_group: bool) -> Head:
        """The oldest entry the group still carries; those it forgot are removed."""
        stream, forgotten = self.stream(name), []
        if ask_group and stream.group:
            known = [i for i in stream.entries if i in stream.group.pending or i > stream.group.delivered]
            forgotten = [i for i in stream.entries if not known or i < known[0]]
            for entry_id in forgotten:
                del stream.entries[entry_id]
        for entry_id, carried in stream.entries.items():
            return Head(entry_id, datetime.fromtimestamp(carried.published_at, UTC), len(forgotten))
        return Head(None, None, len(forgotten))

    def charge(
        self, user: str, event: int, per_window: int, every_s: float, keep_s: float, remember: bool, reserve: bool
    ) -> float:
        """The token bucket, as token_bucket.lua: 0 go, -1 refused, otherwise the wait until the time reserved."""
        if self.down:
            raise Away
        bucket, now, span = self.buckets.setdefault(user, {}), self.time(), per_window * every_s
        reserved = bucket.get("reserved", 0.0)
        if remember and bucket.get(event, -1e9) > now - keep_s:
            return max(0.0, min(bucket[event], reserved) - now)
        full_at = max(min(bucket.get("full_at", 0.0), max(reserved, now) + span), now) + every_s
        wait = max(0.0, full_at - span - now)
        if wait > 0 and not reserve:
            return -1.0
        bucket[event], bucket["full_at"] = now + wait, full_at
        if wait > 0:
            bucket["reserved"] = now + wait
        return wait

    def _group(self, name: str) -> tuple[Stream, Group]:
        stream = self.stream(name)
        if stream.group is None:
            raise NoGroup
        return stream, stream.group
