"""Whatever is done to a row in whatever order, by consumers or an operator: it makes only moves that domain.py allows."""

from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.domain import MOVES, CrashPolicy, Outcome, Status
from app.resources import Resources
from app.settings import ChannelPolicy
from app.store.hot import finish
from app.store.notifications import GO, Claim, Ending
from app.store.operate import cancel_notifications, replay_notifications
from app.store.owed import end_dead_notifications
from app.store.release import release
from consumers.retry import Result, next_move
from tests.integration.conftest import forbidden_moves, seen_moves
from tests.support import add_events, add_notification, attempts, change, claim, event, notification, route

MAX_TRIES = 3
R = 60.0  # the reclaim window


@dataclass
class Story:
    """One notification, and all that any consumer ever held of it."""

    resources: Resources
    id: int
    policy: ChannelPolicy
    claims: list[Claim] = field(default_factory=list)
    released: set[int] = field(default_factory=set)

    async def claim(self, consumer: str) -> None:
        at_most_once = self.policy.crash_policy is CrashPolicy.AT_MOST_ONCE
        rules: dict[str, Any] = {"lease_s": 30, "at_most_once": at_most_once, "max_tries": MAX_TRIES, "calm_s": 0}
        (answer,) = await claim(self.resources, [self.id], consumer, **rules)
        if answer.verdict in GO:
            self.claims.append(answer)

    async def end(self, held: int, outcome: Outcome) -> None:
        """A consumer that held the notification tells how its attempt ended: in time, too late, or for the second time."""
        if self.claims:
            c = self.claims[held % len(self.claims)]
            move = next_move(Result(outcome), c.tries, self.policy, 1.0, R)
            told = Ending(self.id, c.attempt, outcome, "p", None, None, move.status, move.reason, move.wait_s, move.park)
            await finish(self.resources, [told])

    async def release(self, held: int) -> None:
        if self.claims:
            attempt = self.claims[held % len(self.claims)].attempt
            if await release(self.resources.pool, [(self.id, attempt)]):
                self.released.add(attempt)

    async def crash(self) -> None:
        """The lease ends, and nobody has told anything."""
        await self.set("lease_until = now() - interval '1 s'", Status.PROCESSING)

    async def wait(self) -> None:
        await self.set("due_at = now()", Status.PENDING)

    async def expire(self) -> None:
        await self.set("expires_at = now()", Status.PENDING)

    async def bury(self) -> None:
        await end_dead_notifications(self.resources.pool, [self.id], "poison")

    async def replay(self) -> None:
        await replay_notifications(self.resources.pool, [self.id])

    async def cancel(self) -> None:
        await cancel_notifications(self.resources.pool, [self.id])

    async def set(self, assignments: str, status: Status) -> None:
        if (await self.row())["status"] == status:
            await change(self.resources, "notification", self.id, assignments)

    async def row(self) -> asyncpg.Record:
        return await notification(self.resources, self.id)


Step = tuple[Any, ...]
HELD, OUTCOME = st.integers(0, 5), st.sampled_from(Outcome)
CLAIM = st.tuples(st.just("claim"), st.sampled_from(["ann", "bob"]))
STEP = st.one_of(
    CLAIM,
    CLAIM,
    st.tuples(st.just("end"), HELD, OUTCOME),
    st.tuples(st.just("end"), HELD, OUTCOME),
    st.tuples(st.just("release"), HELD),
    st.sampled_from([("crash",), ("wait",), ("expire",), ("bury",)]),
    st.sampled_from([("replay",), ("replay",), ("cancel",)]),
)
CRASHES: list[Step] = [("claim", "ann"), ("crash",), ("claim", "bob"), ("crash",), ("claim", "ann"), ("crash",), ("claim", "bob")]
LATE: list[Step] = [("claim", "ann"), ("crash",), ("claim", "bob"), ("end", 0, Outcome.SENT), ("end", 1, Outcome.UNAVAILABLE)]
LATE_RELEASE: list[Step] = [("claim", "ann"), ("crash",), ("claim", "bob"), ("release", 0), ("wait",), ("claim", "ann")]
REPEAT: list[Step] = [("claim", "ann"), ("end", 0, Outcome.UNKNOWN), ("end", 0, Outcome.UNKNOWN), ("wait",), ("claim", "bob")]
REPLAYED: list[Step] = [("claim", "ann"), ("crash",), ("claim", "bob"), ("replay",), ("claim", "bob"), ("end", 0, Outcome.SENT)]
CANCELLED: list[Step] = [("claim", "ann"), ("end", 0, Outcome.UNAVAILABLE), ("cancel",), ("wait",), ("claim", "ann"), ("replay",)]


@given(steps=st.lists(STEP, min_size=4, max_size=14), crash_policy=st.sampled_from(CrashPolicy))
@example(steps=CRASHES, crash_policy=CrashPolicy.AT_LEAST_ONCE)
@example(steps=CRASHES, crash_policy=CrashPolicy.AT_MOST_ONCE)
@example(steps=LATE, crash_policy=CrashPolicy.AT_LEAST_ONCE)
@example(steps=LATE, crash_policy=CrashPolicy.AT_MOST_ONCE)
@example(steps=LATE_RELEASE, crash_policy=CrashPolicy.AT_MOST_ONCE)
@example(steps=REPEAT, crash_policy=CrashPolicy.AT_LEAST_ONCE)
@example(steps=REPLAYED, crash_policy=CrashPolicy.AT_MOST_ONCE)
@example(steps=CANCELLED, crash_policy=CrashPolicy.AT_LEAST_ONCE)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_order_of_steps_leads_astray(resources: Resources, steps: list[Step], crash_policy: CrashPolicy) -> None:
    policy = ChannelPolicy((0.0, 5.0, 90.0), crash_policy, concurrency=1, simulated_latency_ms=0, simulated_failure_rate=0)
    story = Story(resources, await add_notification(resources), policy)
    before = await story.row()
    for name, *details in steps:
        await getattr(story, name)(*details)
        after = await story.row()
        check_step(name, before, after)
        await check_history(story, after)
        before = after


def check_step(name: str, before: asyncpg.Record, after: asyncpg.Record) -> None:
    was, now = Status(before["status"]), Status(after["status"])
    assert now is was or now in MOVES[was]
    assert after["attempt"] - before["attempt"] in ((0, 1) if name == "claim" else (0,)), "the fence moves with a claim alone"
    assert 0 <= after["tries"] <= MAX_TRIES
    assert (after["lease_until"] is not None) == (now is Status.PROCESSING)
    assert after["possible_duplicate"] >= before["possible_duplicate"], "a doubt is not taken back"


async def check_history(story: Story, row: asyncpg.Record) -> None:
    outcomes = {a["number"]: a["outcome"] for a in await attempts(story.resources, story.id)}
    open_attempt = {row["attempt"]} if row["status"] == Status.PROCESSING else set()
    ended = set(range(1, row["attempt"] + 1)) - open_attempt
    assert set(outcomes) | story.released >= ended, "every attempt that ended is on record"
    assert not set(outcomes) & open_attempt, "none is before it ended"
    assert (outcomes.get(row["attempt"]) == Outcome.SENT) == (row["status"] == Status.SENT), "the last attempt decides"
    for c in story.claims:
        doubtful = any(outcome == Outcome.UNKNOWN and number < c.attempt for number, outcome in outcomes.items())
        assert c.possible_duplicate or not doubtful, "a repeat of what may have been sent says so"
    if story.policy.crash_policy is CrashPolicy.AT_MOST_ONCE:
        assert list(outcomes.values()).count(Outcome.UNKNOWN) <= 1 + row["replays"], "and is made by an operator alone"


# ---- the watch that every test with `resources` is under


async def test_the_watch_sees_the_moves_of_a_life(resources: Resources) -> None:
    story = Story(resources, await add_notification(resources), ChannelPolicy((0.0,), CrashPolicy.AT_LEAST_ONCE, 1, 0, 0))
    await story.claim("ann")
    await story.end(0, Outcome.SENT)
    assert await seen_moves(resources) == {
        ("event", "NEW", "ROUTED"),
        ("notification", "PENDING", "PROCESSING"),
        ("notification", "PROCESSING", "SENT"),
    }


@pytest.mark.parametrize(("table", "was", "became"), [("notification", "SENT", "PENDING"), ("event", "ROUTED", "NEW")])
async def test_the_watch_tells_a_forbidden_move(resources: Resources, table: str, was: str, became: str) -> None:
    (event_pk,) = await add_events(resources, event())
    await route(resources, [event_pk])
    await change(
        resources,
        "notification",
        [added["id"] for added in await resources.pool.fetch("select id from notification")],
        "status = 'SENT'",
    )
    await resources.pool.execute(f"update {table} set status = '{became}'")
    assert await forbidden_moves(resources) == {(table, was, became)}
    await resources.pool.execute("truncate seen_move")
