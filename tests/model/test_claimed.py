"""Directed scenarios, with and without a rule: what becomes of an event that is claimed as a whole, and comes to another."""

from collections.abc import Callable

import pytest

from app.domain import EventStatus, Outcome, Status
from app.streams import Entry
from consumers.settle import Acknowledge, Back, Leave
from tests.model import duties, routing
from tests.model.desk import Router, run
from tests.model.process import Steps
from tests.model.rules import CHANNELS, RECLAIM_AFTER_S, SETTINGS
from tests.model.store_rest import EVENTS

BOTH = len(CHANNELS)
BETWEEN = {
    "claim": lambda r: r.has_room(r.other) or r.route(r.other),
    "route_plain": lambda r: r.route(r.other),
    "route": lambda r: r.route(r.other, 2),
}


@pytest.mark.parametrize(("without", "sends"), [((), BOTH), (("claimed",), 2 * BOTH)], ids=["all rules", "claimed"])
@pytest.mark.parametrize("way", BETWEEN)
def test_an_event_claimed_since_another_looked_at_it_is_sent_once(way: str, without: tuple[str, ...], sends: int) -> None:
    router = Router(*without)
    late: Steps[None] = BETWEEN[way](router)
    next(late)  # looked at
    run(router.route())
    run(late)
    router.go_on()
    read_channels(router)
    assert router.world.sends.total() == sends


def read_channels(router: Router) -> None:
    for channel in CHANNELS:
        consumer = router.other.consumers[channel.lower()]
        run(consumer._turn())
        router.go_on()


@pytest.mark.parametrize("without", [(), ("claimed",)], ids=["all rules", "claimed"])
def test_an_event_claimed_since_another_asked_the_rate_limit_is_not_deferred(without: tuple[str, ...]) -> None:
    """It forgot meanwhile that it had charged this one."""
    router = Router(*without)
    router.world.deferring = True
    mine, late = router.route(), router.route(router.other, 2)
    next(late)
    for _ in range(2):
        next(mine)  # looked at, and charged
    router.redis.buckets.clear()
    for event in range(SETTINGS.rate_limit_per_user):
        router.redis.charge(
            router.event.user, -event - 1, SETTINGS.rate_limit_per_user, SETTINGS.rate_limit_every_us / 1e6, 60, True, True
        )
    run(mine)
    run(late)
    assert (router.event.published_at is None) == bool(without), "parked for seconds, and with it what its process leaves behind"


@pytest.mark.parametrize(
    ("without", "status"), [((), EventStatus.NEW), (("claimed",), EventStatus.FAILED)], ids=["all rules", "claimed"]
)
def test_an_event_claimed_after_its_dead_letter_was_looked_at_does_not_end(without: tuple[str, ...], status: EventStatus) -> None:
    router = Router(*without)
    late = dead(router)
    next(late)  # claimed by nobody
    run(router.route())
    run(late)
    assert router.event.status is status


def dead(router: Router) -> Steps[None]:
    entry = Entry(b"1-1", router.event.id, SETTINGS.max_deliveries + 1)
    return routing.dead_event(router.other, [entry], lambda _, verdict: router.settled.append(verdict))


@pytest.mark.parametrize(
    ("without", "verdict", "statuses"),
    [((), Acknowledge(), {Status.PROCESSING}), (("dead_claimed",), Leave(), set())],
    ids=["all rules", "dead_claimed"],
)
def test_a_dead_letter_that_was_claimed_may_have_been_sent(
    without: tuple[str, ...], verdict: Acknowledge | Leave, statuses: set[Status]
) -> None:
    router = Router(*without)
    run(router.route())
    router.world.t += SETTINGS.lease_s + 1
    run(dead(router))
    assert (router.settled, router.statuses()) == ([verdict], statuses)


@pytest.mark.parametrize(("without", "left"), [((), 0), (("parked",), BOTH)], ids=["all rules", "parked"])
def test_an_event_taken_over_while_it_is_sent_is_published_by_nobody(without: tuple[str, ...], left: int) -> None:
    router = Router(*without)
    run(router.route())
    run(router.route(router.other, 2))
    assert (router.event.status, router.statuses(), router.left()) == (EventStatus.ROUTED, {Status.PROCESSING}, left)
    router.sweep_channels()
    assert router.left() == left
    router.go_on()
    assert (router.statuses(), router.settled) == ({Status.SENT}, [Acknowledge(), Back(0)])


def test_what_was_taken_over_from_who_died_is_owed_once_its_lease_is_over() -> None:
    router = Router()
    run(router.route())
    run(router.route(router.other, 2))
    router.calls()  # end with their process
    router.world.t += SETTINGS.lease_s + 1
    router.sweep_channels()
    assert router.left() == BOTH


@pytest.mark.parametrize(("without", "entries"), [((), 0), (("event_lease",), 1)], ids=["all rules", "event_lease"])
def test_the_relay_does_not_publish_what_is_being_sent(without: tuple[str, ...], entries: int) -> None:
    """It waited long before that, and then its stream was flushed."""
    router = Router(*without)
    router.world.t += RECLAIM_AFTER_S
    run(router.route())
    run(duties.sweep(router.process, EVENTS))
    assert len(router.redis.stream(EVENTS).entries) == entries
    router.world.t += SETTINGS.lease_s + 1
    run(duties.sweep(router.process, EVENTS))
    assert router.redis.stream(EVENTS).entries


@pytest.mark.parametrize(("without", "found"), [((), 1), (("kept",), 0)], ids=["all rules", "kept"])
def test_what_a_process_had_claimed_that_died_comes_back_before_what_is_new(without: tuple[str, ...], found: int) -> None:
    router = Router(*without)
    router.redis.add(EVENTS, router.event.id, 0.0)
    consumer = router.process.consumers[EVENTS]
    run(consumer._hand_over([e for e in router.redis.read(EVENTS, router.process.me, 1) if consumer._admit(e)]))
    _, _, _, *settling = router.calls()  # two calls and the write end with their process
    for steps in settling:
        run(steps)
    router.world.t += RECLAIM_AFTER_S
    assert len(router.redis.reclaim(EVENTS, "other", RECLAIM_AFTER_S, 1)) == found


def test_what_ended_while_its_event_was_written_is_recorded_after_it() -> None:
    router = Router()
    run(router.route())
    first, second, write = router.calls()
    run(first)
    next(second)
    while not router.tables.notifications:
        next(write)
    run(second)  # before that was answered
    run(write)
    assert router.statuses() == {Status.SENT, Status.PROCESSING}
    router.go_on()
    assert router.statuses() == {Status.SENT}
    assert set(router.tables.attempts.values()) == {Outcome.SENT}


@pytest.mark.parametrize("passes", [Router.takes_over, lambda router: router.loses_answer(1)], ids=["taken over", "answer lost"])
def test_the_ends_of_an_event_that_was_passed_over_are_recorded(passes: Callable[[Router], None]) -> None:
    router = Router()
    run(router.route())
    passes(router)
    router.settled.clear()
    router.go_on()
    assert router.statuses() == {Status.SENT}
    assert router.settled == [Back(0)], "it is looked at again"
