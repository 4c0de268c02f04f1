"""The overview's cards: one for the events, one per channel. How fast, how far behind, in whose hands, how long it took. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.addresses import redis_command
from app.domain import Channel
from app.settings import Settings
from app.stream_stats import StreamStats
from app.streams import CHANNEL_OF, DEAD, channel_stream
from app.tally import EVENTS, Kind, percentiles
from web import links, sql
from web.away import Away
from web.backlog_queries import Backlog
from web.charts import ALWAYS, SHARES, Chart
from web.health import Finding, Level, Pace, title_of
from web.parts import Badge
from web.rate_queries import LATENCY_S
from web.snapshot import Snapshot
from web.words import duration, number, rate

UNKNOWN = "unknown"
TONES = {Level.OK: "ok", Level.BUSY: "busy", Level.WARN: "warn", Level.DOWN: "bad"}


@dataclass(frozen=True, slots=True)
class Fact:
    """A number, and the command that gives it. `tone`: remarkable, in this colour."""

    label: str
    text: str
    command: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """`tone` is that of the worst finding about it. `rates` are also the legend of the chart: each has its curve's tone."""

    title: str
    key: str
    link: str
    tone: str
    badge: Badge
    rates: tuple[Fact, ...]
    facts: tuple[Fact, ...]
    latency: tuple[Fact, ...]
    chart: Chart | None


def cards(settings: Settings, seen: Snapshot, found: Sequence[Finding], charts: Mapping[str, Chart]) -> tuple[Card, ...]:
    """Empty where Redis is away: the health line says so."""
    if isinstance(seen.now.streams, Away):
        return ()
    cli = redis_command(settings.redis_url)
    return tuple(_card(s, cli, seen, found, charts) for s in seen.now.streams if s.stream != DEAD)


def paces(seen: Snapshot) -> dict[str, Pace]:
    """Per channel's stream, what the health line's causes are made of."""
    counts = {} if isinstance(seen.now.rates, Away) else seen.now.rates.counts
    seconds = 1.0 if isinstance(seen.now.rates, Away) else seen.now.rates.seconds
    backlog: Mapping[Channel, Backlog] = {} if isinstance(seen.lately.backlog, Away) else seen.lately.backlog
    return {stream: _pace(channel, counts, seconds, backlog.get(channel, Backlog())) for stream, channel in CHANNEL_OF.items()}


def _pace(channel: Channel, counts: Mapping[tuple[str, str], int], seconds: float, backlog: Backlog) -> Pace:
    of = {kind: counts.get((channel, kind), 0) for kind in Kind}
    failing = of[Kind.FAILED] + of[Kind.RETRIED] + of[Kind.UNKNOWN]
    return Pace(
        of[Kind.ACCEPTED] / seconds, of[Kind.SENT] / seconds, failing + of[Kind.SENT], failing, backlog.cause
    )  # fmt: skip


def _card(s: StreamStats, cli: str, seen: Snapshot, found: Sequence[Finding], charts: Mapping[str, Chart]) -> Card:
    channel = CHANNEL_OF.get(s.stream)
    worst = next((f for f in found if s.stream in f.about and f.short), None)
    level = worst.level if worst else Level.BUSY if s.lag or s.pending or (channel and _sending(channel, seen)) else Level.OK
    return Card(
        title=title_of(s.stream) if channel else "Events",
        key=s.stream,
        link=links.stream(s.stream),
        tone=TONES[level] if worst else "mute",
        badge=Badge(worst.short if worst else "working" if level is Level.BUSY else "idle", TONES[level]),
        rates=_rates(channel, seen),
        facts=(*_stream_facts(s, cli, worst is not None), *(_row_facts(channel, seen) if channel else ())),
        latency=_latency(channel, seen) if channel else (),
        chart=charts.get(channel or EVENTS),
    )


def _sending(channel: Channel, seen: Snapshot) -> bool:
    """Is a call under way, or did one end just now? What is sent at once is on no stream, and where that takes a few milliseconds
    it has no row before.
    """
    known = {} if isinstance(seen.lately.backlog, Away) else seen.lately.backlog
    return known.get(channel, Backlog()).in_flight > 0 or paces(seen)[channel_stream(channel)].tries > 0


def _rates(channel: Channel | None, seen: Snapshot) -> tuple[Fact, ...]:
    shown = [(kind, label, tone) for kind, label, tone in ALWAYS if channel or kind in (Kind.ACCEPTED, Kind.FAILED)]
    rows = seen.now.rates
    if isinstance(rows, Away):
        return tuple(Fact(label, UNKNOWN, "", tone) for _, label, tone in shown)
    return tuple(
        Fact(
            label, rate(rows.counts.get((channel or EVENTS, kind), 0) / rows.seconds), sql.rate_of(channel or EVENTS, kind), tone
        )
        for kind, label, tone in shown
    )


def _stream_facts(s: StreamStats, cli: str, remarkable: bool) -> tuple[Fact, ...]:
    group = links.group_command(cli, s.stream)
    late = "late" if remarkable and s.oldest_unread_s else ""
    return (
        Fact("oldest", "–" if s.oldest_s is None else duration(s.oldest_s), links.oldest_command(cli, s.stream), late),
        Fact("to be read", UNKNOWN if s.lag is None else number(s.lag), group, late),
        Fact("in hand", number(s.pending), group),
        Fact("consumers", number(len(s.consumers)), links.consumers_command(cli, s.stream)),
    )


def _row_facts(channel: Channel, seen: Snapshot) -> tuple[Fact, ...]:
    known = seen.lately.backlog
    of = None if isinstance(known, Away) else known[channel]
    more = " or more" if of and of.capped else ""
    told = (
        ("being sent", of and f"{number(of.in_flight)}{more}", sql.in_flight(channel)),
        ("wait for a retry", of and f"{number(of.retrying)}{more}", sql.retrying(channel)),
        ("parked", of and f"{number(of.parked)}{more}", sql.parked(channel)),
        ("dead letters", of and number(of.dead), sql.dead(channel)),
    )
    return tuple(Fact(label, text or UNKNOWN, command) for label, text, command in told)


def _latency(channel: Channel, seen: Snapshot) -> tuple[Fact, ...]:
    known = seen.lately.latencies
    told = None if isinstance(known, Away) else percentiles(known.get(channel, {}), [share for _, share, _ in SHARES])
    command = sql.latencies(channel, LATENCY_S)
    return tuple(
        Fact(label, "–" if told is None else duration(told[i]), command, tone) for i, (label, _, tone) in enumerate(SHARES)
    )
