"""One event's story as a drawing: a lane for the event and one per channel, each attempt a bar as long as it took. Pure geometry.

Times are seconds since the event was accepted, coordinates whole units of the drawing. The list of steps says the same in words.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from app.domain import EventStatus, Status
from web import words
from web.lanes import Lane, Span, lanes_of, left_out, seconds_since
from web.letter import clip
from web.lookups import StoryRows
from web.scale import Scale, make_scale, round_step

WIDTH, LEFT, RIGHT = 1000, 76, 24
TOP, LANE, BAR, LEAST = 46, 46, 22, 4  # LEAST: the narrowest bar that can be seen
SIGN_ROOM = 15  # a bar as wide as this has room for its sign
TICK_ROOM, MARK_ROOM = 92, 20


@dataclass(frozen=True, slots=True)
class Bar:
    """An attempt. `label` stands above it, `sign` in it; both empty where there is no room."""

    x: int
    y: int
    width: int
    height: int
    kind: str
    tone: str
    sign: str
    label: str
    says: str


@dataclass(frozen=True, slots=True)
class Thread:
    """A wait: a thin line."""

    x1: int
    x2: int
    y: int
    kind: str


@dataclass(frozen=True, slots=True)
class Mark:
    x: int
    y: int
    tone: str
    sign: str
    says: str


@dataclass(frozen=True, slots=True)
class Text:
    x: int
    y: int
    text: str


@dataclass(frozen=True, slots=True)
class Strip:
    """A wait that was cut out of the scale; `text` is how long it was, empty where there is no room."""

    x: int
    width: int
    middle: int
    text: str
    says: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """What the SVG prints. `now_x` None: all is over. `left_out`: attempts that are not drawn."""

    width: int
    height: int
    top: int
    names: tuple[Text, ...]
    ticks: tuple[Text, ...]
    strips: tuple[Strip, ...]
    threads: tuple[Thread, ...]
    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]
    now_x: int | None
    left_out: int


def timeline(rows: StoryRows, limit: str) -> Timeline:
    """The drawing of one event. `limit` is the sentence of the rate limit."""
    lanes, since = lanes_of(rows, limit), rows.event.created_at
    over = rows.event.status != EventStatus.NEW and all(Status(n.status).final for n in rows.notifications)
    return draw(lanes, None if over else seconds_since(since, rows.now), left_out(rows))


def draw(lanes: tuple[Lane, ...], now_s: float | None, not_drawn: int = 0) -> Timeline:
    """Where everything is. `now_s` None: all is over."""
    busy = [(s.start_s, s.end_s) for lane in lanes for s in lane.spans if s.kind in ("attempt", "open")]
    ends = {end for lane in lanes for s in lane.spans for end in (s.start_s, s.end_s)}
    ends |= {lane.end.end_s for lane in lanes if lane.end}
    scale = make_scale(busy, {0.0, *ends, *(() if now_s is None else (now_s,))}, LEFT, WIDTH - LEFT - RIGHT)
    middles = [TOP + LANE * n + LANE // 2 for n in range(len(lanes))]
    placed = list(zip(lanes, middles, strict=True))
    return Timeline(
        width=WIDTH,
        height=TOP + LANE * len(lanes) + 6,
        top=TOP,
        names=tuple(Text(0, y + 5, clip(lane.name, 9)) for lane, y in placed),
        ticks=tuple(_ticks(scale)),
        strips=tuple(_strips(scale)),
        threads=tuple(_thread(s, y, scale) for lane, y in placed for s in lane.spans if s.kind in ("wait", "due")),
        bars=tuple(bar for lane, y in placed for bar in _bars(lane, y, scale)),
        marks=tuple(mark for lane, y in placed for mark in _marks(lane, y, scale)),
        now_x=None if now_s is None else round(scale.x(now_s)),
        left_out=not_drawn,
    )


def _thread(span: Span, y: int, scale: Scale) -> Thread:
    return Thread(round(scale.x(span.start_s)), round(scale.x(span.end_s)), y, span.kind)


def _bars(lane: Lane, y: int, scale: Scale) -> Iterator[Bar]:
    free = 0
    for span in lane.spans:
        if span.kind not in ("attempt", "open"):
            continue
        x, end = round(scale.x(span.start_s)), round(scale.x(span.end_s))
        width = max(LEAST, end - x)
        took = words.duration(span.end_s - span.start_s)
        room = x >= free
        free = x + max(width, 7 * len(took)) + 4 if room else free
        sign = span.sign if width >= SIGN_ROOM else ""
        yield Bar(x, y - BAR // 2, width, BAR, span.kind, span.tone, sign, took if room else "", span.says)


def _marks(lane: Lane, y: int, scale: Scale) -> Iterator[Mark]:
    end_x = WIDTH if lane.end is None else round(scale.x(lane.end.end_s))
    if lane.name == "Event" and end_x - round(scale.x(0)) > MARK_ROOM:
        yield Mark(round(scale.x(0)), y, "ok", "●", "Accepted")
    for span in lane.spans:
        if span.kind == "due":
            yield Mark(
                round(scale.x(span.end_s)), y, "wait", "○", f"{span.says}, {words.duration(span.end_s)} after it was accepted"
            )
    if lane.end is not None:
        yield Mark(end_x, y, lane.end.tone, lane.end.sign, lane.end.says)


def _strips(scale: Scale) -> Iterator[Strip]:
    for piece in scale.cuts:
        x, end, lasts = round(piece.x), round(piece.x + piece.width), words.duration(piece.lasts_s)
        room = piece.width >= 6.2 * len(lasts) + 4
        yield Strip(x, end - x, (x + end) // 2, lasts if room else "", f"{lasts} in which nothing happened, not drawn to scale")


def _ticks(scale: Scale) -> Iterator[Text]:
    """One where each run begins, then round times as far apart as their words need."""
    free, told = 0.0, ""
    for run in scale.runs():
        start_s, end_s, width = run[0].start_s, run[-1].end_s, sum(piece.width for piece in run)
        least_s = TICK_ROOM * (end_s - start_s) / width if width else 0.0
        for at_s in (start_s, *_round_times(start_s, end_s, least_s)):
            x, text = scale.x(at_s), f"+{words.duration(at_s)}" if at_s else "0"
            if x >= free and text != told:
                yield Text(round(x), 14, text)
                free, told = x + 7 * len(text) + 10, text


def _round_times(start_s: float, end_s: float, least_s: float) -> Iterator[float]:
    if least_s <= 0 or end_s - start_s < least_s:
        return
    step = round_step(least_s)
    first = int(start_s / step) + 1
    yield from (n * step for n in range(first, int(end_s / step) + 1))
