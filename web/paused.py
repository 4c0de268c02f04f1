"""What is said of a channel that is paused, by an operator or by its consumers: since when, why, and what ends it. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from app.domain import Channel
from app.pauses import Pause
from app.store.hold import Hold
from app.stream_stats import StreamStats
from app.streams import channel_stream
from web import words
from web.away import Away
from web.words import duration, number

Pauses = Mapping[Channel, list[Pause]]
Holds = Mapping[Channel, Hold]


def paused_words(pauses: Pauses, holds: Holds, streams: list[StreamStats], now: datetime) -> dict[str, str]:
    """Per stream that is paused: the rest of a sentence that begins with its name. Who is held by hand is not probed either."""
    read, said = {s.stream: s for s in streams}, {}
    for channel in Channel:
        stream = read.get(channel_stream(channel))
        if stream is not None and channel in holds:
            said[stream.stream] = held_words(channel, holds[channel], stream.length, now)
        elif stream is not None and channel in pauses:
            said[stream.stream] = _words(pauses[channel], stream, now)
    return said


def held_words(channel: Channel, hold: Hold, waiting: int, now: datetime) -> str:
    ago = words.ago(now - timedelta(seconds=hold.since_s), now)
    waits = f", {number(waiting)} wait" if waiting else ""
    return f"paused {ago} by {hold.words.rstrip('.')}; `tidings resume {channel}` ends it{waits}"


def _words(told: list[Pause], stream: StreamStats, now: datetime) -> str:
    longest = told[0]
    some = f" by {len(told)} of {len(stream.consumers)} consumers" if len(told) < len(stream.consumers) else ""
    waiting = f", {number(stream.length)} wait" if stream.length else ""
    ago = words.ago(now - timedelta(seconds=longest.since_s), now)
    probe = duration(max(longest.probe_every_s, longest.probe_in_s))
    return f"paused{some} {ago}: {longest.reason.rstrip('.')}; a probe every {probe}{waiting}"


def halted(pauses: Pauses | Away, holds: Holds | Away) -> dict[Channel, str]:
    """Per channel that sends nothing: why, and what it waits for, as the rest of "the channel is paused ..."."""
    by_breaker = {} if isinstance(pauses, Away) else pauses
    by_hand = {} if isinstance(holds, Away) else holds
    said = {c: f"({told[0].reason.rstrip('.')}): it waits until the provider answers again" for c, told in by_breaker.items()}
    return said | {c: f"by {hold.words.rstrip('.')}: it waits until somebody resumes it" for c, hold in by_hand.items()}
