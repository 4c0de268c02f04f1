"""What a run measures. Those who are compared take turns within a part, since the machine drifts."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.subject import Subject
from benchmarks.turns import BARE, PEER, PEER_PIPELINED, PRISMA, TIDINGS, Turn, Turns


@dataclass(frozen=True, slots=True)
class Part:
    """`rounds` times all turns, one after the other."""

    name: str
    rounds: int
    turns: Sequence[Turn]


def main_parts(make: Turns, with_peer: bool) -> list[Part]:
    """`make bench`: throughput, latency and what is used, beside ceiling and peer."""
    strong: list[Subject] = [PEER, PEER_PIPELINED] if with_peer else []
    slow: list[Subject] = [PRISMA] if with_peer else []
    return [
        Part("accept", 3, [make.accept(), make.accept_starlette(), *([make.accept_peer()] if with_peer else []), make.rows()]),
        Part("drain", 3, [make.drain(TIDINGS), make.drain(BARE), *map(make.drain, strong)]),
        Part("whole", 3, [make.whole(TIDINGS), make.whole(BARE), *map(make.whole, [*strong, *slow])]),
        Part("processes", 2, [make.drain(TIDINGS, 2), make.drain(TIDINGS, 4)]),
        Part("noop", 3, [make.noop(), make.streams(), *([make.noop_bullmq()] if with_peer else [])]),
        Part("latency", 5, [
            make.latency(TIDINGS, 100, 300, 1000),
            make.latency(BARE, 300, 1000),
            *([make.latency(PEER, 300, 1000)] if with_peer else []),
        ]),
        Part("waiting", 1, [make.memory()]),
    ]  # fmt: skip


def flat_parts(make: Turns) -> list[Part]:
    """`make bench-flat`: does an event cost the same whatever waits? And which updates are HOT."""
    return [
        Part("flat", 2, [make.thousand(), make.drain(TIDINGS), make.retries(), make.few_users(), make.many_users()]),
        Part("waiting", 1, [make.million()]),
        Part("hot", 1, [make.hot()]),
    ]  # fmt: skip


def alone(parts: Sequence[Part]) -> list[Part]:
    """The same without those beside Tidings."""
    return [Part(part.name, part.rounds, [turn for turn in part.turns if turn.who == TIDINGS.name]) for part in parts]
