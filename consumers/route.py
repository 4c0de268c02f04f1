"""Second step: decide which channels an event takes. Reads the users' preferences, asks the rate limit, commits one notification
per channel, and puts each on its channel's stream; consumers/deliver.py takes it from there.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import structlog
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from app import streams
from app.cancelled import unless_cancelled
from app.domain import Decision, DecisionReason, EventStatus, Outgoing, Reason, decide_channels
from app.logs import Line, info_lines
from app.resources import Resources
from app.store import hot
from app.store.notifications import release
from app.store.owed import DeadVerdict, end_dead_events
from app.store.routing import Added, EventRow, EventVerdict, Routing, defer_events, read_events
from app.streams import Entry
from app.tally import Kind, Tally
from app.trouble import Trouble
from consumers.at_once import AtOnce, Batch
from consumers.database import Database
from consumers.rate_limit import charge
from consumers.record import CLOCK
from consumers.settle import Acknowledge, Back, Bury, Settle, Verdict
from consumers.verdicts import DEAD_LETTER, after_dead

log = structlog.get_logger()

AGAIN_AFTER_S = 0.25  # pause after Redis failed
FIRST_ATTEMPT = 1


class Route:
    """The handler of the events stream. Without `at_once` all goes the way over the streams."""

    def __init__(self, resources: Resources, database: Database, at_once: AtOnce | None = None) -> None:
        self._resources, self._database, self._at_once = resources, database, at_once or AtOnce()
        self._settings, self._pool = resources.settings, resources.pool
        self._no_limit = Trouble(log, "rate limit is applied again")
        self._not_published = Trouble(log, "notifications are published again")

    async def __call__(self, entries: Sequence[Entry], settle: Settle) -> None:
        by_row = {entry.row_id: entry for entry in entries if entry.row_id is not None}
        at_once = self._at_once.may(len(by_row))
        rows = await self._database.patiently(lambda: read_events(self._resources.hot, list(by_row), at_once))
        routings = [first_decision(row) for row in rows if row.verdict in (EventVerdict.GO, EventVerdict.EXPIRED)]
        routings, waits_s = await self._limit(routings)
        first_time = {row_id for row_id, entry in by_row.items() if at_once and entry.deliveries == 1}
        with self._at_once.batch() as batch:
            await self._commit_and_publish(batch.reserve(routings, first_time), batch)
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

    async def _commit_and_publish(self, routings: list[Routing], batch: Batch) -> None:
        """A publication that Redis did not take, or that would come late, is left to the relay."""
        asked_s: list[float] = []
        added = await self._commit(routings, asked_s) if routings else []
        count_routed(self._resources.tally, routings, added)
        events, claimed = {r.event.id: r.event for r in routings}, [a for a in added if a.claimed]
        claimed.sort(key=lambda a: a.channel)  # as their entries' ids are answered
        batch.expect(claimed)
        rows = outgoing([*claimed, *(a for a in added if not a.claimed)], events)
        entry_ids = await self._publish(asked_s[-1] if asked_s else 0.0, rows, claimed)
        if entry_ids is not None:
            batch.begin(entry_ids, events, asked_s[0])
        elif claimed:
            await self._give_back(claimed, batch)
            await self._publish(asked_s[0], outgoing(claimed, events), [])  # what was added may come back only after the window
        info_lines(_line(r) for r in routings)

    async def _give_back(self, claimed: Sequence[Added], batch: Batch) -> None:
        """Nothing was sent."""
        await self._database.patiently(lambda: release(self._pool, [(a.id, FIRST_ATTEMPT) for a in claimed]))
        batch.forget()

    async def _commit(self, routings: list[Routing], asked_s: list[float]) -> list[Added]:
        """Where an answer was lost, what it claimed is found again while its lease lasts; the rest is the relay's."""

        async def commit() -> list[Added]:
            asked_s.append(time.clock_gettime(CLOCK))
            return await hot.route(self._resources, routings, self._at_once.me)

        added = await self._database.patiently(commit)
        ids = [r.event.id for r in routings if r.at_once] if len(asked_s) > 1 else []
        if ids:
            claimed = await self._database.patiently(lambda: hot.claimed_as_routed(self._resources.hot, ids, self._at_once.me))
            added = [*(a for a in added if not a.claimed), *claimed]
        return added

    async def _publish(
        self, asked_s: float, rows: Mapping[str, Sequence[Outgoing]], claimed: Sequence[Added]
    ) -> list[bytes] | None:
        """The ids of the entries of what is claimed; None: it is not known what was published."""
        if not rows or time.clock_gettime(CLOCK) - asked_s > self._settings.publish_within_s:
            return None
        mine = Counter(streams.channel_stream(a.channel) for a in claimed)
        try:
            entry_ids = await streams.publish_all(self._resources.redis, rows, mine, self._at_once.me)
            self._not_published.over()
            return entry_ids
        except (RedisError, OSError, TimeoutError) as error:
            self._not_published.say("notifications left to the relay", error, rows=sum(map(len, rows.values())))
            return None


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


def outgoing(added: list[Added], events: Mapping[int, EventRow]) -> dict[str, list[Outgoing]]:
    """The entries to publish, per stream; `events` by id."""
    rows: dict[str, list[Outgoing]] = defaultdict(list)
    for a in added:
        event = events[a.event_pk]
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
