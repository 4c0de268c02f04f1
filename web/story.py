"""The story of one event: accepted, decided, tried, ended. Built from its rows by pure functions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.addresses import redis_command
from app.domain import Channel, EventStatus, Status
from app.models import Attempt, Event, Notification
from app.settings import Settings
from web import links, sql, words
from web.away import Away
from web.claimed import with_claimed
from web.entries import Found
from web.entry_views import EntryView, entry_note, entry_view
from web.lookups import StoryRows
from web.next_steps import next_steps
from web.parts import OUTCOME_TONES, REFRESH_S, Badge, Command, Moment, badge, limit_words, moment
from web.payload import pretty
from web.timeline import Timeline, timeline


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened, or that will. `before` is the wait that led to it; `facts` are short, `error` is as recorded."""

    title: str
    tone: str
    when: Moment | None = None
    before: str = ""
    facts: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class ChannelStory:
    """What became of the event on one channel. `badge` None: the channel was not used."""

    channel: str
    badge: Badge | None
    sentence: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Story:
    title: str
    refresh_s: int | None
    event_id: str
    source: str
    event_type: str
    user: str
    user_link: str
    badge: Badge
    timeline: Timeline
    steps: tuple[Step, ...]
    channels: tuple[ChannelStory, ...]
    next: tuple[str, ...]
    payload: str
    payload_cut: bool
    entries: tuple[EntryView, ...]
    entry_note: str
    commands: tuple[Command, ...]

    @property
    def tried(self) -> tuple[ChannelStory, ...]:
        """The channels that have a notification."""
        return tuple(channel for channel in self.channels if channel.badge)


NONE_HALTED: Mapping[Channel, str] = {}


def story(
    settings: Settings, rows: StoryRows, found: Sequence[Found] | Away = (), halted: Mapping[Channel, str] = NONE_HALTED
) -> Story:
    """`found`: its entries that are still on a stream; `halted`: as web.paused has it.

    The page refreshes itself until all is final.
    """
    rows = with_claimed(rows)
    event, now, limit, cli = rows.event, rows.now, limit_words(settings), redis_command(settings.redis_url)
    payload, cut = pretty(event.payload)
    finished = event.status != EventStatus.NEW and all(Status(n.status).final for n in rows.notifications)
    return Story(
        title=f"Event {event.event_id}",
        refresh_s=None if finished else REFRESH_S,
        event_id=event.event_id,
        source=event.source,
        event_type=event.type,
        user=event.user_id,
        user_link=links.user(event.user_id),
        badge=badge(event.status),
        timeline=timeline(rows, limit),
        steps=tuple(_event_steps(event, now, limit)),
        channels=tuple(_channels(rows, limit)),
        next=next_steps(settings, rows, halted),
        payload=payload,
        payload_cut=cut,
        entries=() if isinstance(found, Away) else tuple(entry_view(one, cli) for one in found),
        entry_note=found.sentence if isinstance(found, Away) else entry_note(rows, len(found), cli),
        commands=sql.story(event.id),
    )


def _event_steps(event: Event, now: datetime, limit: str) -> Iterator[Step]:
    facts = [f"happened {moment(event.occurred_at, now).utc}, by the client's clock"]
    if event.expires_at is not None:
        facts.append(f"not to be sent after {moment(event.expires_at, now).utc}")
    yield Step("Accepted", "ok", moment(event.created_at, now), facts=tuple(facts))
    if event.status != EventStatus.NEW:
        yield _routed(event, now, limit)
    elif event.claimed_at is not None:
        yield _sent_at_once(event, event.claimed_at, now)
    else:
        yield _not_yet_routed(event, now)


def _routed(event: Event, now: datetime, limit: str) -> Step:
    facts = [words.reason(event.reason, limit)] if event.reason else []
    if event.status == EventStatus.ROUTED and event.decisions is None:
        facts.append("sent directly: the caller chose the channel")
    if event.claimed_at is not None and event.updated_at > event.claimed_at:
        facts.append(f"sent at once by {event.claimed_by}, whose hold ended before it recorded what came of it")
    before = _waited(event.created_at, event.updated_at)
    when = moment(event.updated_at, now)
    return Step(event.status.capitalize(), badge(event.status).tone, when, before, tuple(facts), event.error or "")


def _sent_at_once(event: Event, since: datetime, now: datetime) -> Step:
    facts = (f"consumer {event.claimed_by}", *_hold(event.lease_until, now, "the next one to see its entry routes it"))
    return Step("Being sent at once", "busy", moment(since, now), _waited(event.created_at, since), facts)


def _not_yet_routed(event: Event, now: datetime) -> Step:
    due = moment(event.due_at, now)
    if event.published_at is None and event.due_at > now:
        asked = event.send_at is not None and event.send_at >= event.due_at
        why = "as the event asked" if asked else "put off by the rate limit"
        return Step("To be routed", "wait", due, facts=(f"parked until then, {why}",))
    if event.published_at is None:
        return Step("To be routed", "wait", due, facts=("due, and parked: the relay publishes it",))
    return Step("To be routed", "wait", moment(event.published_at, now), facts=("on the events stream since then",))


def _channels(rows: StoryRows, limit: str) -> Iterator[ChannelStory]:
    """The channels decided upon, in the order of the decision; then notifications without one (sent directly)."""
    by_channel = {n.channel: n for n in rows.notifications}
    for channel, used, code in words.each_decision(rows.event.decisions):
        because = words.decision(used, code, limit)
        notification = by_channel.pop(channel, None)
        if notification is None:
            yield ChannelStory(channel, None, because, ())
        else:
            yield _channel(notification, because.removeprefix("used, "), rows, limit)
    for notification in by_channel.values():
        yield _channel(notification, "", rows, limit)


def _channel(n: Notification, because: str, rows: StoryRows, limit: str) -> ChannelStory:
    state = words.status(n.status, n.reason, n.tries, limit)
    if n.status == Status.PENDING:
        state = f"{state}: {_due(n, rows.now)}"
    joint = "; " if ":" in state else ", "
    sentence = joint.join(part for part in (state, because if because != state else "") if part)
    attempts = [a for a in rows.attempts if a.notification_id == n.id]
    return ChannelStory(n.channel, badge(n.status), sentence, tuple(_steps(n, attempts, rows.now, limit)))


def _steps(n: Notification, attempts: list[Attempt], now: datetime, limit: str) -> Iterator[Step]:
    since, number, told = n.created_at, 0, None
    for attempt in attempts:
        yield from _released(number + 1, attempt.number)
        yield _attempt_step(attempt, _waited(since, attempt.started_at), now)
        since, number, told = attempt.ended_at, attempt.number, attempt.error
    if n.status == Status.PROCESSING:
        yield from _released(number + 1, n.attempt)
        yield _open_attempt(n, since, now)
        return
    yield from _released(number + 1, n.attempt + 1)
    fresh = n.error if n.error and n.error != told else ""
    if n.status == Status.PENDING:
        yield _next_try(n, now, fresh)
    elif n.status != Status.SENT:
        yield _ended(n, now, fresh, limit)


def _released(first: int, after: int) -> Iterator[Step]:
    """Numbers without an attempt row: claims given back before anything was sent."""
    if first < after:
        which = f"Attempt {first}" if after - first == 1 else f"Attempts {first} to {after - 1}"
        yield Step(f"{which}: given back, nothing was sent", "mute")


def _attempt_step(attempt: Attempt, before: str, now: datetime) -> Step:
    took = words.duration((attempt.ended_at - attempt.started_at).total_seconds())
    facts = [f"took {took}", f"provider {attempt.provider}" if attempt.provider else "", f"consumer {attempt.consumer}"]
    facts += [f"receipt {attempt.receipt}" if attempt.receipt else "", "possible duplicate" if attempt.possible_duplicate else ""]
    title = f"Attempt {attempt.number}: {words.outcome(attempt.outcome)}"
    tone = OUTCOME_TONES.get(attempt.outcome, "mute")
    return Step(title, tone, moment(attempt.started_at, now), before, tuple(f for f in facts if f), attempt.error or "")


def _open_attempt(n: Notification, since: datetime, now: datetime) -> Step:
    """The open attempt is the notification's row itself."""
    started = n.claimed_at or n.updated_at
    facts = [f"for {words.duration((now - started).total_seconds())}", f"consumer {n.claimed_by}"]
    facts += _hold(n.lease_until, now, "the next one to see it decides")
    if n.possible_duplicate:
        facts.append("possible duplicate")
    return Step(f"Attempt {n.attempt}: being sent now", "busy", moment(started, now), _waited(since, started), tuple(facts))


def _hold(until: datetime | None, now: datetime, then: str) -> Iterator[str]:
    """`then`: what follows once it has ended."""
    if until is not None and until >= now:
        yield f"held for another {words.duration((until - now).total_seconds())}"
    elif until is not None:
        yield f"its hold ended {words.duration((now - until).total_seconds())} ago: the consumer is gone, {then}"


def _next_try(n: Notification, now: datetime, error: str) -> Step:
    title = words.capital(_due(n, now))
    where = "parked: the relay publishes it when due"
    if n.published_at is not None:
        where = f"put on its stream {words.ago(n.published_at, now)}"
    return Step(title, "wait", moment(n.due_at, now), facts=(where,), error=error)


def _due(n: Notification, now: datetime) -> str:
    wait_s = (n.due_at - now).total_seconds()
    due = f"due in {words.duration(wait_s)}" if wait_s > 0 else f"has been due for {words.duration(-wait_s)}"
    return f"{'first' if n.attempt == 0 else 'next'} try {due}"


def _ended(n: Notification, now: datetime, error: str, limit: str) -> Step:
    title = words.capital(words.status(n.status, n.reason, n.tries, limit))
    facts = ("replay it, or leave it",) if n.status == Status.UNKNOWN else ()
    return Step(title, badge(n.status).tone, moment(n.updated_at, now), facts=facts, error=error)


def _waited(since: datetime, until: datetime) -> str:
    return f"{words.duration((until - since).total_seconds())} later"
