"""What three witnesses say after a fault: PostgreSQL, Redis, and the provider."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime

from app import streams
from tests.conftest import keys_kept_for_ever
from tests.faults.provider import Call
from tests.faults.system import System


@dataclass(frozen=True, slots=True)
class Attempt:
    number: int
    outcome: str
    started_at: datetime
    ended_at: datetime
    error: str | None
    possible_duplicate: bool


@dataclass(frozen=True, slots=True)
class Notification:
    """A row with its attempts, and the messages that the provider received for it (under all its idempotency keys)."""

    id: int
    event_id: str
    channel: str
    status: str
    reason: str | None
    error: str | None
    attempt: int
    tries: int
    replays: int
    possible_duplicate: bool
    attempts: tuple[Attempt, ...]
    calls: tuple[Call, ...]

    @property
    def taken(self) -> int:
        """How often a person may have got it."""
        return sum(call.taken for call in self.calls)

    @property
    def final(self) -> bool:
        return self.status not in ("PENDING", "PROCESSING")


@dataclass(frozen=True, slots=True)
class Event:
    """`rate_limited`: refused by the limit per user. `routed_at`: when it was decided."""

    event_id: str
    user_id: str
    status: str
    reason: str | None
    channels_used: int
    rate_limited: bool
    routed_at: datetime
    notifications: tuple[Notification, ...]


@dataclass(frozen=True, slots=True)
class Carried:
    """One stream as redis-cli shows it."""

    stream: str
    length: int
    lag: int | None
    pending: int
    consumers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Facts:
    events: dict[str, Event]
    streams: tuple[Carried, ...]
    dead_entries: int
    kept_for_ever: tuple[str, ...]
    calls_without_row: tuple[Call, ...]

    @property
    def notifications(self) -> list[Notification]:
        return [n for event in self.events.values() for n in event.notifications]

    @property
    def by_status(self) -> Counter[str]:
        return Counter(n.status for n in self.notifications)


NOTIFICATIONS = """
select n.id, n.event_pk, e.event_id, n.channel, n.status, n.reason, n.error, n.attempt, n.tries, n.replays, n.possible_duplicate
from notification n join event e on e.id = n.event_pk order by n.id
"""
EVENTS = """
select id, event_id, user_id, status, reason, coalesce(claimed_at, updated_at) as decided_at,
  (select count(*) from jsonb_each(decisions) d where d.value->>'use' = 'true') as used,
  exists (select from jsonb_each(decisions) d where d.value->>'reason' = 'rate_limited') as rate_limited
from event
"""


async def gather(system: System) -> Facts:
    calls: dict[int, list[Call]] = defaultdict(list)
    for call in await system.provider.calls():
        calls[int(call.key.partition("-")[0])].append(call)
    async with system.database() as pg:
        attempts: dict[int, list[Attempt]] = defaultdict(list)
        for r in await pg.fetch("select * from attempt order by notification_id, number"):
            attempts[r["notification_id"]].append(
                Attempt(r["number"], r["outcome"], r["started_at"], r["ended_at"], r["error"], r["possible_duplicate"])
            )
        rows: dict[int, list[Notification]] = defaultdict(list)
        for r in await pg.fetch(NOTIFICATIONS):
            row = {name: value for name, value in r.items() if name != "event_pk"}
            known = Notification(**row, attempts=tuple(attempts[r["id"]]), calls=tuple(calls.pop(r["id"], ())))
            rows[r["event_pk"]].append(known)
        events = {
            r["event_id"]: Event(
                r["event_id"], r["user_id"], r["status"], r["reason"], r["used"], r["rate_limited"], r["decided_at"],
                tuple(rows[r["id"]]),
            )
            for r in await pg.fetch(EVENTS)
        }  # fmt: skip
    carried, dead, kept = await redis_facts(system)
    return Facts(events, carried, dead, kept, tuple(call for left in calls.values() for call in left))


async def redis_facts(system: System) -> tuple[tuple[Carried, ...], int, tuple[str, ...]]:
    async with system.redis() as redis:
        carried = []
        for stream in streams.WORK_STREAMS:
            (group,) = await redis.xinfo_groups(stream)
            consumers = frozenset(c["name"].decode() for c in await redis.xinfo_consumers(stream, streams.GROUP))
            carried.append(Carried(stream, await redis.xlen(stream), group["lag"], group["pending"], consumers))
        return tuple(carried), await redis.xlen(streams.DEAD), tuple(await keys_kept_for_ever(redis))
