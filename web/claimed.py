"""An event that is sent at once has no notifications yet: its claim is the first attempt at each, and tells them. Pure."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from app.domain import EventStatus, Status
from app.models import Event, Notification
from web.lookups import StoryRows
from web.words import each_decision


def with_claimed(rows: StoryRows) -> StoryRows:
    """The same, with the notifications of an event that is claimed and NEW: as they are written where their calls do not end."""
    event = rows.event
    if event.status != EventStatus.NEW or event.claimed_at is None:
        return rows
    return replace(rows, notifications=list(_claimed(event, event.claimed_at)))


def _claimed(event: Event, since: datetime) -> Iterator[Notification]:
    used = [channel for channel, used, _ in each_decision(event.decisions) if used]
    for row_id, channel in enumerate(used, event.first_id or 0):
        yield Notification(
            id=row_id, event_pk=event.id, channel=channel, user_id=event.user_id, status=Status.PROCESSING.value, attempt=1,
            tries=1, claimed_by=event.claimed_by, claimed_at=since, lease_until=event.lease_until, published_at=None,
            due_at=event.lease_until or since, expires_at=event.expires_at, created_at=since, updated_at=since,
        )  # fmt: skip
