"""Judges the streams: are they made, read, and emptied in time? Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from app.doctor.facts import Away, StreamFacts
from app.doctor.finding import Finding, fail, not_judged, ok, warn
from app.domain import Channel
from app.pauses import Pause
from app.settings import Settings
from app.store.hold import Hold
from app.stream_stats import StreamStats
from app.streams import CHANNEL_OF, DEAD, GROUP, WORK_STREAMS, channel_stream

FULL = 100_000  # entries
NO_HOLDS: Mapping[Channel, Hold] = {}


@dataclass(frozen=True, slots=True)
class Limits:
    """`entries` a stream may hold; seconds that an entry may wait unread, a consumer may be silent, an entry may be in hand."""

    entries: int
    waits_s: float
    silent_s: float
    pending_s: float


def limits(settings: Settings) -> Limits:
    """All times from the reclaim window: no call to a provider lasts longer than a lease, so a live consumer asks within it."""
    return Limits(FULL, settings.reclaim_after_s, settings.lease_s, 2 * settings.reclaim_after_s)


def streams(facts: StreamFacts | Away, may: Limits, holds: Mapping[Channel, Hold] = NO_HOLDS) -> Iterator[Finding]:
    """One line for each stream that is well, one for each fault of the others. `holds`: what is paused by hand."""
    if isinstance(facts, Away):
        yield from (not_judged(stream, "Redis") for stream in (*WORK_STREAMS, DEAD))
        return
    stats = {s.stream: s for s in facts.stats or ()}
    held = {channel_stream(channel): hold for channel, hold in holds.items()}
    paused = {channel_stream(channel): pauses for channel, pauses in facts.pauses.items()}
    for stream in (*WORK_STREAMS, DEAD):
        kind = facts.types[stream]
        if kind not in ("stream", "none"):
            yield _wrong_type(stream, kind)
        elif stream not in stats:
            yield warn(stream, "cannot be judged beside a key of the wrong type")
        elif stream == DEAD:
            yield _dead(stats[stream].length)
        elif stream in held:
            yield _held(stats[stream], held[stream])
        elif stream in paused:
            yield _paused(stats[stream], paused[stream])
        else:
            yield from _work(stats[stream], kind == "stream", facts.pending_idle_s.get(stream, 0.0), may)


def _work(stats: StreamStats, made: bool, pending_idle_s: float, may: Limits) -> Iterator[Finding]:
    faults = [*_read(stats, made, may), *_backlog(stats, may), *_pending(stats, pending_idle_s, may)]
    if not made:
        yield ok(stats.stream, "not made yet: nothing was ever published")
    elif not faults:
        waiting = "empty" if not stats.length else f"{stats.length:,} entries, {stats.pending:,} of them in hand"
        yield ok(stats.stream, f"{waiting}; consumers: {sum(_alive(stats, may))}")
    yield from faults


def _held(stats: StreamStats, hold: Hold) -> Finding:
    says = f"paused by hand for {hold.since_s:.0f} s, by {hold.words}; {stats.length:,} waiting"
    return warn(stats.stream, says, f"tidings resume {CHANNEL_OF[stats.stream]}")


def _paused(stats: StreamStats, pauses: Sequence[Pause]) -> Finding:
    """The one line about a stream that is left alone on purpose: nobody reads it but to probe."""
    longest, told, known = pauses[0], len(pauses), len(stats.consumers)
    some = f" by {told} of {known} consumers" if told < known else ""
    says = f"paused{some} for {longest.since_s:.0f} s: {' '.join(longest.reason.split())}; {stats.length:,} waiting"
    probe_s = max(longest.probe_every_s, longest.probe_in_s)
    return warn(stats.stream, f"{says}; a probe every {probe_s:.1f} s finds out when its provider answers")


def _read(stats: StreamStats, made: bool, may: Limits) -> Iterator[Finding]:
    if made and not stats.group:
        mend = f"tidings redis XGROUP CREATE '{stats.stream}' {GROUP} 0 MKSTREAM"
        yield fail(stats.stream, f"its group {GROUP} is missing", mend)
    elif not any(_alive(stats, may)):
        idle_s = min((c.idle_s for c in stats.consumers), default=None)
        since = "" if idle_s is None else f" (the last one asked {idle_s:.0f} s ago)"
        yield fail(stats.stream, f"no consumer reads {stats.stream}{since}", "tidings consumers")


def _alive(stats: StreamStats, may: Limits) -> list[bool]:
    return [c.idle_s <= may.silent_s for c in stats.consumers]


def _backlog(stats: StreamStats, may: Limits) -> Iterator[Finding]:
    more = "tidings consumers --processes 2 (beside those that run)"
    if stats.length > may.entries:
        yield fail(stats.stream, f"it is full: {stats.length:,} entries, more than {may.entries:,}", more)
    if stats.lag and (stats.oldest_unread_s or 0) > may.waits_s:
        says = f"{stats.lag:,} entries are unread, the oldest for {stats.oldest_unread_s:.0f} s, longer than {may.waits_s:g} s"
        yield warn(stats.stream, says, more)


def _pending(stats: StreamStats, idle_s: float, may: Limits) -> Iterator[Finding]:
    if idle_s > may.pending_s:
        says = f"a pending entry is untouched for {idle_s:.0f} s; within {may.pending_s:g} s a consumer takes it over"
        yield fail(stats.stream, says, "tidings consumers")
    if stats.lag is None:
        mend = f"tidings redis XPENDING '{stats.stream}' {GROUP}"
        yield warn(stats.stream, "pending entries have lost their content: somebody trimmed the stream", mend)


def _dead(length: int) -> Finding:
    if not length:
        return ok(DEAD, "no dead letters")
    look = f"tidings redis XRANGE '{DEAD}' - + COUNT 10"
    return warn(DEAD, f"{length:,} dead letter{'s' * (length > 1)}: entries that no row explains, each with its reason", look)


def _wrong_type(stream: str, kind: str) -> Finding:
    mend = f"tidings redis RENAME '{stream}' 'not-{stream}'"
    return fail(stream, f"is a {kind}, not a stream: something else uses the name", mend)
