"""Directed scenarios on the model's fakes, with and without a rule: how many entries waiting rows come to."""

import pytest

from app.domain import Channel, Status
from app.store.notifications import ClaimVerdict
from consumers.settle import Acknowledge
from consumers.verdicts import after_claim
from tests.model import duties
from tests.model.desk import STREAM, Desk
from tests.model.rules import RECLAIM_AFTER_S, SETTINGS


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
