"""What the overview says of a channel that its consumers have paused: since when, why, and how soon it is tried. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from app.domain import Channel
from app.pauses import Pause
from app.stream_stats import StreamStats
from app.streams import channel_stream
from web import words
from web.words import duration, number

Pauses = Mapping[Channel, list[Pause]]


def paused_words(pauses: Pauses, streams: list[StreamStats], now: datetime) -> dict[str, str]:
    """Per stream that is paused: the rest of a sentence that begins with its name."""
    by_key = {s.stream: s for s in streams}
    return {
        stream: _words(told, by_key[stream], now)
        for channel, told in pauses.items()
        if (stream := channel_stream(channel)) in by_key
    }


def _words(told: list[Pause], stream: StreamStats, now: datetime) -> str:
    longest = told[0]
    some = f" by {len(told)} of {len(stream.consumers)} consumers" if len(told) < len(stream.consumers) else ""
    waiting = f", {number(stream.length)} wait" if stream.length else ""
    ago = words.ago(now - timedelta(seconds=longest.since_s), now)
    probe = duration(max(longest.probe_every_s, longest.probe_in_s))
    return f"paused{some} {ago}: {longest.reason.rstrip('.')}; a probe every {probe}{waiting}"
