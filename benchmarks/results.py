"""What a run found, and the few numbers that its tables say of it. Pure."""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PIPELINED = "peer, pipelined connections"  # "peer" has a pool of connections


@dataclass(frozen=True, slots=True)
class Rate:
    """Events/s; microseconds of CPU per event, and the most memory that was ever resident, by process."""

    per_s: float
    cpu_us: Mapping[str, float] = field(default_factory=dict)
    peak_mb: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Latency:
    """Of each event, in ms from when its POST was due: until the 202, a provider's answer at the latest, the third SENT."""

    accepted_ms: Sequence[float]
    called_ms: Sequence[float]
    sent_ms: Sequence[float]


@dataclass(slots=True)
class Results:
    """A list has one item for each round. `rates` by (part, who), `latencies` by (events/s offered, who); `facts` by name."""

    rates: dict[tuple[str, str], list[Rate]] = field(default_factory=lambda: defaultdict(list))
    latencies: dict[tuple[int, str], list[Latency]] = field(default_factory=lambda: defaultdict(list))
    facts: dict[str, float] = field(default_factory=dict)

    def per_s(self, part: str, who: str) -> float | None:
        """The median of the rounds; None: not measured."""
        rounds = self.rates.get((part, who))
        return statistics.median(r.per_s for r in rounds) if rounds else None

    def cpu_us(self, part: str, who: str) -> dict[str, float]:
        """The median of the rounds, by process; those that used none are left out."""
        rounds = self.rates.get((part, who), [])
        names = rounds[0].cpu_us if rounds else ()
        found = {name: statistics.median(r.cpu_us[name] for r in rounds) for name in names}
        return {name: us for name, us in found.items() if us >= 0.5}

    def peak_mb(self, part: str, who: str) -> dict[str, float]:
        """The highest of all rounds, by process."""
        rounds = self.rates.get((part, who), [])
        return {name: max(r.peak_mb[name] for r in rounds) for name in (rounds[0].peak_mb if rounds else ())}

    def latency_ms(self, per_s: int, who: str, share: float, until: str = "sent_ms") -> float | None:
        """A quantile of a round's events: the median of the rounds; `until` names a field of Latency. None: not measured."""
        rounds_ms = self.latency_rounds_ms(per_s, who, share, until)
        return statistics.median(rounds_ms) if rounds_ms else None

    def latency_rounds_ms(self, per_s: int, who: str, share: float, until: str = "sent_ms") -> list[float]:
        """The same quantile of each round."""
        return [quantile(getattr(one, until), share) for one in self.latencies.get((per_s, who), [])]

    def times(self, part: str, who: str, other: str, other_part: str | None = None) -> float | None:
        """How many times the rate of `other`."""
        return times(self.per_s(part, who), self.per_s(other_part or part, other))


def times(one: float | None, other: float | None) -> float | None:
    """One in terms of the other; None where either is not known."""
    return one / other if one is not None and other else None


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
