"""What the dashboard looks up by id: an event and its story, a user and what they want. Read only, bounded like the lists."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, exists, or_, select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import defer
from sqlmodel import col

from app.domain import EventStatus
from app.models import Attempt, Event, Notification, Preference
from web.queries import SEARCHED_ROWS, reading
from web.walk_queries import EVENT_PKS


@dataclass(frozen=True, slots=True)
class EventRows:
    """Some events, newest first."""

    now: datetime
    events: list[Event]


@dataclass(frozen=True, slots=True)
class UserRows:
    """What a user wants, and the user's events among the newest SEARCHED_ROWS (an event's user has no index)."""

    now: datetime
    preference: Preference | None
    events: list[Event]


@dataclass(frozen=True, slots=True)
class StoryRows:
    """All that is known of one event; `attempts` by number."""

    now: datetime
    event: Event
    notifications: list[Notification]
    attempts: list[Attempt]


async def user(engine: AsyncEngine, user_id: str, most: int = 10) -> UserRows:
    """The preference and the newest events of one user."""
    async with reading(engine) as (session, now):
        events = await session.scalars(_without_payload().where(col(Event.id).in_(_event_ids(user_id, most))))
        return UserRows(now, await session.get(Preference, user_id), list(events))


async def user_exists(engine: AsyncEngine, user_id: str) -> bool:
    """Is there a preference, a notification, or a recent event of this user?"""
    known = (
        exists().where(col(Preference.user_id) == user_id),
        exists().where(col(Notification.user_id) == user_id, col(Notification.leads)),
        _event_ids(user_id, 1).exists(),
    )
    async with reading(engine) as (session, _):
        return bool(await session.scalar(select(or_(*known))))


async def events_by_id(engine: AsyncEngine, event_id: str, most: int = 20) -> EventRows:
    """The events with this id: at most one per source."""
    async with reading(engine) as (session, now):
        ids = list(await session.scalars(text(EVENT_PKS), {"event_id": event_id, "most": most}))
        events = await session.scalars(_without_payload().where(col(Event.id).in_(ids)))
        return EventRows(now, list(events))


async def failed_events(engine: AsyncEngine, most: int = 10) -> EventRows:
    """The newest events that FAILED as a whole: expired or dead letters, which never became notifications."""
    failed = _without_payload().where(col(Event.final_status) == EventStatus.FAILED).limit(most)
    async with reading(engine) as (session, now):
        return EventRows(now, list(await session.scalars(failed)))


async def story(engine: AsyncEngine, event_pk: int) -> StoryRows | None:
    """One event with its notifications and their attempts; None where there is no such row."""
    async with reading(engine) as (session, now):
        event = await session.get(Event, event_pk)
        if event is None:
            return None
        mine = select(Notification).where(col(Notification.event_pk) == event_pk).order_by(col(Notification.id))
        rows = list(await session.scalars(mine))
        theirs = select(Attempt).where(col(Attempt.notification_id).in_([n.id for n in rows])).order_by(col(Attempt.number))
        return StoryRows(now, event, rows, list(await session.scalars(theirs)))


def _without_payload() -> Select[Event]:
    """Events for a list, newest first: their payloads, 256 KiB at most, stay where they are."""
    return select(Event).options(defer(Event.payload)).order_by(col(Event.id).desc())  # type: ignore[arg-type]


def _event_ids(user_id: str, most: int) -> Select[int]:
    newest = select(col(Event.id), col(Event.user_id)).order_by(col(Event.id).desc()).limit(SEARCHED_ROWS).subquery()
    return select(newest.c.id).where(newest.c.user_id == user_id).order_by(newest.c.id.desc()).limit(most)
