"""Second step, the common case: which case each event is, by its entry or a short look; the rate limit; and one statement routes
the batch, or claims it where it is sent at once.

What needs a closer look is left to consumers/route.py.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from app import streams
from app.domain import Outgoing
from app.logs import info_lines
from app.resources import Resources
from app.store import hot_route, hot_send
from app.store.hot_route import CASES, Plain, Routed
from app.store.hot_send import Claimed
from app.streams import Entry
from app.tally import Kind
from consumers.at_once import AtOnce
from consumers.clock import clock_s
from consumers.database import Database
from consumers.publish import Publisher
from consumers.rate_limit import RateLimit
from consumers.routed_line import routed_line
from consumers.sending import Underway
from consumers.settle import Acknowledge, Settle

FRESH_S = 1.0


class RoutePlain:
    """Routes events whose entries did not end in silence before: they may take others along."""

    def __init__(self, resources: Resources, database: Database, limit: RateLimit, publish: Publisher, at_once: AtOnce) -> None:
        self._resources, self._database, self._limit, self._publish = resources, database, limit, publish
        self._at_once = at_once

    async def __call__(self, by_row: Mapping[int, Entry], settle: Settle) -> set[int]:
        """The ids of the events that are routed, and settled, or claimed: those are settled once written.

        Who is over the limit is neither.
        """
        free = await self._free({row_id: entry for row_id, entry in by_row.items() if entry.deliveries == 1})
        routed = await self._route([event for event in free if not event.case.channels])
        sending = [event for event in free if event.case.channels]
        claimed = await self._send_at_once(sending, by_row, settle) if sending else set()
        if len(claimed) < len(sending):
            routed |= await self._route([event for event in sending if event.event_pk not in claimed])
        for row_id in routed:
            settle(by_row[row_id], Acknowledge())
        return claimed | routed

    async def _free(self, by_row: Mapping[int, Entry]) -> list[Plain]:
        """The events that need no closer look."""
        now_s = time.time()
        plain = [event for entry in by_row.values() if (event := seen(entry, now_s)) is not None]
        if len(plain) < len(by_row):
            plain += await self._peek(by_row.keys() - {event.event_pk for event in plain})
        charged = [event for event in plain if event.case.channels]
        waits_s = await self._limit.charge([(event.event_pk, event.user_id) for event in charged])
        waits = {event.event_pk for event, wait_s in zip(charged, waits_s, strict=True) if wait_s != 0}
        return [event for event in plain if event.event_pk not in waits]

    async def _peek(self, ids: Iterable[int]) -> list[Plain]:
        """Which case is what nobody has looked at."""
        return await self._database.patiently(lambda: hot_route.peek(self._resources.hot, [*ids]))

    async def _send_at_once(self, events: list[Plain], by_row: Mapping[int, Entry], settle: Settle) -> set[int]:
        """The ids of those that are claimed: none where a channel has no room for its part."""
        with await self._at_once.batch_soon(events) as batch:
            if not batch.events:
                return set()
            claimed, claimed_s = await self._claim(batch.events)
            batch.begin([Underway(event, by_row[event.event_pk], settle) for event in claimed], claimed_s)
        self._count(claimed)
        return {event.event_pk for event in claimed}

    async def _claim(self, events: list[Plain]) -> tuple[list[Claimed], float]:
        """And the own clock before the lease began: where an answer is lost, it begins anew."""
        asked_s = list[float]()

        async def claim() -> list[Claimed]:
            asked_s.append(clock_s())
            return await hot_send.claim_events(self._resources, events, self._at_once.me, again=len(asked_s) > 1)

        return await self._database.patiently(claim), asked_s[-1]

    async def _route(self, events: list[Plain]) -> set[int]:
        """The ids of those that go over the streams."""
        asked_s = list[float]()

        async def route() -> list[Routed]:
            asked_s.append(clock_s())
            return await hot_route.route_plain(self._resources, events)

        routed = await self._database.patiently(route) if events else []
        if routed:
            self._count(routed)
            info_lines(routed_line(event.event_id, event.user_id, event.channels) for event in routed)
            await self._publish(asked_s[-1], outgoing(routed))
        return {event.event_pk for event in routed}

    def _count(self, events: Sequence[Routed | Claimed]) -> None:
        self._resources.tally.count_channels(Kind.ACCEPTED, chain.from_iterable([event.channels for event in events]))


def seen(entry: Entry, now_s: float) -> Plain | None:
    """What accept saw of an event a moment ago, where its entry says so; who routes it finds out whether that is still so.

    What waits for longer is looked at when its turn comes: it may be cancelled, and must then cost its user no token. So is all
    where Redis' clock, which may step back, and the own are too far apart.
    """
    told = streams.told_case(entry)
    if told is None or entry.row_id is None or told[1] >= len(CASES) or abs(now_s - streams.added_s(entry)) > FRESH_S:
        return None
    return Plain(entry.row_id, told[0], CASES[told[1]])


def outgoing(routed: Sequence[Routed]) -> dict[str, list[Outgoing]]:
    """The entries to publish, per stream."""
    rows: dict[str, list[Outgoing]] = defaultdict(list)
    for r in routed:
        for row_id, channel in enumerate(r.channels, r.first_id):
            rows[streams.channel_stream(channel)].append(Outgoing(row_id, r.event_id, r.user_id, r.type, r.published_at))
    return rows
