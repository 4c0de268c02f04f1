"""The product's own functions, one at a time, by two consumers that do as they are told: what test_machine.py drives.

Between any two calls a consumer may be gone, an answer lost, a stream flushed, or time have passed.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from redis.exceptions import RedisError

from app import streams
from app.accept import prepare
from app.domain import Channel, CrashPolicy, Outcome, Outgoing
from app.resources import Resources
from app.store import hot_route, hot_send
from app.store.events import insert_events
from app.store.notifications import GO, Claim, ClaimVerdict
from app.store.operate import cancel_notifications, replay_events, replay_notifications
from app.store.owed import clock, end_dead_notifications
from app.streams import EVENTS, Entry, channel_stream
from consumers.database import Database
from consumers.in_hand import InHand
from consumers.record import Attempt, Ended
from consumers.relay import Relay, watermark
from consumers.route import Route
from consumers.sending import Sending, Underway
from consumers.settle import Back, Verdict, settle_on_stream
from consumers.verdicts import after_claim, after_dead
from tests.model import shifted
from tests.model.recording_hands import MAYBE_SENT, Held
from tests.model.routing_hands import Slots, at_once, losing
from tests.support import claim, event

JUDGED = (ClaimVerdict.AGAIN, ClaimVerdict.UNKNOWN, ClaimVerdict.CRASHED)  # by the crash rule
CHANNELS = (Channel.EMAIL, Channel.SMS)


@dataclass
class Hands:
    """`passed_s` is how much time has passed by order, `held` the claims in hand, the counters are by notification.

    `in_hands` is by consumer and stream, `unwritten` the events that are claimed, `ends` is to be recorded, `told` settled.
    `truths` is by notification and attempt: how it ended, as soon as that is recorded.
    """

    resources: Resources
    passed_s: float = 0.0
    held: list[Held] = field(default_factory=list)
    in_hands: dict[tuple[str, str], InHand] = field(default_factory=dict)
    unwritten: list[tuple[Sending, Underway]] = field(default_factory=list)
    ends: list[Ended] = field(default_factory=list)
    told: list[tuple[str, str, Entry, Verdict]] = field(default_factory=list)
    calls: Counter[int] = field(default_factory=Counter)
    sends: Counter[int] = field(default_factory=Counter)
    excuses: Counter[int] = field(default_factory=Counter)
    truths: dict[tuple[int, int], Outcome] = field(default_factory=dict)
    released: set[tuple[int, int]] = field(default_factory=set)
    lives: Counter[str] = field(default_factory=Counter)
    forgot: bool = False

    def name(self, who: str) -> str:
        return f"{who}.{self.lives[who]}"

    def in_hand(self, me: str, stream: str) -> InHand:
        return self.in_hands.setdefault((me, stream), InHand(slots=100))

    def empty(self) -> bool:
        """Has everybody who lives settled all that was read or begun?"""
        living = {self.name(who) for who in ("a", "b")}
        return not any(hand.rows or hand.entries or hand.reserved for (me, _), hand in self.in_hands.items() if me in living)

    def add(self, end: Ended) -> None:
        """The part of the recorder."""
        self.ends.append(end)

    def uncalled(self) -> list[Held]:
        return [held for held in self.held if held.outcome is None and not held.told]

    def unended(self) -> list[Held]:
        return [held for held in self.held if held.outcome is not None and not held.told]

    # ---- ways in

    async def post(self, count: int, published: bool, expires_in_s: float | None = None) -> None:
        now = await clock(self.resources.pool)
        expires_at = None if expires_in_s is None else now + timedelta(seconds=expires_in_s)
        new = [prepare(event(channels=CHANNELS, expires_at=expires_at)) for _ in range(count)]
        stored = await insert_events(self.resources.pool, new)
        if published:
            rows = [
                Outgoing(s.row_id, n.event.event_id, n.event.user_id, n.event.type, s.published_at, s.case)
                for n, s in zip(new, stored, strict=True)
                if s.row_id is not None and s.published_at is not None
            ]
            await streams.publish(self.resources.redis, EVENTS, rows)

    # ---- consumers

    async def take(self, who: str, stream: str, most: int) -> list[Entry]:
        """What is due, or else what is new, without what this consumer has in hand; deliveries in silence are counted."""
        redis, me, window_s = self.resources.redis, self.name(who), self.resources.settings.reclaim_after_s
        await streams.create_group(redis, stream)
        entries = (await streams.reclaim(redis, stream, me, window_s, b"0-0", most)).entries
        entries = entries or await streams.read(redis, stream, me, most, None)
        in_hand = self.in_hand(me, stream)
        others = [e for e in entries if e.id not in in_hand.entries]
        admitted = [e for e in others if in_hand.add(e)]
        await self._settle(me, stream, [(e, Back(window_s / 2, handled=False)) for e in others if e not in admitted])
        return admitted

    async def route(
        self,
        who: str,
        most: int,
        dies: bool,
        room: int = 0,
        channels: tuple[Channel, ...] = CHANNELS,
        lost: str = "none",
        reader: str = "",
    ) -> None:
        """The real handler, which claims at once up to `room` of each of `channels`; a consumer that dies acknowledges nothing.

        It stands still once it has committed where there is a `reader`, who then has time to take what is owed.
        """
        entries, me, limit = await self.take(who, EVENTS, most), self.name(who), self.resources.settings.max_deliveries
        handler = Route(self.resources, Database(), at_once(self, me, channels, room))
        dead, alive = [e for e in entries if e.deliveries > limit], [e for e in entries if e.deliveries <= limit]

        def settle(entry: Entry, verdict: Any) -> None:
            self.told.append((me, EVENTS, entry, verdict))

        with losing(self, lost, lambda: self.lose_time(reader)):
            await handler.dead(dead, settle)
            await handler(alive, settle)
        if dies:
            self.die(who)
        else:
            await self.settle_told()

    async def lose_time(self, reader: str) -> None:
        """A lease ends, and `reader` takes over: events, and what they lead to."""
        if reader:
            await self.pass_time(self.resources.settings.reclaim_after_s + 1)
            await self.route(reader, 3, dies=False)
            await self.sweep()
            for channel in CHANNELS:
                await self.claim(reader, channel, 3, answer_lost=False)

    async def route_and_die(self, who: str, most: int) -> None:
        """Gone between its claim and its calls."""
        event_pks = [e.row_id for e in await self.take(who, EVENTS, most) if e.row_id is not None]
        plain = await hot_route.peek(self.resources.hot, event_pks)
        await hot_send.claim_events(self.resources, plain, self.name(who), again=False)
        self.die(who)

    def hold(self, me: str, attempt: Attempt, claimed_at: float) -> None:
        self.held.append(Held(me, attempt, claimed_at))

    async def claim(self, who: str, channel: Channel, most: int, answer_lost: bool) -> None:
        """Entries of one channel into the hand; what may not be claimed goes where the product says."""
        stream, me, limit = channel_stream(channel), self.name(who), self.resources.settings.max_deliveries
        entries = await self.take(who, stream, most)
        dead = [e for e in entries if e.deliveries > limit]
        by_row = {e.row_id: e for e in entries if e.row_id is not None and e not in dead}
        for entry in dead:
            verdicts = await end_dead_notifications(self.resources.pool, [entry.row_id or 0], "dead letter")
            await self._settle(me, stream, [(entry, after_dead(verdicts.get(entry.row_id or 0), "no row"))])
        claims = await self._claim(channel, list(by_row), me)
        if answer_lost:
            claims = await self._claim(channel, list(by_row), me)
        for c in claims:
            assert c.verdict not in JUDGED or not self._leased(c.id), f"notification {c.id}: {c.verdict} under a live lease"
            if c.verdict in GO:
                settle = Slots(self, me, channel).settle
                self.hold(me, Attempt(channel, by_row[c.id], c, 0.0, settle, self.add), self.passed_s)
        window_s = self.resources.settings.reclaim_after_s
        await self._settle(me, stream, [(by_row[c.id], after_claim(c, window_s)) for c in claims if c.verdict not in GO])

    def _leased(self, row_id: int) -> bool:
        lease_s = self.resources.settings.lease_s
        return any(h.claim.id == row_id and self.passed_s - h.claimed_at < lease_s for h in self.held)

    async def _claim(self, channel: Channel, ids: list[int], me: str) -> list[Claim]:
        settings, policy = self.resources.settings, self.resources.settings.channel_policy(channel)
        at_most_once = policy.crash_policy is CrashPolicy.AT_MOST_ONCE
        return await claim(
            self.resources,
            ids,
            me,
            lease_s=settings.lease_s,
            at_most_once=at_most_once,
            max_tries=policy.max_tries,
            calm_s=0,
        )

    def die(self, who: str) -> None:
        """All that it had in hand is gone; nobody knows what its calls came to."""
        for held in [h for h in self.held if h.me == self.name(who)]:
            self.held.remove(held)
            self.excuses[held.claim.id] += held.outcome in MAYBE_SENT
        self.unwritten = [(sending, event) for sending, event in self.unwritten if sending.me != self.name(who)]
        self.told = [each for each in self.told if each[0] != self.name(who)]
        self.lives[who] += 1

    async def settle_told(self) -> None:
        told, self.told = self.told, []
        for me, stream, entry, verdict in told:
            await self._settle(me, stream, [(entry, verdict)])

    async def _settle(self, me: str, stream: str, batch: Sequence[tuple[Entry, Verdict]]) -> None:
        settings = self.resources.settings
        await settle_on_stream(self.resources.redis, stream, me, settings.reclaim_after_s, list(batch), settings.publish_within_s)
        for entry, _ in batch:
            self.in_hand(me, stream).drop(entry)

    # ---- the relay, the operator, and time

    async def sweep(self) -> None:
        relay = Relay(self.resources, Database())
        for stream in streams.WORK_STREAMS:
            with suppress(RedisError):
                await relay.sweep(stream)

    async def sweep_and_die(self, stream: str) -> None:
        """A relay that is gone between its commit and its XADD."""
        now = await clock(self.resources.pool)
        mark = watermark(await streams.head(self.resources.redis, stream), now)
        await Relay(self.resources, Database())._take(stream, mark)

    async def replay(self, n: int) -> None:
        await replay_notifications(self.resources.pool, [n])
        await replay_events(self.resources.pool, [n])

    async def cancel(self, n: int) -> None:
        await cancel_notifications(self.resources.pool, [n])

    async def pass_time(self, seconds: float) -> None:
        """A call that is not recorded within its lease is one that the crash rule may take for lost."""
        await shifted.pass_time(self.resources, seconds)
        was, self.passed_s = self.passed_s, self.passed_s + seconds
        for h in self.held:
            over = h.claimed_at + self.resources.settings.lease_s
            if was <= over < self.passed_s:
                self.excuses[h.claim.id] += h.outcome in MAYBE_SENT

    async def forget(self, who: str, stream: str) -> None:
        """XGROUP DELCONSUMER by hand."""
        if await shifted.has_group(self.resources, stream):
            self.forgot = True
            await self.resources.redis.xgroup_delconsumer(stream, streams.GROUP, self.name(who))
