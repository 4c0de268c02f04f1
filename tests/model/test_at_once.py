"""Directed scenarios, with and without a rule: what is sent at once is on no stream, and is never lost or sent by two."""

import pytest

from app.domain import EventStatus, Outcome, Status
from tests.model.desk import STREAM, Router, run
from tests.model.rules import CHANNELS, RECLAIM_AFTER_S, SETTINGS, WAITS_S

BOTH = len(CHANNELS)


def test_what_is_sent_at_once_is_on_no_stream_and_leaves_nothing_behind() -> None:
    router = Router()
    run(router.route())
    router.go_on()
    assert (router.statuses(), router.world.adds.total()) == ({Status.SENT}, 0)
    assert not any(consumer.in_hand.entries for consumer in router.process.consumers.values())


@pytest.mark.parametrize(("without", "entries"), [((), 1), (("parked",), 0)], ids=["all rules", "parked"])
def test_what_a_process_had_in_hand_that_died_does_not_wait_behind_the_backlog(without: tuple[str, ...], entries: int) -> None:
    router = Router(*without)
    router.publish(100)
    run(router.route())
    router.write_before_calls_end()
    assert router.world.calls.total() == BOTH, "both had begun, and end with their process"
    router.calls()
    router.world.t += SETTINGS.lease_s - 1
    router.sweep(1, every_s=0)
    assert router.left() == 100, "nothing is published under a live lease"
    assert router.sweep(1, every_s=RECLAIM_AFTER_S) == 100 + entries


@pytest.mark.parametrize(("without", "left"), [((), BOTH), (("on_stream",), 0)], ids=["all rules", "on_stream"])
def test_a_retry_goes_on_its_stream_as_soon_as_it_is_recorded(without: tuple[str, ...], left: int) -> None:
    router = Router(*without, outcome=Outcome.UNAVAILABLE)
    run(router.route())
    router.go_on()
    assert (router.statuses(), router.left()) == ({Status.PENDING}, left)


@pytest.mark.parametrize(("without", "left"), [((), BOTH), (("dated",), 2 * BOTH)], ids=["all rules", "dated"])
def test_a_retry_that_waits_on_its_stream_is_not_published_by_the_relay_as_well(without: tuple[str, ...], left: int) -> None:
    router = Router(*without, outcome=Outcome.UNAVAILABLE)
    run(router.route())
    router.go_on()
    router.world.t += RECLAIM_AFTER_S
    router.sweep_channels()
    assert router.left() == left


@pytest.mark.parametrize(
    ("without", "due_in_s"), [((), WAITS_S[1]), (("let_go",), RECLAIM_AFTER_S / 2)], ids=["all rules", "let_go"]
)
def test_a_retry_that_its_own_process_reads_comes_back_when_it_is_due(without: tuple[str, ...], due_in_s: float) -> None:
    router = Router(*without, outcome=Outcome.UNAVAILABLE)
    run(router.route())
    router.run_next(2)
    reader, settling = router.process.consumers[STREAM], router.calls()
    while not router.redis.stream(STREAM).entries:
        for steps in settling:
            next(steps, None)
    reader._found_due = True
    run(reader._turn())
    for steps in settling:
        run(steps)
    router.go_on()
    group = router.redis.stream(STREAM).group
    assert group is not None
    (pending,) = group.pending.values()
    assert RECLAIM_AFTER_S - (router.redis.time() - pending.since) == pytest.approx(due_in_s, abs=0.1)


@pytest.mark.parametrize(("without", "left"), [((), BOTH), (("late_add",), 2 * BOTH)], ids=["all rules", "late_add"])
def test_a_retry_that_would_come_late_on_its_stream_is_left_to_the_relay(without: tuple[str, ...], left: int) -> None:
    router = Router(*without, outcome=Outcome.UNAVAILABLE)
    run(router.route())
    router.run_next(2)
    router.world.t += RECLAIM_AFTER_S
    router.sweep_channels()
    assert router.left() == BOTH
    router.go_on()
    assert router.left() == left


@pytest.mark.parametrize(("without", "left"), [((), BOTH), (("due_now",), 0)], ids=["all rules", "due_now"])
def test_what_is_given_back_is_published_at_once_and_not_when_its_lease_would_have_ended(
    without: tuple[str, ...], left: int
) -> None:
    router = Router(*without)
    run(router.route())
    router.world.t += SETTINGS.lease_s - SETTINGS.provider_limit_s + 0.1
    router.go_on()
    assert (router.statuses(), router.world.calls.total()) == ({Status.PENDING}, 0)
    router.sweep_channels()
    assert router.left() == left


def test_an_event_that_comes_again_while_it_is_sent_is_not_begun_again() -> None:
    """Not even where an answer of PostgreSQL gets lost: what is looked for then would be found, in mid-send."""
    router = Router()
    run(router.route())
    router.loses_answer(2)
    run(router.route())
    router.go_on()
    assert router.world.calls.total() == BOTH


@pytest.mark.parametrize(("without", "calls"), [((), 1), (("mine",), 2)], ids=["all rules", "mine"])
def test_who_stood_still_past_its_lease_begins_nothing_that_it_has_read_meanwhile(without: tuple[str, ...], calls: int) -> None:
    """By PostgreSQL's clock, which stepped forward. Another took the event over, and the reader is the first to go on."""
    router = Router(*without)
    steps = router.route()
    while not router.event.claimed_by:
        next(steps)
    router.takes_over()
    reader = router.process.consumers[STREAM]
    reader._found_due = True
    run(reader._turn())
    run(steps)
    router.go_on()
    row_id = next(n.id for n in router.tables.notifications.values() if n.channel.lower() == STREAM)
    assert router.world.calls[row_id] == calls


@pytest.mark.parametrize(
    ("without", "calls", "status"),
    [((), 0, EventStatus.FAILED), (("judged",), BOTH, EventStatus.ROUTED)],
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
    router.go_on()
    assert (router.world.calls.total(), router.event.status) == (calls, status)
