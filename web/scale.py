"""A scale of time that can be read for a story of 300 ms and for one of two hours: long idle waits are cut out of it. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

IDLE_SHARE = 0.5  # of all busy time: a longer idle wait is cut out
CUT_WIDTH = 74  # what is left of it
CUTS_SHARE = 0.6  # of the whole width, at most, for all that was cut out


@dataclass(frozen=True, slots=True)
class Piece:
    """From one instant to the next, in seconds, and where it is drawn. `cut`: not to scale."""

    start_s: float
    end_s: float
    x: float
    width: float
    cut: bool

    @property
    def lasts_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class Scale:
    """Pieces without a hole between them, from left to right."""

    pieces: tuple[Piece, ...]

    def x(self, at_s: float) -> float:
        """Where an instant is; before the first piece its beginning, after the last its end."""
        place = bisect_right(self.pieces, at_s, key=lambda piece: piece.start_s) - 1
        piece = self.pieces[max(0, place)]
        share = (at_s - piece.start_s) / piece.lasts_s if piece.lasts_s else 0.0
        return piece.x + piece.width * min(1.0, max(0.0, share))

    @property
    def cuts(self) -> tuple[Piece, ...]:
        return tuple(piece for piece in self.pieces if piece.cut)

    def runs(self) -> Iterator[tuple[Piece, ...]]:
        """Neighbours that are drawn to scale, together."""
        run: list[Piece] = []
        for piece in self.pieces:
            if not piece.cut:
                run.append(piece)
            elif run:
                yield tuple(run)
                run = []
        if run:
            yield tuple(run)


def make_scale(busy: Sequence[tuple[float, float]], instants: Iterable[float], x: float, width: float) -> Scale:
    """`busy` spans are drawn to scale, and so are short waits between them. `instants` are further ends of waits."""
    ends = sorted({*instants, *(end for span in busy for end in span)}) or [0.0]
    spans = list(pairwise(ends)) or [(ends[0], ends[0])]
    idle = [not any(start <= a and b <= end for start, end in busy) for a, b in spans]
    busy_s = sum(b - a for (a, b), waits in zip(spans, idle, strict=True) if not waits)
    cut = [waits and b - a > busy_s * IDLE_SHARE for (a, b), waits in zip(spans, idle, strict=True)]
    to_scale_s = sum(b - a for (a, b), out in zip(spans, cut, strict=True) if not out)
    cut_width = min(CUT_WIDTH, CUTS_SHARE * width / max(1, sum(cut))) if to_scale_s else width / max(1, sum(cut))
    per_s = (width - cut_width * sum(cut)) / to_scale_s if to_scale_s else 0.0
    pieces = []
    for (a, b), out in zip(spans, cut, strict=True):
        drawn = cut_width if out else (b - a) * per_s
        pieces.append(Piece(a, b, x, drawn, out))
        x += drawn
    return Scale(tuple(pieces))


def round_step(least_s: float) -> float:
    """The shortest round time that is at least `least_s`: 1, 2 or 5 times a power of ten; minutes and hours above."""
    for step in (60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400):
        if 20 < least_s <= step:
            return float(step)
    decade = 0.001
    while decade < least_s:
        decade *= 10
    return next(part for part in (decade / 5, decade / 2, decade) if part >= least_s)
