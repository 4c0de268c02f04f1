"""Lines over time, from what was counted: as SVG for the first paint and without JavaScript, as JSON for charts.js. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

from app.domain import Channel
from app.tally import EVENTS, Kind, percentiles
from web.rate_queries import ChartRows, Span
from web.words import duration, rate

WIDTH, HEIGHT = 600, 100  # of the SVG's own units; it is stretched to its place
LATENCY = "latency"
SHARES = (("p50", 0.5, "ok"), ("p95", 0.95, "busy"), ("p99", 0.99, "warn"))
# What a channel's chart always shows, and what only where there was any.
ALWAYS = (
    (Kind.ACCEPTED, "in", "busy"),
    (Kind.SENT, "sent", "ok"),
    (Kind.RETRIED, "retried", "warn"),
    (Kind.FAILED, "failed", "bad"),
)
SOMETIMES = ((Kind.UNKNOWN, "unknown", "wait"), (Kind.LIMITED, "rate limited", "mute"))

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Curve:
    """One line. `points` of its SVG polylines: a gap in the values ends one and begins another."""

    label: str
    tone: str
    points: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """`summary` says it in words; `top` is the value at the upper edge; `json` has all values."""

    key: str
    summary: str
    top: str
    curves: tuple[Curve, ...]
    json: str


def charts(rows: ChartRows) -> dict[str, Chart]:
    """One for the events, one per channel, and the latencies; by their keys ("" for events)."""
    times = points_of(rows.now, rows.span)
    drawn = {channel: _rates(rows, channel, times) for channel in (EVENTS, *Channel)}
    return {**drawn, LATENCY: _latencies(rows, times)}


def points_of(now: datetime, span: Span) -> list[datetime]:
    """When each point of a span begins; the last is over."""
    step = timedelta(seconds=span.step_s)
    end = datetime.fromtimestamp(now.timestamp() // span.step_s * span.step_s, UTC)
    number = span.seconds // span.step_s
    return [end - step * (number - i) for i in range(number)]


def all_json(drawn: Mapping[str, Chart]) -> bytes:
    """Every chart of a span, for a page that has been open for a while."""
    return b"{" + b",".join(orjson.dumps(chart.key) + b":" + chart.json.encode() for chart in drawn.values()) + b"}"


def _rates(rows: ChartRows, channel: str, times: Sequence[datetime]) -> Chart:
    shown = [k for k in ALWAYS if channel != EVENTS or k[0] in (Kind.ACCEPTED, Kind.FAILED)]
    shown += [k for k in SOMETIMES if rows.counts.get((channel, k[0]))]
    curves = [
        (label, tone, [round(rows.counts.get((channel, kind), {}).get(t, 0) / rows.span.step_s, 3) for t in times])
        for kind, label, tone in shown
    ]
    said = ", ".join(f"{label} {rate(max(v or 0 for v in values))}" for label, _, values in curves)
    return _chart(channel or "events", f"most per second: {said}", curves, times, rows.span, lambda top: f"{rate(top)}/s")


def _latencies(rows: ChartRows, times: Sequence[datetime]) -> Chart:
    told = [percentiles(rows.bins.get(t, {}), [share for _, share, _ in SHARES]) for t in times]
    curves = [
        (label, tone, [None if of is None else round(of[place], 4) for of in told])
        for place, (label, _, tone) in enumerate(SHARES)
    ]  # fmt: skip
    said = ", ".join(f"{label} {duration(max((v for v in values if v is not None), default=0))}" for label, _, values in curves)
    return _chart(LATENCY, f"longest: {said}", curves, times, rows.span, duration)


def _chart(key: str, said: str, curves: Sequence[tuple[str, str, Values]], times: Sequence[datetime], span: Span, words) -> Chart:  # type: ignore[no-untyped-def]
    top = max((v for _, _, values in curves for v in values if v is not None), default=0.0)
    data = {
        "start": int(times[0].timestamp()),
        "step": span.step_s,
        "unit": "s" if key == LATENCY else "/s",
        "curves": [{"label": label, "tone": tone, "values": values} for label, tone, values in curves],
    }
    drawn = tuple(Curve(label, tone, tuple(_polylines(values, top))) for label, tone, values in curves)
    return Chart(key, f"The last {span.name}, {said}", words(top) if top else "", drawn, orjson.dumps(data).decode())


def _polylines(values: Values, top: float) -> Iterable[str]:
    run: list[str] = []
    for place, value in enumerate([*values, None]):
        if value is not None:
            x = place * WIDTH / max(1, len(values) - 1)
            run.append(f"{x:.0f},{HEIGHT - (HEIGHT - 4) * value / top if top else HEIGHT:.1f}")
        elif run:
            yield " ".join(run if len(run) > 1 else [*run, run[0]])
            run = []
