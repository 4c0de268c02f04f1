"""What happens next to one event, and when, if nobody interferes: sentences from its rows and the settings. Pure."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from app.domain import Channel, CrashPolicy, EventStatus, Status
from app.models import Event, Notification
from app.settings import ChannelPolicy, Settings
from web.letter import clip
from web.lookups import StoryRows
from web.parts import moment
from web.words import duration

AGAIN = "a replay would start again from the first try"


def next_steps(settings: Settings, rows: StoryRows, halted: Mapping[Channel, str]) -> tuple[str, ...]:
    """One sentence or two per channel that has a future, or needs a person; one alone where all is done.

    `halted`: as web.paused has it.
    """
    told = [*_of_event(settings, rows.event, rows.now)]
    for n in rows.notifications:
        sentence = " ".join(_of_notification(settings, n, rows.now, halted))
        if sentence:
            told.append(f"{n.channel}: {sentence}")
    return tuple(told) or ("Nothing: all that was to be done is done.",)


def _of_event(settings: Settings, event: Event, now: datetime) -> Iterator[str]:
    if event.status == EventStatus.FAILED:
        yield f"Nothing by itself: the event failed as a whole; {AGAIN}."
    if event.status != EventStatus.NEW:
        return
    if event.lease_until is not None:
        yield from _of_claimed(settings, event.lease_until, now)
    elif event.published_at is not None:
        yield "A consumer reads it from the events stream, decides on channels, and puts a notification on each of theirs."
    elif event.due_at > now:
        yield f"The relay puts it on the events stream {_at(event.due_at, now)}; then it is routed."
    else:
        yield f"The relay puts it on the events stream within {duration(settings.relay_sweep_s)}; then it is routed."
    if event.expires_at is not None:
        yield f"What is not sent {_at(event.expires_at, now)} never will be: it expires then."


def _of_claimed(settings: Settings, until: datetime, now: datetime) -> Iterator[str]:
    """Of an event that is sent at once: NEW, and under this lease."""
    if until > now:
        yield (
            "It is being sent at once, and is routed when what came of that is recorded. "
            f"If that is not done when its hold ends, {_at(until, now)}, its consumer is gone, and another takes over."
        )
    else:
        yield (
            f"Its consumer is gone. Whoever meets its entry next, within about {duration(settings.reclaim_after_s)}, routes it "
            "as it was decided (the relay publishes it again where no stream carries it); then each channel is settled by itself."
        )


def _of_notification(settings: Settings, n: Notification, now: datetime, halted: Mapping[Channel, str]) -> Iterator[str]:
    policy = settings.channel_policy(Channel(n.channel)) if n.channel in set(Channel) else None
    match n.status:
        case Status.PENDING if policy:
            yield from _pending(settings, n, policy, now)
        case Status.PROCESSING if policy:
            yield from _processing(settings, n, policy, now)
        case Status.UNKNOWN:
            yield "nothing by itself, for it may have been sent. A late answer of the provider would settle it, else a person."
        case Status.FAILED:
            yield f"nothing by itself; {AGAIN}."
        case Status.CANCELLED:
            yield "nothing: it was stopped."
    if n.status == Status.PENDING and policy and Channel(n.channel) in halted:
        yield f"But the channel is paused {clip(halted[Channel(n.channel)], 300)}."


def _pending(settings: Settings, n: Notification, policy: ChannelPolicy, now: datetime) -> Iterator[str]:
    which = f"try {n.tries + 1} of {policy.max_tries}"
    if n.due_at > now:
        parked = "; until then it is parked in PostgreSQL, and on no stream" if n.published_at is None else ""
        yield f"{which} comes {_at(n.due_at, now)}{parked}."
    else:
        yield f"{which} is due: {_who(settings, n)}."
    waits = policy.waits_s[n.tries + 1 :]
    if waits:
        last = f", and the last, about {duration(sum(waits))} after that," if len(waits) > 1 else ""
        one = "the next" if last else "the last"
        yield f"If it fails for now, {one} comes about {duration(waits[0])} later{last} and then it is given up."
    else:
        yield "It is the last: if it fails, the notification is given up."


def _who(settings: Settings, n: Notification) -> str:
    if n.published_at is None:
        return f"the relay puts it on its stream within {duration(settings.relay_sweep_s)}"
    return "a consumer takes it from its stream as soon as one has room"


def _processing(settings: Settings, n: Notification, policy: ChannelPolicy, now: datetime) -> Iterator[str]:
    started = n.claimed_at or n.updated_at
    left_s = settings.provider_limit_s - (now - started).total_seconds()
    again = policy.crash_policy is CrashPolicy.AT_LEAST_ONCE
    then = "it is sent again, marked as a possible duplicate" if again else "it ends as UNKNOWN, and is not sent again"
    if left_s > 0:
        yield f"the provider has {duration(left_s)} left to answer. If it does not, nobody knows whether it was sent, and {then}."
    elif n.lease_until is not None and n.lease_until > now:
        yield f"the provider did not answer in time; what came of it is recorded before the hold ends, {_at(n.lease_until, now)}."
    else:
        soon = duration(settings.reclaim_after_s)
        yield f"its consumer is gone. Whoever meets it next, within about {soon}, settles it: {then}."


def _at(at: datetime, now: datetime) -> str:
    """ "in 28 s (2026-11-22 03:00:28Z)"; a time that is over is "at" that time."""
    left_s, utc = (at - now).total_seconds(), moment(at, now).utc
    return f"in {duration(left_s)} ({utc})" if left_s > 0 else f"at {utc}"
