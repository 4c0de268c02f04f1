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
from app.store import hot, hot_route
from app.store.events import insert_events
from app.store.notifications import GO, Claim, ClaimVerdict, Ending, release
from app.store.operate import cancel_notifications, replay_events, replay_notifications
from app.store.owed import clock, end_dead_notifications
from app.streams import EVENTS, Entry, channel_stream
from consumers.database import Database
from consumers.in_hand import InHand
from consumers.relay import Relay, watermark
from consumers.retry import Result, next_move
from consumers.route import Route
from consumers.settle import Back, Settle, Verdict, settle_on_stream
from consumers.verdicts import after_claim, after_dead, after_finish, after_release
from tests.model import shifted
from tests.model.routing_hands import Slots, at_once, losing
from tests.support import claim, event

MAYBE_SENT = (Outcome.SENT, Outcome.UNKNOWN)
JUDGED = (ClaimVerdict.AGAIN, ClaimVerdict.UNKNOWN, ClaimVerdict.CRASHED)  # by the crash rule
CHANNELS = (Channel.EMAIL, Channel.SMS)


@dataclass(eq=False)
class Held:
    """A claim in hand; `outcome` once the provider was called."""

    me: str
    stream: str
    entry: Entry
    claim: Claim
    claimed_at: float
    settle: Settle
    outcome: Outcome | None = None


@dataclass
class Hands:
    """`passed_s` is how much time has passed by order, `held` the claims in hand, the counters are by notification.

    `in_hands` is by consumer and stream, `told` what is to be settled.
    """

    resources: Resources
    passed_s: float = 0.0
    held: list[Held] = field(default_factory=list)
    in_hands: dict[tuple[str, str], InHand] = field(default_factory=dict)
    told: list[tuple[str, str, Entry, Verdict]] = field(default_factory=list)
    calls: Counter[int] = field(default_factory=Counter)
    sends: Counter[int] = field(default_factory=Counter)
    excuses: Counter[int] = field(default_factory=Counter)
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

    # ---- ways in

    async def post(self, count: int, published: bool, expires_in_s: float | None = None) -> None:
        now = await clock(self.resources.pool)
        expires_at = None if expires_in_s is None else now + timedelta(seconds=expires_in_s)
        new = [prepare(event(channels=CHANNELS, expires_at=expires_at)) for _ in range(count)]
        stored = await insert_events(self.resources.pool, new)
        if published:
            rows = [
                Outgoing(s.row_id, n.event.event_id, n.event.user_id, n.event.type, s.published_at)
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
        settled: list[tuple[Entry, Any]] = []
        handler = Route(self.resources, Database(), at_once(self, me, channels, room))
        dead, alive = [e for e in entries if e.deliveries > limit], [e for e in entries if e.deliveries <= limit]
        with losing(self, lost, lambda: self._lose_time(reader)):
            await handler.dead(dead, lambda e, verdict: settled.append((e, verdict)))
            await handler(alive, lambda e, verdict: settled.append((e, verdict)))
        if dies:
            self.die(who)
        else:
            await self._settle(me, EVENTS, settled)
            await self._settle_told()

    async def _lose_time(self, reader: str) -> None:
        """A lease ends, and `reader` takes over."""
        if reader:
            await self.pass_time(self.resources.settings.lease_s + 1)
            await self.sweep()
            for channel in CHANNELS:
                await self.claim(reader, channel, 3, answer_lost=False)

    async def route_and_die(self, who: str, most: int) -> None:
        """Gone between its commit, which claims everything, and its calls."""
        event_pks = [e.row_id for e in await self.take(who, EVENTS, most) if e.row_id is not None]
        plain = await hot_route.peek(self.resources.hot, event_pks)
        await hot_route.route_plain(self.resources, plain, CHANNELS, self.name(who))
        self.die(who)

    def hold(self, me: str, stream: str, entry: Entry, claim: Claim, settle: Settle, claimed_at: float) -> None:
        self.held.append(Held(me, stream, entry, claim, claimed_at, settle))

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
                self.hold(me, stream, by_row[c.id], c, Slots(self, me, channel).settle, self.passed_s)
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

    async def call(self, held: Held, outcome: Outcome) -> None:
        """The provider is called, unless the lease could end in mid-send: then the claim is given back."""
        settings = self.resources.settings
        if self.passed_s - held.claimed_at + settings.provider_limit_s > settings.lease_s:
            await self.give_back(held)
            return
        c = held.claim
        if self.sends[c.id]:
            assert c.possible_duplicate, f"notification {c.id}, attempt {c.attempt}: the record does not say it may be doubled"
        self.calls[c.id] += 1
        self.sends[c.id] += outcome in MAYBE_SENT
        self.excuses[c.id] += outcome is Outcome.UNKNOWN
        held.outcome = outcome

    async def give_back(self, held: Held, answer_lost: bool = False) -> None:
        """Nothing was sent: told twice where the first answer was lost."""
        self.held.remove(held)
        for _ in range(1 + answer_lost):
            parked = (await release(self.resources.pool, [(held.claim.id, held.claim.attempt)])).get(held.claim.id)
        self.released.add((held.claim.id, held.claim.attempt))
        await self._end(held, after_release(parked))

    async def finish(self, held: Held, lost: str = "none", reader: str = "") -> None:
        """The outcome is recorded, twice where the first answer was lost; then the entry is settled.

        Where there is a `reader`, who records stands still before it has its answer.
        """
        assert held.outcome is not None
        self.held.remove(held)
        channel = next(c for c in CHANNELS if channel_stream(c) == held.stream)
        settings, c = self.resources.settings, held.claim
        move = next_move(Result(held.outcome), c.tries, settings.channel_policy(channel), 1.0, settings.reclaim_after_s)
        ending = Ending(c.id, c.attempt, held.outcome, "hands", None, None, move.status, move.reason, move.wait_s, move.park)
        asked_s = self.passed_s
        (finished,) = await hot.finish(self.resources, [ending])
        await self._lose_time(reader)
        if lost == "commit":
            (finished,) = await hot.finish(self.resources, [ending])
        with losing(self, lost):
            await self._end(held, after_finish(finished, c.attempt, asked_s))

    def die(self, who: str) -> None:
        """All that it had in hand is gone; nobody knows what its calls came to."""
        for held in [h for h in self.held if h.me == self.name(who)]:
            self.held.remove(held)
            self.excuses[held.claim.id] += held.outcome in MAYBE_SENT
        self.told.clear()
        self.lives[who] += 1

    async def _end(self, held: Held, verdict: Verdict) -> None:
        held.settle(held.entry, verdict)
        await self._settle_told()

    async def _settle_told(self) -> None:
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
