"""The fault panel in sentences: which simulated provider is made to do what, and until when. Pure."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from math import ceil

from app.domain import Channel
from app.faults import Fault, Kind
from app.streams import channel_stream
from web.health import Finding, Level
from web.parts import moment
from web.words import duration

Faults = Mapping[Channel, Fault]


def what(fault: Fault) -> str:
    """What the provider is made to be."""
    match fault.kind:
        case Kind.SLOW:
            return f"slow ({duration(fault.amount)} a call)"
        case Kind.FLAKY:
            return f"flaky ({fault.amount:g} % of the calls fail)"
        case Kind.BUSY:
            return f"busy (429, Retry-After {duration(fault.amount)})"
        case Kind.DOWN:
            return "down (refuses connections)"
        case Kind.HANGING:
            return "silent (takes the message, never answers)"
        case Kind.REJECTING:
            return "strict (refuses each message for good)"


def fault_sentences(faults: Faults, now: datetime) -> Iterator[str]:
    """One per channel: "EMAIL is made slow (10 s a call) by the fault panel until 2026-11-22 03:15:00Z (14 min 2 s left)."."""
    for channel, fault in faults.items():
        until = moment(now + timedelta(seconds=fault.left_s), now)
        yield f"{channel} is made {what(fault)} by the fault panel until {until.utc} ({duration(fault.left_s)} left)."


def fault_findings(faults: Faults) -> Iterator[Finding]:
    """For the overview, in minutes: a sentence that changes by the second would be told to every open page each second."""
    for channel, fault in faults.items():
        left = duration(60 * ceil(fault.left_s / 60))
        sentence = f"{channel} is made {what(fault)} by the fault panel, for another {left} at most."
        yield Finding(Level.BUSY, sentence, (channel_stream(channel),), "fault set")
