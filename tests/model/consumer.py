"""The loop on one stream and group, as consumers/consumer.py: reclaim, read, hand over, settle."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from app.streams import Entry
from consumers.consumer import AGAIN_AFTER_S, FAULT_PAUSE_S
from consumers.in_hand import InHand
from consumers.reclaim import ServerClock, split_alone
from consumers.room import Room
from consumers.settle import Acknowledge, Back, Bury, Leave, Publish, Verdict, count_after
from tests.model.fake_redis import Away, NoGroup
from tests.model.process import Process, Steps
from tests.model.rules import ANSWER_S, RECLAIM_AFTER_S, SETTINGS, SLOTS
from tests.model.store_rest import Made

BLOCK_S = 1.0
Settle = Callable[[Entry, Verdict], None]
Handler = Callable[[Process, Sequence[Entry], Settle], Steps[None]]


class Consumer:
    """One consumer of one stream, in one life of its process."""

    def __init__(self, process: Process, stream: str, handler: Handler, dead: Handler) -> None:
        self._p, self._w, self.stream = process, process.world, stream
        self._handler, self._dead = handler, dead
        self._redis, self._rules = process.world.redis, process.world.rules
        self.in_hand = InHand(SLOTS)
        self._clock, self._found_due, self._all_wanted, self._all_asked_at = ServerClock(), False, False, -1e9
        self.room = Room(self.in_hand)
        self.room.stopping = asyncio.Event() if self._w.at_once else None
        self._settling: list[tuple[Entry, Verdict]] = []
        self._writing = False

    def run(self) -> Steps[None]:
        with suppress(Away):
            self._redis.create_group(self.stream)
        while True:
            if self._w.t < self._w.idle_until or not (self._p.here or "hold" not in self._rules):
                yield BLOCK_S
                continue
            try:
                yield from self._turn()
            except NoGroup:
                yield from self._make_group()
            except Away:
                yield AGAIN_AFTER_S

    def _make_group(self) -> Steps[None]:
        try:
            self._redis.create_group(self.stream)
        except Away:
            yield AGAIN_AFTER_S
        yield 0.0

    def _turn(self) -> Steps[None]:
        yield from self._until_free()
        entries = yield from self._next(self.room.free())
        if entries:
            self._p.spawn(self._hand_over(entries))
        yield 0.0 if self._found_due or entries else BLOCK_S

    def _until_free(self) -> Steps[None]:
        while self.room.free() <= 0:
            self.room.drained = False
            yield 0.2

    def _until_empty(self) -> Steps[None]:
        while self.in_hand.entries or self.in_hand.reserved:
            yield 0.2

    def _next(self, free: int) -> Steps[list[Entry]]:
        """What is due; in the turn after such a find what is new."""
        found_due = self._found_due
        self.room.promised = free if "asked" in self._rules else 0
        due = [] if found_due else (yield from self._due(free))
        self.room.promised = 0
        self._found_due = bool(due)
        if due:
            return due
        most = min(free, self.room.kept_free) if self.room.drained and not found_due else free
        new = yield from self._read(most)
        self.room.was_read(len(new), most)
        return [e for e in new if self._admit(e)]

    def _read(self, most: int) -> Steps[list[Entry]]:
        """What is new; the answer takes a while."""
        new = self._redis.read(self.stream, self._p.me, most)
        self.room.promised = most if "asked" in self._rules else 0
        yield 0.0
        self.room.promised = 0
        return new

    def _due(self, most: int) -> Steps[list[Entry]]:
        taken = [e for e in self._take(most) if e.id not in self.in_hand.entries]
        yield 0.0
        suspect, others = split_alone(taken)
        if suspect is None or "alone" not in self._rules:
            return [e for e in taken if self._admit(e)]
        for e in others:
            self._redis.put_back(self.stream, self._p.me, e.id, RECLAIM_AFTER_S, max(0, e.deliveries - 1))
        self._redis.put_back(self.stream, self._p.me, suspect.id, 0.0, suspect.deliveries - 1)
        yield from self._until_empty()
        if not self._redis.has(self.stream, self._p.me, suspect.id):
            return []
        self._redis.put_back(self.stream, self._p.me, suspect.id, 0.0, suspect.deliveries)
        if self._admit(suspect):
            yield from self._hand_over([suspect])
            yield from self._until_empty()
        return []

    def _take(self, most: int) -> list[Entry]:
        """One circle of reclaim; after Redis' clock stepped back the next one takes everything pending."""
        if "reclaim" not in self._rules:
            return []
        min_idle_s = 0.0 if self._all_wanted else RECLAIM_AFTER_S
        self._all_wanted = False
        taken = self._redis.reclaim(self.stream, self._p.me, min_idle_s, most)
        back = self._clock.stepped_back(self._redis.time(), self._w.t, self._redis.stream(self.stream).last_id_s())
        if "step_back" in self._rules and back and self._w.t - self._all_asked_at > RECLAIM_AFTER_S / 2:
            self._all_wanted, self._all_asked_at = True, self._w.t
        return taken

    def _admit(self, entry: Entry) -> bool:
        """Into the hand; the very entry may be there already, and a second one of its row waits."""
        if "in_hand" not in self._rules:
            self.in_hand.entries[entry.id] = entry
            return True
        if entry.id in self.in_hand.entries:
            return False
        if self.in_hand.add(entry):
            self._look_for_a_crowd()
            return True
        self._queue(entry, Back(RECLAIM_AFTER_S / 2, handled=False))
        return False

    def _look_for_a_crowd(self) -> None:
        if self.in_hand.free() < 0:
            self._w.bad("crowded", f"{self.stream}: {-self.in_hand.free()} more in hand than there are slots")

    def _hand_over(self, entries: list[Entry]) -> Steps[None]:
        alive = [e for e in entries if e.deliveries <= SETTINGS.max_deliveries]
        dead = [e for e in entries if e.deliveries > SETTINGS.max_deliveries]
        try:
            if dead:
                yield from self._dead(self._p, dead, self.settle)
            if alive:
                yield from self._handler(self._p, alive, self.settle)
        except Away:  # only where the model does without a rule: handlers are patient
            for entry in entries:
                self.settle(entry, Leave())
            yield FAULT_PAUSE_S

    def settle(self, entry: Entry, verdict: Verdict) -> None:
        if entry.id in self.in_hand.entries:
            self._queue(entry, verdict)
        else:
            self._w.bad("unheld", f"{self.stream}, row {entry.row_id}: nobody will settle its entry, {verdict}")

    def _queue(self, entry: Entry, verdict: Verdict) -> None:
        self._settling.append((entry, verdict))
        if not self._writing:
            self._writing = True
            self._p.spawn(self._write())

    def _write(self) -> Steps[None]:
        """The one place where entries are acknowledged, put back or published; the others repair what Redis did not do."""
        while self._settling:
            batch, self._settling = self._settling, []
            for entry in [e for e, verdict in batch if isinstance(verdict, Publish) and "let_go" in self._rules]:
                self.in_hand.drop(entry)
            for entry, verdict in batch:
                yield 0.0
                with suppress(Away, NoGroup):
                    self._tell_redis(entry, verdict)
            yield self._w.rng.choice(ANSWER_S)
            for entry, _ in batch:
                self.in_hand.drop(entry)
        self._writing = False

    def _tell_redis(self, entry: Entry, verdict: Verdict) -> None:
        if isinstance(verdict, Acknowledge | Bury):
            self._redis.acknowledge(self.stream, entry.id)
        elif isinstance(verdict, Back):
            idle_s = max(0.0, RECLAIM_AFTER_S - verdict.in_s)
            self._redis.put_back(
                self.stream, self._p.me, entry.id, idle_s, count_after(entry, verdict) if "count" in self._rules else None
            )
        elif isinstance(verdict, Publish) and "on_stream" in self._rules:
            self._publish(verdict)

    def _publish(self, verdict: Publish) -> None:
        if "late_add" not in self._rules or self._w.t <= verdict.asked_s + SETTINGS.publish_within_s:
            self._w.add(Made(verdict.row.row_id, self.stream, verdict.row.published_at.timestamp()))
