"""Directed scenarios on the model's fakes, with and without a rule: how many entries waiting rows come to, and who is called."""

from collections.abc import Iterable

import pytest

from app.domain import Channel, EventStatus, Outcome, Status
from app.store.notifications import ClaimVerdict
from app.streams import Entry
from consumers.settle import Acknowledge
from consumers.verdicts import after_claim
from tests.model import duties, routing
from tests.model.consumer import Consumer
from tests.model.fake_redis import Away
from tests.model.process import Process, Steps, Task
from tests.model.rules import ALL, CHANNELS, RECLAIM_AFTER_S, SETTINGS
from tests.model.store_rest import Made
from tests.model.tables import Notification
from tests.model.world import World, handlers_of

STREAM = "email"
EVERY_S = 3.0


class Desk:
    """A world without faults and without chance, in which nothing runs by itself."""

    def __init__(self, *without: str) -> None:
        self.world = World(1, ALL - set(without))
        self.redis, self.tables = self.world.redis, self.world.tables
        self.redis.offset_s, self.redis.rate = 0.0, 1
        self.process = Process(self.world, "desk", lambda _: None)
        self.redis.create_group(STREAM)

    def publish(self, rows: int = 100) -> list[int]:
        return [self._publish_one() for _ in range(rows)]

    def _publish_one(self) -> int:
        self.world.t += 0.01
        row_id, now = self.tables.next_id(), self.tables.now()
        self.tables.notifications[row_id] = Notification(row_id, 0, Channel.EMAIL, now, now, None)
        self.world.add(Made(row_id, STREAM, now))
        return row_id

    def sweep(self, times: int = 100, every_s: float = EVERY_S) -> int:
        """The entries on the stream after so many sweeps, while nobody consumes."""
        for _ in range(times):
            self.world.t += every_s
            for _ in duties.sweep(self.process, STREAM):
                pass
        return len(self.redis.stream(STREAM).entries)


@pytest.mark.parametrize(
    ("ahead_s", "without", "entries"), [(30, (), 100), (300, (), 100), (30, ("at",), 800), (300, ("at",), 9800)]
)
def test_a_backlog_is_added_once_however_far_ahead_the_clock_of_redis_is(
    ahead_s: float, without: tuple[str, ...], entries: int
) -> None:
    desk = Desk(*without)
    desk.redis.offset_s = ahead_s
    desk.publish()
    assert desk.sweep() == entries


def test_ids_that_stay_ahead_after_the_clock_of_redis_stepped_back_add_nothing() -> None:
    desk = Desk()
    desk.redis.offset_s = 300
    desk.publish(1)
    desk.redis.stream(STREAM).entries.clear()
    desk.tables.notifications.clear()
    desk.redis.offset_s = 0
    desk.publish()
    assert desk.sweep() == 100


@pytest.mark.parametrize(("without", "entries"), [((), 100), (("before",), 200)], ids=["all rules", "before"])
def test_a_relay_that_slept_a_minute_after_an_empty_look_adds_nothing(without: tuple[str, ...], entries: int) -> None:
    desk = Desk(*without)
    desk.world.t = 100
    steps = duties.sweep(desk.process, STREAM)
    next(steps)  # PostgreSQL's clock is read
    next(steps)  # and the stream, which is empty
    desk.world.t += 30
    desk.publish()
    desk.world.t += 30
    for _ in steps:
        pass
    assert len(desk.redis.stream(STREAM).entries) == entries


@pytest.mark.parametrize(("without", "entries"), [((), 1), (("late_add",), 2)], ids=["all rules", "late_add"])
def test_a_relay_that_slept_before_its_xadd_leaves_it_to_the_one_that_did_not(without: tuple[str, ...], entries: int) -> None:
    desk = Desk(*without)
    desk.publish(1)
    desk.redis.streams.clear()
    desk.world.t += 60
    slow = duties.sweep(desk.process, STREAM)
    for _ in range(3):
        next(slow)  # the clock, the stream, and the row is taken
    desk.sweep(times=1, every_s=30)
    for _ in slow:
        pass
    assert len(desk.redis.stream(STREAM).entries) == entries


def test_after_flushall_everything_owed_comes_back_once() -> None:
    desk = Desk()
    desk.publish()
    desk.world.t += 60
    desk.redis.streams.clear()
    desk.redis.create_group(STREAM)
    assert desk.sweep() == 100


def test_postgresql_s_clock_ten_minutes_back_under_a_backlog_adds_nothing() -> None:
    desk = Desk()
    desk.tables.offset_s = 600
    desk.publish()
    desk.tables.offset_s = 0
    desk.publish()
    assert desk.sweep() == 200


@pytest.mark.parametrize(("without", "entries"), [((), 0), (("group_head",), 100)], ids=["all rules", "group_head"])
def test_entries_that_the_group_forgot_are_removed_and_their_rows_published_again(without: tuple[str, ...], entries: int) -> None:
    desk = Desk(*without)
    rows = desk.publish()
    old = [e.id for e in desk.redis.read(STREAM, "gone", 100)]
    group = desk.redis.stream(STREAM).group
    assert group is not None
    group.pending.clear()
    desk.sweep()
    left = desk.redis.stream(STREAM).entries
    assert len([i for i in old if i in left]) == entries
    assert sorted(c.row_id for c in left.values()) == rows


def test_a_second_entry_of_a_parked_row_is_acknowledged_the_first_time_it_comes_back() -> None:
    desk = Desk()
    (row_id,) = desk.publish(1)
    desk.tables.notifications[row_id].due_at += 7200
    desk.tables.park(desk.tables.notifications[row_id])
    claim = desk.world.deliveries.claim(row_id, "me", 0.0)
    assert claim.verdict is ClaimVerdict.PARKED
    assert after_claim(claim, RECLAIM_AFTER_S) == Acknowledge()


def test_a_replay_parks_its_row_and_one_sweep_publishes_it() -> None:
    desk = Desk()
    (row_id,) = desk.publish(1)
    row = desk.tables.notifications[row_id]
    row.status, row.tries = Status.FAILED, SETTINGS.channel_policy(Channel.EMAIL).max_tries
    desk.redis.stream(STREAM).entries.clear()
    assert desk.world.rest.replay(row_id)
    assert (row.status, row.tries, row.published_at) == (Status.PENDING, 0, None)
    assert not desk.redis.stream(STREAM).entries, "the replay publishes nothing itself"
    assert desk.sweep(times=1) == 1


class Router(Desk):
    """An event, and a process that routes and may send at once."""

    def __init__(self, *without: str, expires_in_s: float | None = None) -> None:
        super().__init__(*without)
        self.process.consumers = {s: Consumer(self.process, s, *both) for s, both in handlers_of().items()}
        for channel in CHANNELS:
            self.redis.create_group(channel.lower())
            self.process.consumers[channel.lower()]._drained = True
        event = self.world.rest.insert_event("key", "ann", 0.0, expires_in_s)
        assert event is not None
        self.event = self.tables.events[event.row_id]

    def route(self) -> Steps[None]:
        return routing.route_one(self.process, Entry(b"1-1", self.event.id, 1), lambda _entry, _verdict: None)

    def loses_second_answer(self) -> None:
        """Of PostgreSQL's: of the commit, or, where the look was enough, of the closer one."""
        errors = iter([False, True])

        def lose() -> None:
            if next(errors, False):
                raise Away

        self.tables.lose = lose

    def calls(self) -> list[Steps[None]]:
        """What was begun since the last time."""
        begun = [item.steps for *_, item in self.world.heap if isinstance(item, Task)]
        self.world.heap.clear()
        return begun

    def left(self) -> int:
        return sum(len(self.redis.stream(channel.lower()).entries) for channel in CHANNELS)


def run(steps: Iterable[float]) -> None:
    for _ in steps:
        pass


def test_an_event_that_comes_again_while_it_is_sent_is_not_begun_again() -> None:
    """Not even where an answer of PostgreSQL gets lost: what is looked for then would be found, in mid-send."""
    router = Router()
    run(router.route())
    router.loses_second_answer()
    run(router.route())
    assert len(router.calls()) == len(CHANNELS)


def test_who_stood_still_past_its_lease_begins_nothing_that_it_has_read_meanwhile() -> None:
    """The relay of another published the row, and the reader of who stood still is the first to go on."""
    router = Router()
    steps = router.route()
    while not router.tables.notifications:
        next(steps)
    router.world.t += SETTINGS.lease_s + RECLAIM_AFTER_S
    relay = Process(router.world, "other", lambda _: None)
    for channel in CHANNELS:
        run(duties.sweep(relay, channel.lower()))
    reader = router.process.consumers[CHANNELS[0].lower()]
    reader._found_due = True
    turn = reader._turn()
    while not reader.in_hand.entries:
        next(turn)
    assert len(router.calls()) == 1, "what was read is handed over"
    run(steps)
    assert len(router.calls()) == len(CHANNELS) - 1
    assert len(reader.in_hand.entries) == 1


@pytest.mark.parametrize(
    ("without", "calls", "status"),
    [((), 0, EventStatus.FAILED), (("judged",), 2, EventStatus.ROUTED)],
    ids=["all rules", "judged"],
)
def test_what_expires_while_the_rate_limit_is_asked_is_not_sent(
    without: tuple[str, ...], calls: int, status: EventStatus
) -> None:
    router = Router(*without, expires_in_s=30)
    steps = router.route()
    next(steps)  # looked at
    router.world.t += 60
    run(steps)
    assert (len(router.calls()), router.event.status) == (calls, status)


@pytest.mark.parametrize(("without", "left"), [((), 0), (("named",), 2)], ids=["all rules", "named"])
def test_what_ended_before_it_was_published_is_acknowledged_once_it_is(
    without: tuple[str, ...], left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = Router(*without)
    monkeypatch.setattr(router.world.rng, "choices", lambda *_: [Outcome.SENT])
    steps = router.route()
    while not (calls := router.calls()):
        next(steps)
    for call in calls:
        run(call)
    run(steps)
    for task in router.calls():
        run(task)
    assert [n.status for n in router.tables.notifications.values()] == [Status.SENT] * 2
    assert router.left() == left
