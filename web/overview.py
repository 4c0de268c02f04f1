"""The overview: is it well? Streams, consumers, counts and the newest notifications, as records built by pure functions."""

from dataclasses import dataclass
from datetime import datetime

from app.addresses import redis_command
from app.domain import EventStatus
from app.settings import Settings
from app.stream_stats import StreamStats
from app.streams import DEAD
from web import links, sql, words
from web.away import Away
from web.counts import Count, CountRows, OwedRows, Precision
from web.failure_queries import BAD
from web.health import Health, health, patience, stream_name
from web.lookups import EventRows
from web.parts import REFRESH_S, Badge, EventLine, Line, Moment, badge, event_line, limit_words, line, moment
from web.paused import Pauses, paused_words
from web.queries import ListRows

CONSUMERS_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Cell:
    """A number and the command that gives it."""

    text: str
    command: str


@dataclass(frozen=True, slots=True)
class StreamLine:
    name: str
    key: str
    unread: Cell
    in_hand: Cell
    length: Cell
    oldest: Cell
    consumers: Cell
    paused: str  # why nothing is sent; empty: it is


@dataclass(frozen=True, slots=True)
class ConsumerLine:
    name: str
    stream: str
    pending: str
    idle: str
    silent: bool


@dataclass(frozen=True, slots=True)
class Tile:
    """A count of one status, and the SQL that gives it. `link` None: there is no list of these."""

    badge: Badge
    count: str
    link: str | None
    command: str


@dataclass(frozen=True, slots=True)
class Overview:
    """Parts that could not be read are empty; the health line or `problems` say why."""

    title: str
    refresh_s: int | None
    health: Health
    problems: tuple[str, ...]
    made: Moment
    streams: tuple[StreamLine, ...]
    time_command: str
    consumers: tuple[ConsumerLine, ...]
    consumers_left_out: int
    notifications: tuple[Tile, ...]
    events: tuple[Tile, ...]
    newest: tuple[Line, ...] | None
    failed_events: tuple[EventLine, ...]


def overview(
    settings: Settings,
    now: datetime,
    streams: list[StreamStats] | Away,
    owed: OwedRows | Away,
    counts: CountRows | Away,
    newest: ListRows | Away,
    failed: EventRows | Away,
    pauses: Pauses | Away,
) -> Overview:
    """`now` is PostgreSQL's where it answered."""
    cli, limit, limits = redis_command(settings.redis_url), limit_words(settings), patience(settings)
    read = [] if isinstance(streams, Away) else streams
    consumers = _consumer_lines(read, limits.silent_s)
    paused = {} if isinstance(pauses, Away) else paused_words(pauses, read, now)
    return Overview(
        title="Overview",
        refresh_s=REFRESH_S,
        health=health(streams, owed, limits, paused),
        problems=()
        if isinstance(owed, Away)
        else tuple({a.sentence: None for a in (counts, newest, failed) if isinstance(a, Away)}),
        made=moment(now, now),
        streams=tuple(_stream_line(s, cli, paused.get(s.stream, "")) for s in read),
        time_command=f"{cli} TIME",
        consumers=consumers[:CONSUMERS_SHOWN],
        consumers_left_out=max(0, len(consumers) - CONSUMERS_SHOWN),
        notifications=() if isinstance(counts, Away) else _tiles(counts),
        events=() if isinstance(counts, Away) else _event_tiles(counts),
        newest=None if isinstance(newest, Away) else tuple(line(row, now, limit) for row in newest.listed),
        failed_events=() if isinstance(failed, Away) else tuple(event_line(event, now, limit) for event in failed.events),
    )


def count_words(count: Count) -> str:
    """A count, with how well it is known."""
    if count.precision is Precision.ABOUT:
        return words.about(count.n)
    return f"{words.number(count.n)}{' or more' if count.precision is Precision.AT_LEAST else ''}"


def _stream_line(s: StreamStats, cli: str, paused: str) -> StreamLine:
    group, dead = links.group_command(cli, s.stream), s.stream == DEAD
    return StreamLine(
        name=stream_name(s.stream),
        key=s.stream,
        unread=Cell("–" if dead else "unknown" if s.lag is None else words.number(s.lag), group),
        in_hand=Cell("–" if dead else words.number(s.pending), group),
        length=Cell(words.number(s.length), links.length_command(cli, s.stream)),
        oldest=Cell("–" if s.oldest_s is None else words.duration(s.oldest_s), links.oldest_command(cli, s.stream)),
        consumers=Cell("–" if dead else words.number(len(s.consumers)), links.consumers_command(cli, s.stream)),
        paused=paused,
    )


def _consumer_lines(streams: list[StreamStats], silent_s: float) -> tuple[ConsumerLine, ...]:
    """The silent ones that hold work first, then by stream."""
    pairs = [(stream_name(s.stream), c) for s in streams for c in s.consumers]
    pairs.sort(key=lambda pair: not (pair[1].pending and pair[1].idle_s > silent_s))
    return tuple(
        ConsumerLine(c.name, stream, words.number(c.pending), words.duration(c.idle_s), c.idle_s > silent_s)
        for stream, c in pairs
    )


def _tiles(counts: CountRows) -> tuple[Tile, ...]:
    return tuple(
        Tile(
            badge(s),
            count_words(n),
            links.failures(status=s) if s in BAD else links.notifications(status=s),
            sql.count_of(s),
        )
        for s, n in counts.notifications.items()
    )


def _event_tiles(counts: CountRows) -> tuple[Tile, ...]:
    order = (EventStatus.NEW, EventStatus.ROUTED, EventStatus.FAILED, EventStatus.CANCELLED)
    return tuple(Tile(badge(s), count_words(counts.events[s]), None, sql.event_count_of(s)) for s in order)
