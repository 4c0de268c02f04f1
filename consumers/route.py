"""Second step: decide which channels an event takes. Reads the users' preferences, asks the rate limit, commits one notification
per channel, and puts each on its channel's stream; consumers/deliver.py takes it from there.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

import structlog
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from app import streams
from app.cancelled import unless_cancelled
from app.domain import Decision, DecisionReason, EventStatus, Outgoing, Reason, decide_channels
from app.logs import Line, info_lines
from app.resources import Resources
from app.store import hot
from app.store.owed import DeadVerdict, end_dead_events
from app.store.routing import Added, EventRow, EventVerdict, Routing, defer_events, read_events
from app.streams import Entry
from app.tally import Kind, Tally
from app.trouble import Trouble
from consumers.database import Database
from consumers.rate_limit import charge
from consumers.settle import Acknowledge, Back, Bury, Settle, Verdict
from consumers.verdicts import DEAD_LETTER, after_dead

log = structlog.get_logger()

AGAIN_AFTER_S = 0.25  # pause after Redis failed


class Route:
    """The handler of the events stream."""

    def __init__(self, resources: Resources, database: Database) -> None:
        self._resources, self._database = resources, database
        self._settings, self._pool = resources.settings, resources.pool
        self._no_limit = Trouble(log, "rate limit is applied again")
        self._not_published = Trouble(log, "notifications are published again")

    async def __call__(self, entries: Sequence[Entry], settle: Settle) -> None:
        by_row = {entry.row_id: entry for entry in entries if entry.row_id is not None}
        rows = await self._database.patiently(lambda: read_events(self._resources.hot, list(by_row)))
        routings = [first_decision(row) for row in rows if row.verdict in (EventVerdict.GO, EventVerdict.EXPIRED)]
        routings, waits_s = await self._limit(routings)
        await self._commit_and_publish(routings)
        if waits_s:
            await self._database.patiently(lambda: defer_events(self._pool, waits_s))
        for row in rows:
            settle(by_row[row.id], after_route(row, self._settings.reclaim_after_s))
        for row_id in by_row.keys() - {row.id for row in rows}:
            settle(by_row[row_id], Bury(f"there is no event {row_id}"))

    async def dead(self, entries: Sequence[Entry], settle: Settle) -> None:
        for entry in entries:
            row_id, error = entry.row_id or 0, DEAD_LETTER.format(entry.deliveries - 1)
            ended = await self._database.patiently(lambda: end_dead_events(self._pool, [row_id], error))  # noqa: B023
            log.error("dead letter", event_pk=row_id, deliveries=entry.deliveries, verdict=ended.get(row_id))
            settle(entry, after_dead(ended.get(row_id), f"there is no event {row_id}"))
            self._resources.tally.count(Kind.FAILED, n=int(ended.get(row_id) is DeadVerdict.ENDED))

    async def _limit(self, routings: list[Routing]) -> tuple[list[Routing], list[tuple[int, float]]]:
        """The routings after the rate limit, and the events (id, wait in s) that wait for their reserved time."""
        asking = [r for r in routings if r.channels]
        answers = await self._charge([(r.event.id, r.event.user_id) for r in asking])
        wait_s = {r.event.id: answer for r, answer in zip(asking, answers, strict=True)}
        limited = [r if wait_s.get(r.event.id, 0.0) >= 0 else refused(r, self._settings.rate_limit_per_user) for r in routings]
        deferred = [(event, wait) for event, wait in wait_s.items() if wait > 0]
        return [r for r in limited if wait_s.get(r.event.id, 0.0) <= 0], deferred

    async def _charge(self, events: list[tuple[int, str]]) -> list[float]:
        """Repeated while Redis is away: the bucket remembers what it charged. What Redis refuses goes unlimited."""
        while True:
            try:
                charged = await charge(self._resources.redis, self._settings, events) if events else []
                self._no_limit.over()
                return charged
            except ResponseError as error:
                return await self._charge_refused(events, error)
            except (RedisError, OSError, TimeoutError) as error:
                unless_cancelled(error)
                self._no_limit.say("rate limit not asked: Redis is away", error, events=len(events))
                await asyncio.sleep(AGAIN_AFTER_S)

    async def _charge_refused(self, events: list[tuple[int, str]], error: ResponseError) -> list[float]:
        """Out of memory: nobody is limited, since only routing empties what fills it. Otherwise the bad bucket alone is not."""
        if isinstance(error, ReadOnlyError):  # a replica, until the client finds the new primary
            await asyncio.sleep(AGAIN_AFTER_S)
            return await self._charge(events)
        if isinstance(error, OutOfMemoryError) or len(events) == 1:
            self._no_limit.say("rate limit not applied: Redis refuses", error, events=len(events))
            return [0.0] * len(events)
        half = len(events) // 2
        return [*await self._charge(events[:half]), *await self._charge(events[half:])]

    async def _commit_and_publish(self, routings: list[Routing]) -> None:
        """A publication that Redis did not take, or that would come late, is left to the relay."""
        asked: list[float] = []

        async def commit() -> list[Added]:
            asked.append(time.monotonic())
            return await hot.route(self._resources, routings)

        added = await self._database.patiently(commit) if routings else []
        count_routed(self._resources.tally, routings, added)
        rows = outgoing(added, [r.event for r in routings])
        await self._publish(asked[-1] if asked else 0.0, rows)
        info_lines(_line(r) for r in routings)

    async def _publish(self, asked_s: float, rows: Mapping[str, Sequence[Outgoing]]) -> None:
        if not rows or time.monotonic() - asked_s > self._settings.publish_within_s:
            return
        try:
            await streams.publish_all(self._resources.redis, rows)
            self._not_published.over()
        except (RedisError, OSError, TimeoutError) as error:
            self._not_published.say("notifications left to the relay", error, rows=sum(map(len, rows.values())))


def first_decision(row: EventRow) -> Routing:
    """What becomes of an event before the rate limit is asked."""
    if row.verdict is EventVerdict.EXPIRED:
        return Routing(row, {}, (), EventStatus.FAILED, Reason.EXPIRED, "not routed before it expired")
    decisions = decide_channels(row.channels, row.preference)
    return Routing(row, decisions, tuple(channel for channel, decision in decisions.items() if decision.use))


def refused(routing: Routing, per_window: int) -> Routing:
    """Over the limit: each channel that would have been used gets a FAILED notification, so that the history shows it."""
    limited = Decision(False, DecisionReason.RATE_LIMITED)
    decisions = {channel: limited if decision.use else decision for channel, decision in routing.decisions.items()}
    error = f"rate limit: more than {per_window} events for this user in the time allowed"
    return Routing(routing.event, decisions, routing.channels, EventStatus.ROUTED, Reason.RATE_LIMITED, error)


def outgoing(added: list[Added], events: list[EventRow]) -> dict[str, list[Outgoing]]:
    """The entries to publish, per stream."""
    by_id = {event.id: event for event in events}
    rows: dict[str, list[Outgoing]] = defaultdict(list)
    for a in added:
        event = by_id[a.event_pk]
        rows[streams.channel_stream(a.channel)].append(Outgoing(a.id, event.event_id, event.user_id, event.type, a.published_at))
    return rows


def count_routed(tally: Tally, routings: list[Routing], added: list[Added]) -> None:
    """For the dashboard's rates."""
    tally.count_channels(Kind.ACCEPTED, [a.channel for a in added])
    tally.count_channels(Kind.LIMITED, [channel for r in routings if r.reason is Reason.RATE_LIMITED for channel in r.channels])
    tally.count(Kind.FAILED, n=sum(r.event_status is EventStatus.FAILED for r in routings))


def _line(r: Routing) -> Line:
    event, channels = r.event, [*map(str, r.channels)]
    return "event routed", {"event_id": event.event_id, "user_id": event.user_id, "channels": channels, "reason": r.reason}


def after_route(row: EventRow, reclaim_after_s: float) -> Verdict:
    """The entry of an event once the batch is committed."""
    return Back(min(max(row.due_in_s, 0.0), reclaim_after_s)) if row.verdict is EventVerdict.LATER else Acknowledge()
