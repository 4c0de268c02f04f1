"""The overview: is it well? A line of health, a card per stream of work, counts, the newest. Records, built by pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.addresses import redis_command
from app.domain import EventStatus
from app.settings import Settings
from web import links, sql, words
from web.away import Away
from web.cards import Card, cards, paces
from web.charts import LATENCY, Chart
from web.counts import Count, CountRows, Precision
from web.fault_words import fault_findings
from web.health import Finding, Health, findings, health, patience
from web.parts import REFRESH_S, Badge, EventLine, Line, Moment, badge, event_line, limit_words, line, moment
from web.paused import paused_words
from web.rate_queries import SPANS, Span
from web.snapshot import Lately, Now, Snapshot

NO_CHARTS: Mapping[str, Chart] = {}


@dataclass(frozen=True, slots=True)
class Tile:
    """A count of one status, and the SQL that gives it. `link` None: there is no list of these."""

    badge: Badge
    count: str
    link: str | None
    command: str


@dataclass(frozen=True, slots=True)
class Range:
    """A range of the charts to choose."""

    name: str
    link: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class NowPart:
    """What changes by the second. Parts that could not be read are empty; the health line or `problems` say why."""

    health: Health
    problems: tuple[str, ...]
    deserted: bool  # no consumer at all
    made: Moment
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class LatelyPart:
    """What changes by the few seconds."""

    notifications: tuple[Tile, ...]
    events: tuple[Tile, ...]
    newest: tuple[Line, ...] | None
    failed_events: tuple[EventLine, ...]


@dataclass(frozen=True, slots=True)
class Overview:
    title: str
    refresh_s: int | None
    topic: str
    range: str
    ranges: tuple[Range, ...]
    charts_problem: str
    now: NowPart
    lately: LatelyPart
    latency: Chart | None
    time_command: str


def overview(
    settings: Settings, seen: Snapshot, span: Span = SPANS[0], charts: Mapping[str, Chart] | Away = NO_CHARTS
) -> Overview:
    drawn = NO_CHARTS if isinstance(charts, Away) else charts
    return Overview(
        title="Overview",
        refresh_s=REFRESH_S,
        topic="overview",
        range=span.name,
        ranges=tuple(Range(s.name, links.overview(range=s.name), s is span) for s in SPANS),
        charts_problem=charts.sentence if isinstance(charts, Away) and not isinstance(seen.now.owed, Away) else "",
        now=now_part(settings, seen, drawn),
        lately=lately_part(settings, seen.lately),
        latency=drawn.get(LATENCY),
        time_command=f"{redis_command(settings.redis_url)} TIME",
    )


def judged(settings: Settings, seen: Snapshot) -> tuple[Health, list[Finding]]:
    """How it is, and all that is remarkable."""
    now = seen.now
    pauses = {} if isinstance(now.pauses, Away) else now.pauses
    holds = {} if isinstance(now.holds, Away) else now.holds
    paused = {} if isinstance(now.streams, Away) else paused_words(pauses, holds, now.streams, now.at)
    found = findings(now.streams, now.owed, patience(settings), paused, paces(seen))
    found += [] if isinstance(now.faults, Away) else fault_findings(now.faults)
    backlog = {} if isinstance(seen.lately.backlog, Away) else seen.lately.backlog
    return health(now.streams, now.owed, found, sum(of.in_flight for of in backlog.values())), found


def now_part(settings: Settings, seen: Snapshot, charts: Mapping[str, Chart] = NO_CHARTS) -> NowPart:
    how, found = judged(settings, seen)
    return NowPart(
        health=how,
        problems=_problems(seen.now, seen.lately),
        deserted=not isinstance(seen.now.streams, Away) and not any(s.consumers for s in seen.now.streams),
        made=moment(seen.now.at, seen.now.at),
        cards=cards(settings, seen, found, charts),
    )


def lately_part(settings: Settings, lately: Lately) -> LatelyPart:
    limit, counts, newest, failed = limit_words(settings), lately.counts, lately.newest, lately.failed
    return LatelyPart(
        notifications=() if isinstance(counts, Away) else _tiles(counts),
        events=() if isinstance(counts, Away) else _event_tiles(counts),
        newest=None if isinstance(newest, Away) else tuple(line(row, lately.at, limit) for row in newest.listed),
        failed_events=() if isinstance(failed, Away) else tuple(event_line(event, lately.at, limit) for event in failed.events),
    )


def count_words(count: Count) -> str:
    """A count, with how well it is known."""
    if count.precision is Precision.ABOUT:
        return words.about(count.n)
    return f"{words.number(count.n)}{' or more' if count.precision is Precision.AT_LEAST else ''}"


def _problems(now: Now, lately: Lately) -> tuple[str, ...]:
    """What could not be read, once each; where a whole server is away the health line has said it."""
    asked = (now.rates, lately.counts, lately.newest, lately.failed, lately.backlog, lately.latencies)
    said = () if isinstance(now.owed, Away) else asked
    return tuple({a.sentence: None for a in said if isinstance(a, Away)})


def _tiles(counts: CountRows) -> tuple[Tile, ...]:
    return tuple(
        Tile(
            badge(s),
            count_words(n),
            links.notifications(status=s),
            sql.count_of(s),
        )
        for s, n in counts.notifications.items()
    )


def _event_tiles(counts: CountRows) -> tuple[Tile, ...]:
    order = (EventStatus.NEW, EventStatus.ROUTED, EventStatus.FAILED, EventStatus.CANCELLED)
    return tuple(Tile(badge(s), count_words(counts.events[s]), None, sql.event_count_of(s)) for s in order)
