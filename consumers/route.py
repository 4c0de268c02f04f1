"""Second step: decide which channels an event takes. Reads the users' preferences, asks the rate limit, commits one notification
per channel, and puts each on its channel's stream; consumers/deliver.py takes it from there.

Nearly every event goes the short way of consumers/route_plain.py; this is the way of all others.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import structlog

from app import streams
from app.domain import Decision, DecisionReason, EventStatus, Outgoing, Reason, decide_channels
from app.logs import info_lines
from app.resources import Resources
from app.store.owed import DeadVerdict, end_dead_events
from app.store.routing import Added, EventRow, EventVerdict, Routing, defer_events, read_events, route_events
from app.store.take_over import take_over
from app.streams import Entry
from app.tally import Kind, Tally
from consumers.at_once import AtOnce
from consumers.clock import clock_s
from consumers.database import Database
from consumers.publish import Publisher
from consumers.rate_limit import RateLimit
from consumers.route_plain import RoutePlain
from consumers.routed_line import routed_line
from consumers.settle import Acknowledge, Back, Bury, Settle, Verdict
from consumers.verdicts import DEAD_LETTER, after_dead

log = structlog.get_logger()


class Route:
    """The handler of the events stream. Without `at_once` all goes the way over the streams."""

    def __init__(self, resources: Resources, database: Database, at_once: AtOnce | None = None) -> None:
        self._resources, self._database, at_once = resources, database, at_once or AtOnce()
        self._settings, self._pool = resources.settings, resources.pool
        self._rate_limit, self._publish = RateLimit(resources.redis, resources.settings), Publisher(resources)
        self._plain = RoutePlain(resources, database, self._rate_limit, self._publish, at_once)

    async def __call__(self, entries: Sequence[Entry], settle: Settle) -> None:
        by_row = {entry.row_id: entry for entry in entries if entry.row_id is not None}
        plain = await self._plain(by_row, settle)
        if rest := {row_id: entry for row_id, entry in by_row.items() if row_id not in plain}:
            await self._look_closer(rest, settle)

    async def _look_closer(self, by_row: Mapping[int, Entry], settle: Settle) -> None:
        rows = await self._database.patiently(lambda: read_events(self._resources.hot, list(by_row)))
        routings = [first_decision(row) for row in rows if row.verdict in (EventVerdict.GO, EventVerdict.EXPIRED)]
        routings, waits_s = await self._limit(routings)
        if routings:
            await self._commit_and_publish(routings)
        if waits_s:
            await self._database.patiently(lambda: defer_events(self._pool, waits_s))
        await self._take_over([row for row in rows if row.verdict is EventVerdict.CLAIMED])
        for row in rows:
            settle(by_row[row.id], after_route(row, self._settings.reclaim_after_s))
        for row_id in by_row.keys() - {row.id for row in rows}:
            settle(by_row[row_id], Bury(f"there is no event {row_id}"))

    async def _take_over(self, rows: list[EventRow]) -> None:
        """What was claimed by another: the crash rule will judge what it leads to, once its lease is over."""
        if not rows:
            return
        asked_s = list[float]()

        async def take() -> list[Added]:
            asked_s.append(clock_s())
            return await take_over(self._pool, [row.id for row in rows])

        added = await self._database.patiently(take)
        await self._publish(asked_s[-1], outgoing(added, {row.id: row for row in rows}))
        for row in rows:
            log.warning("event taken over: who claimed it did not write it", event_id=row.event_id, user_id=row.user_id)

    async def dead(self, entries: Sequence[Entry], settle: Settle) -> None:
        for entry in entries:
            row_id, error = entry.row_id or 0, DEAD_LETTER.format(entry.deliveries - 1)
            rows = await self._database.patiently(lambda: read_events(self._resources.hot, [row_id]))  # noqa: B023
            await self._take_over([row for row in rows if row.verdict is EventVerdict.CLAIMED])
            ended = await self._database.patiently(lambda: end_dead_events(self._pool, [row_id], error))  # noqa: B023
            log.error("dead letter", event_pk=row_id, deliveries=entry.deliveries, verdict=ended.get(row_id))
            settle(entry, after_dead(ended.get(row_id), f"there is no event {row_id}"))
            self._resources.tally.count(Kind.FAILED, n=int(ended.get(row_id) is DeadVerdict.ENDED))

    async def _limit(self, routings: list[Routing]) -> tuple[list[Routing], list[tuple[int, float]]]:
        """The routings after the rate limit, and the events (id, wait in s) that wait for their reserved time."""
        asking = [r for r in routings if r.channels]
        answers = await self._rate_limit.charge([(r.event.id, r.event.user_id) for r in asking])
        wait_s = {r.event.id: answer for r, answer in zip(asking, answers, strict=True)}
        limited = [r if wait_s.get(r.event.id, 0.0) >= 0 else refused(r, self._settings.rate_limit_per_user) for r in routings]
        deferred = [(event, wait) for event, wait in wait_s.items() if wait > 0]
        return [r for r in limited if wait_s.get(r.event.id, 0.0) <= 0], deferred

    async def _commit_and_publish(self, routings: list[Routing]) -> None:
        asked_s: list[float] = []

        async def commit() -> list[Added]:
            asked_s.append(clock_s())
            return await route_events(self._pool, routings)

        added = await self._database.patiently(commit)
        count_routed(self._resources.tally, routings, added)
        await self._publish(asked_s[-1], outgoing(added, {r.event.id: r.event for r in routings}))
        info_lines(routed_line(r.event.event_id, r.event.user_id, r.channels, r.reason) for r in routings)


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


def after_route(row: EventRow, reclaim_after_s: float) -> Verdict:
    """The entry of an event once the batch is committed."""
    return Back(min(max(row.due_in_s, 0.0), reclaim_after_s)) if row.verdict is EventVerdict.LATER else Acknowledge()
