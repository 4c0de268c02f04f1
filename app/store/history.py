"""What was and is: one event's story, and one user's notifications. Read only, through SQLModel, on the indexes of schema.sql."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Text, cast
from sqlalchemy import select as sql_select
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import defer
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.domain import Status
from app.models import Attempt, Event, Notification
from app.store.of_user import newest

# The payload is read as text instead, and goes out unparsed.
WITHOUT_PAYLOAD = defer(Event.payload)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class AttemptStory:
    """One call to a provider. The open one, under way now, has no `outcome` and no `duration_ms` yet."""

    number: int
    provider: str | None
    consumer: str
    started_at: datetime
    duration_ms: float | None
    outcome: str | None
    error: str | None
    possible_duplicate: bool


@dataclass(frozen=True, slots=True)
class NotificationStory:
    """One notification of an event. `due_at` None: it is final."""

    id: int
    channel: str
    status: str
    reason: str | None
    error: str | None
    tries: int
    possible_duplicate: bool
    due_at: datetime | None
    created_at: datetime
    updated_at: datetime
    attempts: tuple[AttemptStory, ...]


@dataclass(frozen=True, slots=True)
class EventStory:
    """All that is known of one event. `payload_json` is its payload as JSON text."""

    event_id: str
    source: str
    type: str
    user_id: str
    payload_json: str
    occurred_at: datetime
    status: str
    reason: str | None
    error: str | None
    channels: list[str] | None
    send_at: datetime | None
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime
    decisions: dict[str, Any]
    notifications: tuple[NotificationStory, ...]


@dataclass(frozen=True, slots=True)
class NotificationLine:
    """A notification in a list, with what is its event's."""

    id: int
    event_id: str
    event_type: str
    user_id: str
    channel: str
    status: str
    reason: str | None
    error: str | None
    attempts: int
    payload_json: str
    created_at: datetime
    updated_at: datetime


async def event_story(engine: AsyncEngine, source: str, event_id: str) -> EventStory | None:
    """The story of one event as of one moment; None: there is no such event."""
    async with AsyncSession(engine.execution_options(isolation_level="REPEATABLE READ")) as session:
        one = select(Event, _payload_json()).options(WITHOUT_PAYLOAD)
        found = (await session.exec(one.where(Event.source == source, Event.event_id == event_id))).first()
        if found is None:
            return None
        event, payload_json = found
        its = select(Notification).where(Notification.event_pk == event.id).order_by(col(Notification.id))
        notifications = (await session.exec(its)).all()
        theirs = select(Attempt).where(col(Attempt.notification_id).in_([n.id for n in notifications]))
        attempts = (await session.exec(theirs.order_by(col(Attempt.number)))).all()
        return _event_story(event, payload_json, notifications, attempts)


async def user_notifications(
    engine: AsyncEngine, user_id: str, status: str | None, channel: str | None, before_id: int | None, limit: int
) -> list[NotificationLine]:
    """One user's notifications, newest first; of one status or channel, or with ids below `before_id`, where given."""
    row_id = col(Notification.id)
    query = select(Notification, Event, _payload_json()).join(Event, col(Event.id) == col(Notification.event_pk))
    async with AsyncSession(engine) as session:
        found = (await newest(session, user_id, status, channel, before_id, limit)).subquery()
        query = query.options(WITHOUT_PAYLOAD).where(row_id.in_(sql_select(found.c.id)))
        return [_line(*row) for row in await session.exec(query.order_by(row_id.desc()))]


async def notification_line(engine: AsyncEngine, notification_id: int) -> NotificationLine | None:
    """One notification; None: there is none with this id."""
    query = select(Notification, Event, _payload_json()).join(Event, col(Event.id) == col(Notification.event_pk))
    async with AsyncSession(engine) as session:
        found = (await session.exec(query.options(WITHOUT_PAYLOAD).where(Notification.id == notification_id))).first()
    return None if found is None else _line(*found)


def _payload_json() -> ColumnElement[Any]:
    return cast(col(Event.payload), Text)


def _line(notification: Notification, event: Event, payload_json: str) -> NotificationLine:
    return NotificationLine(
        id=notification.id,
        event_id=event.event_id,
        event_type=event.type,
        user_id=notification.user_id,
        channel=notification.channel,
        status=notification.status,
        reason=notification.reason,
        error=notification.error,
        attempts=notification.attempt,
        payload_json=payload_json,
        created_at=notification.created_at,
        updated_at=notification.updated_at,
    )


def _event_story(
    event: Event, payload_json: str, notifications: Sequence[Notification], attempts: Sequence[Attempt]
) -> EventStory:
    return EventStory(
        event_id=event.event_id,
        source=event.source,
        type=event.type,
        user_id=event.user_id,
        payload_json=payload_json,
        occurred_at=event.occurred_at,
        status=event.status,
        reason=event.reason,
        error=event.error,
        channels=event.channels,
        send_at=event.send_at,
        expires_at=event.expires_at,
        created_at=event.created_at,
        updated_at=event.updated_at,
        decisions=event.decisions or {},
        notifications=tuple(_notification_story(n, [a for a in attempts if a.notification_id == n.id]) for n in notifications),
    )


def _notification_story(notification: Notification, attempts: Sequence[Attempt]) -> NotificationStory:
    told = [_attempt_story(attempt) for attempt in attempts]
    if notification.status == Status.PROCESSING:
        told.append(_open_attempt(notification))
    return NotificationStory(
        id=notification.id,
        channel=notification.channel,
        status=notification.status,
        reason=notification.reason,
        error=notification.error,
        tries=notification.tries,
        possible_duplicate=notification.possible_duplicate,
        due_at=None if Status(notification.status).final else notification.due_at,
        created_at=notification.created_at,
        updated_at=notification.updated_at,
        attempts=tuple(told),
    )


def _attempt_story(attempt: Attempt) -> AttemptStory:
    return AttemptStory(
        number=attempt.number,
        provider=attempt.provider,
        consumer=attempt.consumer,
        started_at=attempt.started_at,
        duration_ms=round((attempt.ended_at - attempt.started_at).total_seconds() * 1000, 3),
        outcome=attempt.outcome,
        error=attempt.error,
        possible_duplicate=attempt.possible_duplicate,
    )


def _open_attempt(notification: Notification) -> AttemptStory:
    """The attempt under way is the notification's row itself: its attempt row is written when it ends."""
    return AttemptStory(
        number=notification.attempt,
        provider=None,
        consumer=notification.claimed_by or "",
        started_at=notification.claimed_at or notification.updated_at,
        duration_ms=None,
        outcome=None,
        error=None,
        possible_duplicate=notification.possible_duplicate,
    )
