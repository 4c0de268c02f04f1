"""`tidings seed`: a few sample users and a little history, so that the dashboard shows something at once.

The rows say what a running system would have written: attempts, decisions and reasons agree. Their events have the source
SOURCE, by which they are known again: a second run adds nothing. One notification still waits for its retry; it is delivered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import orjson

from app.accept import prepare
from app.addresses import dashboard_url
from app.domain import (
    Channel,
    Decision,
    DecisionReason,
    Event,
    EventStatus,
    Outcome,
    Preference,
    Reason,
    Status,
    decide_channels,
)
from app.resources import open_resources
from app.seed_samples import PREFERENCES, SAMPLES, Note, Sample, Try
from app.settings import Settings

SOURCE = "tidings-seed"
CONSUMER = "seed"

# A user of real events keeps what they have: no row means that everything is on.
ADD_PREFERENCE = """
insert into preference (user_id, email_opt_in, sms_opt_in, push_opt_in)
select $1, $2, $3, $4
where not exists (
  select from notification n join event e on e.id = n.event_pk where n.user_id = $1 and n.leads and e.source <> $5
)
on conflict (user_id) do nothing returning user_id
"""

ADD_EVENT = """
insert into event (source, event_id, type, user_id, payload, occurred_at, body_hash, channels, status, reason, error, decisions,
  due_at, published_at, expires_at, created_at, updated_at)
values ($1, $2, $3, $4, $5::json, $6, $7, $8, $9, $10, $11, $12::jsonb, $13, $13, $14, $13, $15)
on conflict (source, event_id) do nothing returning id
"""

ADD_NOTIFICATION = """
insert into notification (event_pk, channel, user_id, status, reason, error, attempt, tries, possible_duplicate, claimed_by,
  claimed_at, due_at, published_at, created_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9, $10, $11, $12, $13, $14) returning id
"""

ADD_ATTEMPT = """
insert into attempt
  (notification_id, number, provider, consumer, started_at, ended_at, outcome, error, receipt, possible_duplicate)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""


class SeedError(Exception):
    """Nothing was added. The message is one line that says why."""


@dataclass(frozen=True, slots=True)
class Seeded:
    """How much was added; nothing where it was there already."""

    users: int
    events: int


async def run(settings: Settings, force: bool) -> None:
    """Add the samples and print what was added. Raises SeedError and resources.Unreachable."""
    async with open_resources(settings, "seed", pool_size=1) as resources, resources.pool.acquire() as connection:
        try:
            added = await seed(connection, force)
        except asyncpg.UndefinedTableError:
            raise SeedError("there are no tables yet: run `tidings schema apply` (or `tidings dev`) first") from None
    if added == Seeded(0, 0):
        print("nothing added: the samples are there already")
    else:
        print(f"added {added.events} events and the preferences of {added.users} users: see {dashboard_url(settings)}")


async def seed(connection: Any, force: bool = False) -> Seeded:
    """All or nothing, in one transaction of an asyncpg connection. Raises SeedError where others are there, unless `force`."""
    async with connection.transaction():
        if not force and await connection.fetchval("select exists (select from event where source <> $1)", SOURCE):
            raise SeedError("this database holds real events; `tidings seed --force` adds the samples beside them")
        users = [
            await connection.fetchval(ADD_PREFERENCE, user, wants.email, wants.sms, wants.push, SOURCE)
            for user, wants in PREFERENCES.items()
        ]
        now = await connection.fetchval("select now()")
        events = [await _add(connection, sample, now - timedelta(minutes=sample.minutes_ago)) for sample in SAMPLES]
    return Seeded(sum(user is not None for user in users), sum(events))


async def _add(connection: Any, sample: Sample, accepted: datetime) -> bool:
    """One event with all that followed; False where it is there already."""
    event_pk = await connection.fetchval(ADD_EVENT, *_event_columns(sample, accepted))
    if event_pk is None:
        return False
    for note in sample.notes:
        routed = accepted + timedelta(seconds=sample.routed_after_s)
        notification_id = await connection.fetchval(ADD_NOTIFICATION, event_pk, *_notification_columns(sample, note, routed))
        await connection.executemany(ADD_ATTEMPT, _attempt_columns(notification_id, note.tries, routed))
    return True


def decisions(sample: Sample, preference: Preference) -> Mapping[Channel, Decision]:
    """What route would have decided: the channels of the notes are used, or refused by the rate limit."""
    limited = any(note.reason is Reason.RATE_LIMITED for note in sample.notes)
    decided = decide_channels(sample.channels, preference)
    refusal = Decision(False, DecisionReason.RATE_LIMITED)
    return {channel: refusal if limited and d.use else d for channel, d in decided.items()}


def _event_columns(sample: Sample, accepted: datetime) -> list[object]:
    event = Event(sample.event_id, sample.type, sample.user_id, dict(sample.payload), accepted, SOURCE, sample.channels)
    new = prepare(event)
    decided = decisions(sample, PREFERENCES[sample.user_id]) if sample.status is EventStatus.ROUTED else None
    told = {channel.value: {"use": d.use, "reason": d.reason.value} for channel, d in decided.items()} if decided else None
    expires = accepted + timedelta(seconds=sample.routed_after_s) if sample.reason is Reason.EXPIRED else None
    return [
        SOURCE, event.event_id, event.type, event.user_id, new.payload_json, accepted - timedelta(seconds=0.2), new.body_hash,
        sample.channels, sample.status, sample.reason, sample.error, orjson.dumps(told).decode() if told else None,
        accepted, expires, accepted + timedelta(seconds=sample.routed_after_s),
    ]  # fmt: skip


def _notification_columns(sample: Sample, note: Note, routed: datetime) -> list[object]:
    """A waiting one is parked (`published_at` null); the others were published when routed."""
    last = note.tries[-1] if note.tries else None
    ended = routed + timedelta(seconds=last.after_s + last.took_s if last else note.ended_after_s)
    waits = note.status is Status.PENDING
    return [
        note.channel, sample.user_id, note.status, note.reason, note.error or (last.error if last else None), len(note.tries),
        any(one.possible_duplicate for one in note.tries), CONSUMER if last else None,
        routed + timedelta(seconds=last.after_s) if last else None,
        ended + timedelta(seconds=note.waits_s) if waits else routed, None if waits else routed, routed, ended,
    ]  # fmt: skip


def _attempt_columns(notification_id: int, tries: Sequence[Try], routed: datetime) -> list[tuple[object, ...]]:
    return [
        (
            notification_id, number, "simulated" if one.heard else None, CONSUMER, routed + timedelta(seconds=one.after_s),
            routed + timedelta(seconds=one.after_s + one.took_s), one.outcome, one.error,
            f"simulated-{notification_id}.0" if one.outcome is Outcome.SENT else None, one.possible_duplicate,
        )
        for number, one in enumerate(tries, 1)
    ]  # fmt: skip
