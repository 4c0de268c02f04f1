"""Hypothesis drives the product's own functions, on real servers, in orders nobody thought of; then the promise is looked at.

No process, no waiting: time passes by order. `MACHINE_EXAMPLES=2000 pytest -n 0 tests/model/test_machine.py` looks further.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
import uvloop
from hypothesis import HealthCheck, Phase
from hypothesis import settings as how
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from app import streams
from app.domain import PLACES, Channel, Outcome
from app.resources import Resources, open_resources
from app.settings import Settings
from tests.integration.conftest import WATCH, forbidden_moves
from tests.model import doubled, shifted
from tests.model.hands import CHANNELS, Hands
from tests.model.heal import heal, judge, unaccounted
from tests.model.recording_hands import Held, call, finish, give_back, write
from tests.model.routing_hands import LOSSES

EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "40"))
STEPS = 40
Answer = TypeVar("Answer")
Do = Callable[[Awaitable[Any]], Any]

WHO = st.sampled_from(["a", "b"])
CHANNEL = st.sampled_from(CHANNELS)
STREAM = st.sampled_from(streams.WORK_STREAMS[:3])
FEW = st.integers(1, 3)
ROW = st.sampled_from(
    [place + PLACES * n for n in range(3) for place in (1, 2)]
)  # of notifications; the first are of events, too
SELDOM = st.sampled_from([False, False, False, True])
LOST = st.sampled_from(LOSSES)
READER = st.sampled_from(["", "", "", "", "a", "b"])


class Machine(RuleBasedStateMachine):
    """Two consumers, a relay, an operator, and what goes wrong."""

    def __init__(self, do: Do, resources: Resources) -> None:
        super().__init__()
        self.do, self.resources = do, resources
        self.hands = Hands(resources)

    @initialize(count=FEW)
    def begin(self, count: int) -> None:
        self.do(shifted.reset(self.resources))
        self.do(self.hands.post(count, published=True))
        self.do(self.hands.route("a", count, dies=False))

    # ---- what the product does

    @rule(count=FEW, lost=SELDOM, expires_in_s=st.sampled_from([None, None, 5, 40]))
    def post(self, count: int, lost: bool, expires_in_s: int | None) -> None:
        self.do(self.hands.post(count, not lost, expires_in_s))

    @rule(
        who=WHO, new=st.integers(0, 3), most=FEW, dies=SELDOM, room=st.sampled_from([0, 1, 9, 9]),
        channels=st.sampled_from([CHANNELS, CHANNELS, CHANNELS[:1]]), lost=LOST, reader=READER,
    )  # fmt: skip
    def route(
        self, who: str, new: int, most: int, dies: bool, room: int, channels: tuple[Channel, ...], lost: str, reader: str
    ) -> None:
        """What is `new` is posted in the same step: seldom does anything wait for who routes."""
        if new:
            self.do(self.hands.post(new, published=True))
        self.do(self.hands.route(who, most, dies, room, channels, lost, reader))

    @rule(who=WHO, most=FEW, outcome=st.sampled_from(Outcome))
    def route_and_call(self, who: str, most: int, outcome: Outcome) -> None:
        """In one step, so that it is common to have something in mid-send that was claimed as it was routed."""
        self.do(self.hands.post(most, published=True))
        self.do(self.hands.route(who, most, dies=False, room=9))
        for held in self.hands.uncalled():
            self.do(call(self.hands, held, outcome))

    @rule(who=WHO, channel=CHANNEL, most=FEW, lost=SELDOM)
    def claim(self, who: str, channel: Channel, most: int, lost: bool) -> None:
        self.do(self.hands.claim(who, channel, most, lost))

    @rule(who=WHO, channel=CHANNEL, outcome=st.sampled_from(Outcome))
    def claim_and_call(self, who: str, channel: Channel, outcome: Outcome) -> None:
        """In one step, so that it is common to have something in mid-send."""
        self.do(self.hands.claim(who, channel, 3, answer_lost=False))
        for held in self.hands.uncalled():
            self.do(call(self.hands, held, outcome))

    @rule(channel=CHANNEL)
    def both_get_an_entry_of_the_same_rows(self, channel: Channel) -> None:
        """Seldom by chance, and what the lease is for."""
        self.claim_and_call("a", channel, Outcome.SENT)
        self.do(doubled.double(self.hands.resources))
        self.claim_and_call("b", channel, Outcome.SENT)

    @rule(who=WHO, lost=LOST)
    def events_in_mid_send_come_once_more(self, who: str, lost: str) -> None:
        """As after a failover, and to who routed them."""
        self.route_and_call(who, 2, Outcome.SENT)
        self.do(doubled.double_events(self.hands.resources))
        self.do(self.hands.route(who, 9, dies=False, room=9, lost=lost))
        for held in self.hands.uncalled():
            self.do(call(self.hands, held, Outcome.SENT))

    @precondition(lambda self: bool(self.hands.uncalled()))
    @rule(which=st.integers(0, 9), outcome=st.sampled_from(Outcome))
    def call(self, which: int, outcome: Outcome) -> None:
        self.do(call(self.hands, _one(self.hands.uncalled(), which), outcome))

    @precondition(lambda self: bool(self.hands.unended()))
    @rule(which=st.integers(0, 9), lost=LOST, reader=READER)
    def finish(self, which: int, lost: str, reader: str) -> None:
        self.do(finish(self.hands, _one(self.hands.unended(), which), lost, reader))

    @precondition(lambda self: bool(self.hands.uncalled()))
    @rule(which=st.integers(0, 9), lost=SELDOM)
    def give_back(self, which: int, lost: bool) -> None:
        """As where the channel was paused."""
        self.do(give_back(self.hands, _one(self.hands.uncalled(), which), "commit" if lost else "none"))

    @precondition(lambda self: bool(self.hands.unwritten))
    @rule(who=WHO, most=FEW, lost=LOST, reader=READER)
    def write(self, who: str, most: int, lost: str, reader: str) -> None:
        self.do(write(self.hands, who, most, lost, reader))

    @rule(who=WHO, count=FEW, ended=st.integers(0, 6), outcome=st.sampled_from(Outcome), lost=LOST, reader=READER)
    def send_at_once(self, who: str, count: int, ended: int, outcome: Outcome, lost: str, reader: str) -> None:
        """In one step, so that it is common that an event is written with some ends, and with others not."""
        self.route_and_call(who, count, outcome)
        for held in self.hands.unended()[:ended]:
            self.do(finish(self.hands, held))
        self.do(write(self.hands, who, count, lost, reader))

    @rule()
    def sweep(self) -> None:
        self.do(self.hands.sweep())

    @rule(row=ROW, cancels=SELDOM)
    def operate(self, row: int, cancels: bool) -> None:
        self.do(self.hands.cancel(row) if cancels else self.hands.replay(row))

    # ---- what goes wrong

    @rule(seconds=st.sampled_from([6, 31, 61, 61]))
    def time_passes(self, seconds: int) -> None:
        self.do(self.hands.pass_time(seconds))

    @rule(who=WHO)
    def consumer_dies(self, who: str) -> None:
        self.hands.die(who)

    @rule(who=WHO, most=FEW)
    def consumer_dies_before_it_publishes(self, who: str, most: int) -> None:
        self.do(self.hands.route_and_die(who, most))

    @rule(kind=st.sampled_from(["double", "double events", "relay dies", "flushall", "delete", "forget"]), who=WHO, stream=STREAM)
    def trouble(self, kind: str, who: str, stream: str) -> None:
        redis = self.resources.redis
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "double": lambda: doubled.double(self.hands.resources),
            "double events": lambda: doubled.double_events(self.hands.resources),
            "relay dies": lambda: self.hands.sweep_and_die(stream),
            "flushall": redis.flushall,
            "delete": lambda: redis.delete(stream),
            "forget": lambda: self.hands.forget(who, stream),
        }
        self.do(calls[kind]())

    # ---- what holds at every step, and once nothing goes wrong any more

    @invariant()
    def every_entry_is_unread_or_pending(self) -> None:
        assert self.hands.forgot or self.do(unaccounted(self.resources)) == {}

    @invariant()
    def every_move_is_allowed(self) -> None:
        assert self.do(forbidden_moves(self.resources)) == set()

    def teardown(self) -> None:
        assert self.do(heal(self.hands)), "not everything became final"
        rows = [dict(r) for r in self.do(self.resources.pool.fetch("select * from notification order by id"))]
        attempts = self.do(self.resources.pool.fetch("select notification_id, number, outcome from attempt"))
        assert judge(self.hands, rows, {(r["notification_id"], r["number"]): r["outcome"] for r in attempts}) == []


def _one(held: list[Held], which: int) -> Held:
    return held[which % len(held)]


@pytest.fixture
def long_window(make_settings: Callable[..., Settings]) -> Settings:
    """The product's window, so that the seconds which really pass count for nothing."""
    return make_settings(
        reclaim_after_s=60,
        max_deliveries=3,
        email_waits_s=(0, 5, 90),
        sms_waits_s=(0, 5, 90),
        rate_limit_per_user=1_000_000,
    )


@pytest.fixture
def do() -> Iterator[Do]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield lambda call: runner.run(_as_coroutine(call))


async def _as_coroutine(call: Awaitable[Answer]) -> Answer:
    return await call


@pytest.mark.timeout(600 + EXAMPLES)
def test_in_whatever_order_the_promise_is_kept(do: Do, long_window: Settings) -> None:
    do(shifted.shift_clock(long_window.database_url))
    opening = open_resources(long_window, "machine", pool_size=2)
    resources = do(opening.__aenter__())
    try:
        do(resources.pool.execute(WATCH))
        run_state_machine_as_test(
            lambda: Machine(do, resources),  # type: ignore[arg-type]
            settings=how(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                derandomize=True,
                database=None,
                deadline=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        do(opening.__aexit__(None, None, None))
