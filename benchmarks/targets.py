"""What Tidings must reach, and what it aims at: mostly in terms of what was measured beside it. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.results import PIPELINED, Results, times


@dataclass(frozen=True, slots=True)
class Target:
    """`form` shows a number; `lower`: less is better; `pipelined`: the same against the peer with pipelined connections."""

    what: str
    least: float
    aim: float
    measured: Callable[[Results], float | None]
    form: str = "{:.2f}x"
    lower: bool = False
    pipelined: Callable[[Results], float | None] = lambda _: None

    def judge(self, results: Results) -> str:
        """missed, reached, or aim; or that it was not measured."""
        value = self.measured(results)
        if value is None:
            return "not measured"
        sign = -1 if self.lower else 1
        return "missed" if sign * value < sign * self.least else "reached" if sign * value < sign * self.aim else "aim"


def _against(part: str, who: str) -> Callable[[Results], float | None]:
    return lambda results: results.times(part, "Tidings", who)


def _p99_of_peer(results: Results) -> float | None:
    return times(results.latency_ms(300, "Tidings", 0.99), results.latency_ms(300, "peer", 0.99))


TARGETS = (
    Target(
        "whole system, first POST to last SENT, against the peer",
        3,
        4.5,
        _against("whole", "peer"),
        pipelined=_against("whole", PIPELINED),
    ),
    Target("the same against the peer through Prisma", 11, 16, _against("whole", "Prisma")),
    Target(
        "drain, one consumer process, against the peer with one worker",
        3.5,
        5,
        _against("drain", "peer"),
        pipelined=_against("drain", PIPELINED),
    ),
    Target("accept, single POSTs, one API process, against the peer's", 2, 2.5, _against("accept", "peer")),
    Target("accept by batch against single POSTs, events/s", 3, 5, lambda r: r.times("batch", "Tidings", "Tidings", "accept")),
    Target("no-op engine, one process, against BullMQ's", 3, 5, _against("noop", "BullMQ")),
    Target(
        "POST to third SENT at 300 events/s, p99, against the peer",
        0.7,
        0.4,
        _p99_of_peer,
        lower=True,
    ),
    Target(
        "POST to third SENT at 1,000 events/s, p99",
        15,
        10,
        lambda r: r.latency_ms(1000, "Tidings", 0.99),
        "{:.1f} ms",
        lower=True,
    ),
    Target("share of the bare pipeline: drain", 0.33, 0.45, _against("drain", "bare"), "{:.0%}"),
    Target("share of the bare pipeline: whole system", 0.45, 0.6, _against("whole", "bare"), "{:.0%}"),
    Target(
        "resident memory of a consumer with a million events waiting",
        100,
        85,
        lambda r: r.peak_mb("million", "Tidings").get("consumer"),
        "{:.0f} MB",
        lower=True,
    ),
)
