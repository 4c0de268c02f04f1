"""The streams: all of them on one page, each with its consumers and entries on its own. Records, built by pure functions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.addresses import redis_command
from app.settings import Settings
from app.stream_stats import ConsumerStats, StreamStats
from app.streams import CHANNEL_OF, DEAD, EVENTS
from web import links, words
from web.away import Away
from web.cards import TONES, Fact
from web.health import Finding, Level, patience, stream_name, title_of
from web.overview import judged
from web.parts import REFRESH_S, Badge, Bar, Command, Moment, bar_rows, moment
from web.snapshot import Snapshot
from web.stream_queries import DELIVERIES_READ, FIELDS_SHOWN, Entry, StreamRows

CONSUMERS_SHOWN = 60
VALUE_CHARS = 300


@dataclass(frozen=True, slots=True)
class ConsumerLine:
    """`host` and `pid` are parts of its name; empty where it is not one of ours."""

    name: str
    host: str
    pid: str
    stream: str
    badge: Badge
    pending: str
    asked: str
    got: str


@dataclass(frozen=True, slots=True)
class StreamLine:
    """`facts`: as many for every stream, in the order of the columns."""

    name: str
    key: str
    link: str
    carries: str
    badge: Badge
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class StreamsPart:
    """What changes by the second."""

    problem: str
    lines: tuple[StreamLine, ...]
    consumers: tuple[ConsumerLine, ...]
    consumers_left_out: int


@dataclass(frozen=True, slots=True)
class Streams:
    title: str
    refresh_s: int | None
    topic: str
    part: StreamsPart
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class EntryLine:
    """One entry. `row_link`: the story of what it carries, where its fields say so."""

    id: str
    added: Moment
    badge: Badge
    held: str
    fields: tuple[tuple[str, str], ...]
    fields_left_out: int
    row_link: str | None


@dataclass(frozen=True, slots=True)
class StreamPage:
    """One stream. `order` says which end of it comes first."""

    title: str
    section: str
    refresh_s: int | None
    key: str
    carries: str
    badge: Badge
    problem: str
    facts: tuple[Fact, ...]
    consumers: tuple[ConsumerLine, ...]
    consumers_left_out: int
    deliveries: tuple[Bar, ...]
    deliveries_note: str
    entries: tuple[EntryLine, ...]
    newest_first: bool
    older_first_link: str
    newest_first_link: str
    more: str | None
    back: str | None
    commands: tuple[Command, ...]
    pause_link: str | None  # where its channel is paused and resumed


def streams(settings: Settings, seen: Snapshot) -> Streams:
    cli = redis_command(settings.redis_url)
    commands = (
        Command("all keys", f"{cli} --scan --pattern 'tidings:*'"),
        Command("the server's clock, for ages", f"{cli} TIME"),
    )
    return Streams("Streams", REFRESH_S, "streams", streams_part(settings, seen), commands)


def streams_part(settings: Settings, seen: Snapshot) -> StreamsPart:
    """From the same look as the overview."""
    read = seen.now.streams
    if isinstance(read, Away):
        return StreamsPart(f"{read.sentence} Nothing is lost, work waits in PostgreSQL.", (), (), 0)
    cli, silent_s = redis_command(settings.redis_url), patience(settings).silent_s
    _, found = judged(settings, seen)
    consumers = _consumer_lines(read, seen.now.at, silent_s)
    lines = tuple(_stream_line(s, cli, found) for s in read)
    return StreamsPart("", lines, consumers[:CONSUMERS_SHOWN], max(0, len(consumers) - CONSUMERS_SHOWN))


def stream_page(settings: Settings, seen: Snapshot, rows: StreamRows | Away, stream: str, newest_first: bool) -> StreamPage:
    """One stream; `rows` has the entries that were asked for."""
    read = rows if isinstance(rows, StreamRows) else None
    cli, silent_s = redis_command(settings.redis_url), patience(settings).silent_s
    _, found = judged(settings, seen)
    consumers = _consumer_lines([read.stats], seen.now.at, silent_s) if read else ()
    order = {"order": "newest"} if newest_first else {}
    return StreamPage(
        title=title_of(stream),
        section="Streams",
        refresh_s=REFRESH_S if read is None or read.first_page else None,
        key=stream,
        carries=_carries(stream),
        badge=_badge(read.stats, found) if read else Badge("cannot be read", "bad"),
        problem=rows.sentence if isinstance(rows, Away) else "",
        facts=_facts(read.stats, cli) if read else (),
        consumers=consumers[:CONSUMERS_SHOWN],
        consumers_left_out=max(0, len(consumers) - CONSUMERS_SHOWN),
        deliveries=_deliveries(read) if read else (),
        deliveries_note=_deliveries_note(read) if read else "",
        entries=tuple(_entry_line(entry, read) for entry in read.entries) if read else (),
        newest_first=newest_first,
        older_first_link=links.stream(stream),
        newest_first_link=links.stream(stream, order="newest"),
        more=links.stream(stream, **order, after=read.next_after) if read and read.next_after else None,
        back=links.stream(stream, **order) if read and not read.first_page else None,
        commands=_commands(cli, stream),
        pause_link=f"{links.ENGINE}#channels" if stream in CHANNEL_OF else None,
    )


def _stream_line(s: StreamStats, cli: str, found: Sequence[Finding]) -> StreamLine:
    return StreamLine(title_of(s.stream), s.stream, links.stream(s.stream), _carries(s.stream), _badge(s, found), _facts(s, cli))


def _badge(s: StreamStats, found: Sequence[Finding]) -> Badge:
    if s.stream == DEAD:
        return Badge("look at them", "warn") if s.length else Badge("empty", "ok")
    worst = next((f for f in found if s.stream in f.about and f.short), None)
    if worst is not None:
        return Badge(worst.short, TONES[worst.level])
    return Badge("working", TONES[Level.BUSY]) if s.lag or s.pending else Badge("idle", TONES[Level.OK])


def _carries(stream: str) -> str:
    if stream == EVENTS:
        return "events, until they are routed"
    if stream == DEAD:
        return "entries that no row explains"
    return f"{CHANNEL_OF[stream]} notifications, until they are sent"


def _facts(s: StreamStats, cli: str) -> tuple[Fact, ...]:
    group, dead = links.group_command(cli, s.stream), s.stream == DEAD
    oldest = "–" if s.oldest_s is None else words.duration(s.oldest_s)
    unread = "–" if s.oldest_unread_s is None or dead else words.duration(s.oldest_unread_s)
    return (
        Fact("length", words.number(s.length), links.length_command(cli, s.stream)),
        Fact("lag", "–" if dead else "unknown" if s.lag is None else words.number(s.lag), group),
        Fact("pending", "–" if dead else words.number(s.pending), group),
        Fact("oldest", oldest, links.oldest_command(cli, s.stream)),
        Fact("oldest unread", unread, links.unread_command(cli, s.stream)),
        Fact("consumers", "–" if dead else words.number(len(s.consumers)), links.consumers_command(cli, s.stream)),
    )


def _consumer_lines(read: Sequence[StreamStats], now: datetime, silent_s: float) -> tuple[ConsumerLine, ...]:
    """The silent ones that hold work first, then by stream."""
    pairs = [(s.stream, c) for s in read for c in s.consumers]
    pairs.sort(key=lambda pair: not (pair[1].pending and pair[1].idle_s > silent_s))
    return tuple(_consumer_line(stream, c, now, silent_s) for stream, c in pairs)


def _consumer_line(stream: str, c: ConsumerStats, now: datetime, silent_s: float) -> ConsumerLine:
    host, pid = (c.name.rsplit("-", 2)[:2]) if c.name.count("-") >= 2 else ("", "")
    if c.idle_s > silent_s:
        badge = Badge("silent" if c.pending else "gone", "bad" if c.pending else "mute")
    else:
        badge = Badge("working", "busy") if c.pending else Badge("waiting", "ok")
    got = "never" if c.inactive_s is None else f"{words.duration(c.inactive_s)} ago"
    asked = f"{words.duration(c.idle_s)} ago"
    return ConsumerLine(c.name, host, pid, title_of(stream), badge, words.number(c.pending), asked, got)


def _deliveries(rows: StreamRows) -> tuple[Bar, ...]:
    counted = Counter(min(n, 9) for n in rows.deliveries)
    return bar_rows((_times(n), counted[n]) for n in sorted(counted))


def _times(deliveries: int) -> str:
    if deliveries == 0:
        return "handled, waits for a retry"
    return words.plural(deliveries, "time") if deliveries < 9 else "9 times or more"


def _deliveries_note(rows: StreamRows) -> str:
    if len(rows.deliveries) < DELIVERIES_READ:
        return ""
    return f"Of the {words.number(DELIVERIES_READ)} oldest pending entries; {words.number(rows.stats.pending)} are pending."


def _entry_line(entry: Entry, rows: StreamRows) -> EntryLine:
    fields = tuple((_text(name), _text(value)) for name, value in entry.fields[:FIELDS_SHOWN])
    named = dict(fields)
    added = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=min(entry.added_ms, 253_402_300_799_000))
    held = entry.held
    return EntryLine(
        id=entry.id,
        added=moment(added, rows.now),
        badge=_entry_badge(entry, rows),
        held=""
        if held is None
        else f"by {held.consumer}, idle for {words.duration(held.idle_s)}, delivered {words.plural(held.deliveries, 'time')}",
        fields=fields,
        fields_left_out=max(0, len(entry.fields) - FIELDS_SHOWN),
        row_link=links.search(named["event_id"]) if "event_id" in named else None,
    )


def _entry_badge(entry: Entry, rows: StreamRows) -> Badge:
    if rows.stats.stream == DEAD:
        return Badge("dead", "bad")
    if entry.held is not None and not entry.held.deliveries:
        return Badge("waits for a retry", "wait")
    if entry.held is not None:
        return Badge("pending", "busy" if entry.held.deliveries <= 2 else "warn")
    return Badge("to be read", "wait") if entry.unread else Badge("forgotten", "bad")


def _text(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    return text if len(text) <= VALUE_CHARS else text[:VALUE_CHARS] + "…"


def _commands(cli: str, stream: str) -> tuple[Command, ...]:
    told = [
        Command("length", links.length_command(cli, stream)),
        Command("lag, pending, last delivered", links.group_command(cli, stream)),
        Command("consumers", links.consumers_command(cli, stream)),
        Command("pending entries: consumer, idle time, deliveries", links.pending_command(cli, stream, DELIVERIES_READ)),
        Command("entries, oldest first", links.entries_command(cli, stream)),
        Command("oldest: its id starts with milliseconds", links.oldest_command(cli, stream)),
        Command("oldest unread: the first after last-delivered-id", links.unread_command(cli, stream)),
        Command("the server's clock", f"{cli} TIME"),
    ]
    return tuple(c for c in told if stream != DEAD or ("XINFO" not in c.text and "XPENDING" not in c.text))


def known_stream(name: str) -> str | None:
    """The key of a stream by the last part of it; None where it is none of ours."""
    every = (EVENTS, *CHANNEL_OF, DEAD)
    return next((key for key in every if stream_name(key) == name), None)
