"""Second step, the common case: a short look at which case each event is, the rate limit, and one statement does the rest.

What needs a closer look is left to consumers/route.py.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

from app import streams
from app.domain import Channel, Outgoing, Reason
from app.logs import Line, info_lines
from app.resources import Resources
from app.store import hot_route
from app.store.hot_route import Plain, Routed
from app.streams import Entry
from app.tally import Kind
from consumers.at_once import AtOnce, Claimed
from consumers.clock import clock_s
from consumers.database import Database
from consumers.publish import Publisher
from consumers.rate_limit import RateLimit


class RoutePlain:
    """Routes events whose entries did not end in silence before: they may take others along."""

    def __init__(self, resources: Resources, database: Database, limit: RateLimit, publish: Publisher, at_once: AtOnce) -> None:
        self._resources, self._database, self._limit, self._publish = resources, database, limit, publish
        self._at_once = at_once

    async def __call__(self, entries: Sequence[Entry]) -> set[int]:
        """The ids of the events that are routed. Who is over the limit is not."""
        first = [e.row_id for e in entries if e.row_id is not None and e.deliveries == 1]
        plain = await self._database.patiently(lambda: hot_route.peek(self._resources.hot, first)) if first else []
        charged = [event for event in plain if event.case.channels]
        waits_s = await self._limit.charge([(event.event_pk, event.user_id) for event in charged])
        waits = {event.event_pk for event, wait_s in zip(charged, waits_s, strict=True) if wait_s != 0}
        free = [event for event in plain if event.event_pk not in waits]
        routed = await self._route(free) if free else []
        info_lines(line(r.event_id, r.user_id, r.channels) for r in routed)
        return {r.event_pk for r in routed}

    async def _route(self, events: list[Plain]) -> list[Routed]:
        asked_s, wanted = list[float](), Counter(channel for event in events for channel in event.case.channels)
        await self._at_once.until_room(wanted)
        with self._at_once.batch(wanted) as batch:
            at_once = batch.channels()
            routed = await self._commit(events, at_once, asked_s)
            batch.begin(claimed_of(routed, at_once), asked_s[0])
        self._resources.tally.count_channels(Kind.ACCEPTED, (channel for r in routed for channel in r.channels))
        await self._publish(asked_s[-1], outgoing(routed, at_once))
        return routed

    async def _commit(self, events: list[Plain], at_once: list[Channel], asked_s: list[float]) -> list[Routed]:
        """Where an answer was lost, what it claimed is found again while its lease lasts; the rest is the relay's."""

        async def commit() -> list[Routed]:
            asked_s.append(clock_s())
            return await hot_route.route_plain(self._resources, events, at_once, self._at_once.me)

        routed = await self._database.patiently(commit)
        if len(asked_s) > 1 and at_once:
            hot, known, ids = self._resources.hot, {r.event_pk for r in routed}, [event.event_pk for event in events]
            claimed = await self._database.patiently(lambda: hot_route.claimed_as_routed(hot, ids, self._at_once.me))
            routed += [r for r in claimed if r.event_pk not in known]
        return routed


def outgoing(routed: Sequence[Routed], at_once: Collection[Channel]) -> dict[str, list[Outgoing]]:
    """The entries to publish, per stream: not of what is sent at once."""
    rows: dict[str, list[Outgoing]] = defaultdict(list)
    for r in routed:
        for row_id, channel in enumerate(r.channels, r.first_id):
            if channel not in at_once:
                rows[streams.channel_stream(channel)].append(Outgoing(row_id, r.event_id, r.user_id, r.type, r.published_at))
    return rows


def claimed_of(routed: Sequence[Routed], at_once: Collection[Channel]) -> list[Claimed]:
    """What was claimed."""
    return [
        Claimed(row_id, channel, r) for r in routed for row_id, channel in enumerate(r.channels, r.first_id) if channel in at_once
    ]


def line(event_id: str, user_id: str, channels: Sequence[Channel], reason: Reason | None = None) -> Line:
    """What is logged of an event that is routed."""
    return "event routed", {"event_id": event_id, "user_id": user_id, "channels": [*map(str, channels)], "reason": reason}
