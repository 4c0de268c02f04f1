"""Counts what happens, for the dashboard's rates and latencies: kept in memory, written every 2 s by app/tallying.py. Pure.

The hot path pays a dictionary's increment. What was counted since the last write dies with a process that is killed.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from app.domain import Channel, Status

EVENTS = ""  # the channel of what is counted before there are channels
UNTIMED = -1  # the bin of what has no latency
BINS_PER_DOUBLING = 4  # a bin is 19 % wide
BINS = 112  # the last one begins at 62 hours


class Kind(StrEnum):
    """What is counted: of events (no channel) `accepted` and `failed`, of a channel's notifications all of them."""

    ACCEPTED = "accepted"  # stored; of a channel: owed
    SENT = "sent"
    FAILED = "failed"
    LIMITED = "limited"  # FAILED by the rate limit, before any try
    RETRIED = "retried"  # a try that failed, and another follows
    UNKNOWN = "unknown"


class Key(NamedTuple):
    channel: str
    kind: Kind
    bin: int = UNTIMED


_KINDS = {Status.SENT: Kind.SENT, Status.FAILED: Kind.FAILED, Status.UNKNOWN: Kind.UNKNOWN, Status.PENDING: Kind.RETRIED}


class Tally:
    """The counts of one process since they were last taken. There are at most so many keys, however much is counted."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, Kind, int]] = Counter()  # a Key each; making one costs as much as all the rest

    def count(self, kind: Kind, channel: str = EVENTS, n: int = 1) -> None:
        if n:
            self._counts[channel, kind, UNTIMED] += n

    def count_channels(self, kind: Kind, channels: Iterable[Channel]) -> None:
        """One for each time that a channel is named."""
        for channel, n in Counter(channels).items():
            self._counts[channel, kind, UNTIMED] += n

    def ended(self, channel: Channel, status: Status | None, age_s: float | None = None) -> None:
        """The notification has this status after an attempt, or a claim; `age_s` since acceptance, where that tells anything."""
        kind = None if status is None else _KINDS.get(status)
        if kind is not None:
            self._counts[channel, kind, UNTIMED if age_s is None or kind is not Kind.SENT else bin_of(age_s)] += 1

    def take(self) -> dict[Key, int]:
        """What was counted; begins anew."""
        taken, self._counts = self._counts, Counter()
        return {Key(*key): n for key, n in taken.items()}


def bin_end_s(of: int) -> float:
    """The longest latency of a bin, in seconds: 1 ms, then four for each doubling."""
    return float(2 ** (of / BINS_PER_DOUBLING)) / 1000


_ENDS_S = [bin_end_s(of) for of in range(BINS - 1)]


def bin_of(seconds: float) -> int:
    """The bin of a latency; the last one has no end."""
    return bisect_left(_ENDS_S, seconds)


def percentiles(bins: Mapping[int, int], shares: Sequence[float]) -> list[float] | None:
    """The latencies in seconds below which these shares (0.5, 0.95) of all lie, within 10 %; None where nothing was timed."""
    timed = sorted((of, n) for of, n in bins.items() if of >= 0 and n > 0)
    total = sum(n for _, n in timed)
    return [_percentile(timed, share * total) for share in shares] if total else None


def _percentile(timed: Sequence[tuple[int, int]], rank: float) -> float:
    """Within a bin latencies are taken to be spread evenly on its scale."""
    below = 0
    for of, n in timed:
        if below + n >= rank:
            return bin_end_s(of) * 2 ** (((rank - below) / n - 1) / BINS_PER_DOUBLING)
        below += n
    return bin_end_s(timed[-1][0])
