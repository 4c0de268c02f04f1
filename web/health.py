"""Is it well? Decides the overview's first line from the streams and from what the database owes. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from app.settings import Settings
from app.stream_stats import StreamStats
from app.streams import CHANNEL_OF, DEAD
from web.away import POSTGRESQL, Away
from web.counts import OwedRows
from web.words import duration, number, plural, rate

NONE_PAUSED: Mapping[str, str] = {}
LATE_S = 10.0  # a person who waits for a code notices
TRIES_MIN = 10  # of fewer attempts a share says little
FAILING_SHARE = 0.5
COMPLAINING_SHARE = 0.25  # of what is late


class Level(IntEnum):
    """How bad it is; its name in lower case is the page's colour."""

    OK = 0
    BUSY = 1
    WARN = 2
    DOWN = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """`about`: the streams that it concerns; `short`: the same in a word or two, for their badges."""

    level: Level
    sentence: str
    about: tuple[str, ...] = ()
    short: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a channel is just now, how many of its attempts fail, and the commonest error of what waits."""

    arriving_per_s: float = 0.0
    sent_per_s: float = 0.0
    tries: int = 0
    failing: int = 0
    cause: str | None = None


NO_PACES: Mapping[str, Pace] = {}


@dataclass(frozen=True, slots=True)
class Health:
    """The headline is the worst that was found; the notes are the rest."""

    level: Level
    headline: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Patience:
    """When waiting becomes remarkable, in seconds."""

    silent_s: float  # no call to a provider lasts longer, so a live consumer has asked since
    in_hand_s: float  # short retries keep an entry pending for longer than one reclaim window
    lost_s: float  # by then the relay has published again what no stream carries


def patience(settings: Settings) -> Patience:
    """From the one setting that all times follow from."""
    return Patience(settings.lease_s, 3 * settings.reclaim_after_s, settings.reclaim_after_s)


def findings(
    streams: list[StreamStats] | Away,
    owed: OwedRows | Away,
    limits: Patience,
    paused: Mapping[str, str] = NONE_PAUSED,
    paces: Mapping[str, Pace] = NO_PACES,
) -> list[Finding]:
    """All that is remarkable, the worst first. `paused`: per stream, in words; `paces`: per stream, where known."""
    return sorted(_findings(streams, owed, limits, paused, paces), key=lambda finding: -finding.level)


def health(streams: list[StreamStats] | Away, owed: OwedRows | Away, found: Sequence[Finding], sending: int = 0) -> Health:
    """The worst of `findings` is the headline; where nothing is found, how much is being worked on.

    `sending`: notifications whose call is under way, where that is known.
    """
    if found and found[0].level > Level.BUSY:
        return Health(found[0].level, found[0].sentence, tuple(f.sentence for f in found[1:]))
    assert not isinstance(streams, Away), "a server that is away is a finding"
    assert not isinstance(owed, Away)
    level, headline = _calm([s for s in streams if s.stream != DEAD], owed, sending)
    return Health(level, headline, tuple(f.sentence for f in found))


def stream_name(stream: str) -> str:
    """The last part of its key: events, email, ..."""
    return stream.rpartition(":")[2]


def title_of(stream: str) -> str:
    """What its work is called: EMAIL, SMS, ..., events."""
    return CHANNEL_OF.get(stream, stream_name(stream))


def _calm(work: Sequence[StreamStats], owed: OwedRows, sending: int) -> tuple[Level, str]:
    unread, in_hand = sum(s.lag or 0 for s in work), sum(s.pending for s in work)
    if unread or in_hand or sending:
        held = f"{plural(in_hand, 'entry', 'entries')} in hand" if in_hand or not sending else ""
        sent, waiting = f"{number(sending)} being sent" if sending else "", f"{number(unread)} to be read" if unread else ""
        return Level.BUSY, f"Working: {', '.join(part for part in (held, sent, waiting) if part)}"
    if any(_since_s(row.published_at, owed) > LATE_S for row in owed.by_stream.values()):
        return Level.BUSY, "The streams are empty, and work in PostgreSQL waits for the relay to put it back"
    due = [row.parked_due_at for row in owed.by_stream.values() if row.parked_due_at is not None]
    wait_s = -_since_s(min(due), owed) if due else None
    if wait_s is None:
        return Level.OK, "All caught up"
    return Level.OK, f"All caught up; parked work is due {f'in {duration(wait_s)}' if wait_s > 0 else 'now'}"


def _since_s(time: datetime | None, owed: OwedRows) -> float:
    return 0.0 if time is None else (owed.now - time).total_seconds()


def _findings(
    streams: list[StreamStats] | Away,
    owed: OwedRows | Away,
    limits: Patience,
    paused: Mapping[str, str],
    paces: Mapping[str, Pace],
) -> Iterator[Finding]:
    if isinstance(owed, Away):
        yield Finding(Level.DOWN, f"{owed.sentence} New events are refused until it is back; nothing accepted is lost.")
    if isinstance(streams, Away):
        reassurance = "" if isinstance(owed, Away) else f" Nothing is lost, work waits in {POSTGRESQL}."
        yield Finding(Level.DOWN, f"{streams.sentence}{reassurance}")
        yield from _waiting_in_postgresql(owed)
        return
    work = [s for s in streams if s.stream != DEAD]
    unattended = list(_unattended(work, limits, paused))
    yield from unattended
    deserted = {stream for finding in unattended for stream in finding.about}
    for stream in work:
        if stream.stream in deserted:
            pass  # that nobody reads it is the reason for all else
        elif stream.stream in paused:
            yield Finding(Level.WARN, f"{title_of(stream.stream)} {paused[stream.stream]}.", (stream.stream,), "paused")
        else:
            yield from _late(stream, limits, paces.get(stream.stream))
            yield from _failing(stream.stream, paces.get(stream.stream))
        if isinstance(owed, OwedRows):
            yield from _off_stream(stream, owed, limits)
    yield from _dead(streams)


def _waiting_in_postgresql(owed: OwedRows | Away) -> Iterator[Finding]:
    if isinstance(owed, OwedRows):
        for stream, work in owed.by_stream.items():
            if work.published_at is not None:
                waited = duration(_since_s(work.published_at, owed))
                yield Finding(Level.BUSY, f"{title_of(stream)}: the oldest has waited {waited}.", (stream,))


def _unattended(work: Sequence[StreamStats], limits: Patience, paused: Mapping[str, str]) -> Iterator[Finding]:
    """Streams that nobody reads, together: they mostly fail together."""
    alone = [s for s in work if s.stream not in paused and all(c.idle_s > limits.silent_s for c in s.consumers)]
    if not alone:
        return
    names = "Every stream" if len(alone) == len(work) else ", ".join(title_of(s.stream) for s in alone)
    about = tuple(s.stream for s in alone)
    waiting = sum(s.length for s in alone)
    silent_s = min((c.idle_s for s in alone for c in s.consumers), default=None)
    who = "no consumer is connected" if silent_s is None else f"no consumer has asked for {duration(silent_s)}"
    if waiting:
        yield Finding(Level.DOWN, f"{names}: {plural(waiting, 'entry waits', 'entries wait')} and {who}.", about, "nobody reads")
    else:
        yield Finding(Level.WARN, f"{names}: {who}. Nothing waits yet.", about, "nobody reads")


def _late(stream: StreamStats, limits: Patience, pace: Pace | None) -> Iterator[Finding]:
    name, about = title_of(stream.stream), (stream.stream,)
    oldest_s, unread_s = stream.oldest_s or 0.0, stream.oldest_unread_s or 0.0
    if stream.lag is None:
        sentence = f"{name}: how much is unread cannot be known, pending entries have lost their content."
        yield Finding(Level.WARN, sentence, about, "lag unknown")
    elif stream.lag and unread_s > LATE_S:
        behind = duration(unread_s)
        sentence = f"{name} is {behind} behind, {number(stream.lag)} to be read{_why_late(pace)}."
        yield Finding(Level.WARN, sentence, about, f"{behind} behind")
    elif stream.pending and oldest_s > limits.in_hand_s:
        sentence = f"{name}: an entry that was added {duration(oldest_s)} ago is still in hand{_complaint(pace)}."
        yield Finding(Level.WARN, sentence, about, "stuck")


def _why_late(pace: Pace | None) -> str:
    """The provider's complaint where many attempts end with it, or else that more comes in than goes out."""
    if pace is None or pace.failing >= COMPLAINING_SHARE * pace.tries:
        return _complaint(pace)
    if pace.arriving_per_s > pace.sent_per_s > 0:
        return f": {rate(pace.arriving_per_s)} a second come in, {rate(pace.sent_per_s)} are sent"
    return ""


def _complaint(pace: Pace | None) -> str:
    return "" if pace is None or not pace.cause else f": attempts fail with “{pace.cause.rstrip('.')}”"


def _failing(stream: str, pace: Pace | None) -> Iterator[Finding]:
    if pace is None or pace.tries < TRIES_MIN or pace.failing < FAILING_SHARE * pace.tries:
        return
    share, complaint = round(100 * pace.failing / pace.tries), f" with “{pace.cause.rstrip('.')}”" if pace.cause else ""
    yield Finding(Level.WARN, f"{title_of(stream)}: {share} % of its attempts fail{complaint}.", (stream,), f"{share} % fail")


def _off_stream(stream: StreamStats, owed: OwedRows, limits: Patience) -> Iterator[Finding]:
    """The relay's business: what is due and on no stream."""
    name, of, about = title_of(stream.stream), owed.by_stream[stream.stream], (stream.stream,)
    published_s, overdue_s = _since_s(of.published_at, owed), _since_s(of.parked_due_at, owed)
    if not stream.length and published_s > limits.lost_s:
        sentence = f"{name}: unfinished for {duration(published_s)} and on no stream; the relay should have put it back."
        yield Finding(Level.WARN, sentence, about, "off stream")
    if overdue_s > limits.silent_s:
        sentence = f"{name}: parked work is overdue by {duration(overdue_s)}; the relay should have published it."
        yield Finding(Level.WARN, sentence, about, "overdue")


def _dead(streams: Sequence[StreamStats]) -> Iterator[Finding]:
    dead = sum(s.length for s in streams if s.stream == DEAD)
    if dead:
        yield Finding(Level.OK, f"{plural(dead, 'dead letter')} on the dead stream: entries that no row explains.")
