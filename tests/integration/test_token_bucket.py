"""The rate limit's script told as a table, calls at given times with their answers; then the bound it keeps, by seeded chance."""

import random
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
from redis.asyncio import Redis

from app.lua import TOKEN_BUCKET
from app.resources import open_redis
from app.settings import load_settings
from app.streams import bucket_key

S = 1_000_000  # us
CAPACITY, EVERY, KEEP = 5, 12 * S, 180 * S  # five a minute; a charge is remembered for three reclaim windows
NOON = 1_774_958_400 * S
GO, REFUSED = 0, -1
TIME = "redis.call('TIME')"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = open_redis(load_settings(_env_file=None, redis_url=redis_url))
    yield client
    await client.aclose()


@dataclass
class Bucket:
    """The script under a clock of the test's own: its one look at the time is replaced by two more arguments."""

    redis: Any
    capacity: int = CAPACITY
    every: int = EVERY
    keep: int = KEEP
    script: str = field(default=TOKEN_BUCKET.text.replace(TIME, "{ARGV[#ARGV - 1], ARGV[#ARGV]}"))

    async def ask(self, at: int, *events: tuple[str, int], defer: bool = False) -> list[int]:
        """The answers at `at` us after noon for (user, event id)."""
        keys = [bucket_key(user) for user, _ in events]
        rules = [self.capacity, self.every, self.keep, int(defer)]
        answers: list[int] = await self.redis.eval(
            self.script, len(keys), *keys, *rules, *(event for _, event in events), *divmod(NOON + at, S)
        )
        return answers

    async def remembered(self, user: str) -> set[int]:
        """The events that the user's bucket remembers."""
        return {int(member) for member in await self.redis.zrange(bucket_key(user), 0, -1) if member.isdigit()}


def test_the_script_looks_at_the_time_once() -> None:
    assert TOKEN_BUCKET.text.count(TIME) == 1


# ---- the table: (seconds after noon, event of ann, answer in seconds)

REFUSE = [
    # a full bucket holds five
    *((0, event, GO) for event in (1, 2, 3, 4, 5)),
    (0, 6, REFUSED),
    # an event that was charged is told the same again, and costs nothing
    (1, 1, GO),
    # a token every twelve seconds, not a microsecond sooner
    (11.999999, 7, REFUSED),
    (12, 7, GO),
    (12, 8, REFUSED),
    # asking often starves nobody: a refusal costs nothing
    *((12 + tenths / 10, 9, REFUSED) for tenths in range(120)),
    (24, 9, GO),
    # two tokens after twenty-four seconds
    (48, 10, GO),
    (48, 11, GO),
    (48, 12, REFUSED),
    # full again a minute later, and never fuller than five
    *((1000, event, GO) for event in (21, 22, 23, 24, 25)),
    (1000, 26, REFUSED),
]

DEFER = [
    *((0, event, GO) for event in (1, 2, 3, 4, 5)),
    # over the limit, each gets a time of its own, twelve seconds apart
    (0, 6, 12),
    (0, 7, 24),
    (1, 8, 35),
    # asked again, it is the same time
    (1, 6, 11),
    (12, 6, GO),
    (12, 7, 12),
    # it may come late: its token is still its own
    (40, 7, GO),
    (40, 8, GO),
    # nothing reserved is left: two tokens since the last reservation, at 36 s
    (60, 9, GO),
    (60, 10, GO),
    (60, 11, 12),
]


@pytest.mark.parametrize(("defer", "table"), [(False, REFUSE), (True, DEFER)], ids=["refuse", "defer"])
async def test_the_table(redis: Redis, defer: bool, table: list[tuple[float, int, float]]) -> None:
    bucket = Bucket(redis)
    for line, (at_s, event, answer) in enumerate(table):
        expected = REFUSED if answer == REFUSED else round(answer * S)
        assert await bucket.ask(round(at_s * S), ("ann", event), defer=defer) == [expected], (
            f"line {line}: event {event} at {at_s} s"
        )


# ---- batches


async def test_one_call_answers_many_users_each_from_a_bucket_of_its_own(redis: Redis) -> None:
    bucket = Bucket(redis, capacity=2)
    events = [("ann", 1), ("bob", 2), ("ann", 3), ("ann", 4), ("bob", 5), ("bob", 6)]
    assert await bucket.ask(0, *events) == [GO, GO, GO, REFUSED, GO, REFUSED]
    assert await bucket.ask(0, *((user, event + 10) for user, event in events), defer=True) == [
        n * EVERY for n in (1, 1, 2, 3, 2, 3)
    ]


async def test_an_event_that_comes_twice_in_a_batch_is_charged_once(redis: Redis) -> None:
    bucket = Bucket(redis, capacity=2)
    assert await bucket.ask(0, ("ann", 1), ("ann", 1), ("ann", 2), ("ann", 3), ("ann", 3)) == [GO, GO, GO, REFUSED, REFUSED]
    assert await bucket.ask(0, ("ann", 4), ("ann", 4), defer=True) == [EVERY, EVERY]


# ---- memory


async def test_a_charge_is_remembered_as_long_as_an_event_may_be_routed_again(redis: Redis) -> None:
    bucket = Bucket(redis, capacity=1)
    await bucket.ask(0, ("ann", 1))
    assert await bucket.ask(KEEP, ("ann", 1), ("ann", 2)) == [GO, GO], "event 1 paid before"
    await bucket.ask(KEEP + EVERY, ("ann", 3))
    assert await bucket.remembered("ann") == {2, 3}


async def test_a_reservation_is_remembered_from_its_own_time_on(redis: Redis) -> None:
    bucket = Bucket(redis, capacity=1)
    assert await bucket.ask(0, *(("ann", event) for event in range(30)), defer=True) == [n * EVERY for n in range(30)]
    last = 29 * EVERY
    assert await bucket.ask(last + KEEP, ("ann", 29), defer=True) == [GO]
    assert 29 in await bucket.remembered("ann")


async def test_a_key_expires_when_its_bucket_is_full_and_remembers_nothing(redis: Redis) -> None:
    bucket = Bucket(redis)
    await bucket.ask(0, ("ann", 1), ("ann", 2))
    assert await redis.pttl(bucket_key("ann")) == pytest.approx((2 * EVERY + KEEP) / 1000, abs=5000)
    await bucket.ask(0, *(("bob", event) for event in range(20)), defer=True)
    assert await redis.pttl(bucket_key("bob")) == pytest.approx((20 * EVERY + KEEP) / 1000, abs=5000)


async def test_refusals_leave_no_key_and_no_member(redis: Redis) -> None:
    bucket = Bucket(redis, capacity=1)
    await bucket.ask(0, *(("ann", event) for event in range(100)))
    assert await bucket.remembered("ann") == {0}


async def test_forgetting_keeps_ahead_of_charging_and_never_takes_long(redis: Redis) -> None:
    """Each charge removes at most two old ones, so that no call pays for a user's whole past."""
    bucket = Bucket(redis)
    for batch in range(20):
        await bucket.ask(0, *(("ann", 500 * batch + event) for event in range(500)), defer=True)
    ages_later = 20_000 * EVERY
    await bucket.ask(ages_later, ("ann", 10**6))
    assert len(await bucket.remembered("ann")) == 10_000 + 1 - 2
    await bucket.ask(ages_later, *(("ann", 10**6 + event) for event in range(1, 501)), defer=True)
    assert len(await bucket.remembered("ann")) == 10_000 - 1 + 500 - 1000


# ---- the clock, and the limit itself, may change


async def test_after_its_clock_stepped_back_a_bucket_is_empty_and_not_worse(redis: Redis) -> None:
    bucket = Bucket(redis)
    await bucket.ask(3600 * S, ("ann", 1))
    assert await bucket.ask(0, ("ann", 1), ("ann", 2)) == [GO, REFUSED], "an event that was charged may still go"
    assert await bucket.ask(EVERY, ("ann", 2), ("ann", 3)) == [GO, REFUSED]


async def test_times_that_were_reserved_stay_reserved_when_the_clock_steps_back(redis: Redis) -> None:
    bucket = Bucket(redis, capacity=1)
    assert await bucket.ask(100 * S, ("ann", 1), ("ann", 2), defer=True) == [GO, EVERY]
    assert await bucket.ask(0, ("ann", 3), ("ann", 2), defer=True) == [100 * S + 2 * EVERY, 100 * S + EVERY]


async def test_a_raised_limit_counts_at_once(redis: Redis) -> None:
    await Bucket(redis, capacity=1, every=86_400 * S).ask(0, ("ann", 1))
    bucket = Bucket(redis)
    assert await bucket.ask(0, ("ann", 2)) == [REFUSED]
    assert await bucket.ask(EVERY, ("ann", 2)) == [GO]


# ---- the bound


@pytest.mark.parametrize("seed", range(4))
async def test_any_window_holds_at_most_the_capacity_and_what_flowed_in(redis: Redis, seed: int) -> None:
    """Both policies mixed, uneven steps of time, events asked again; each grant counts at its own time."""
    chance = random.Random(seed)
    bucket = Bucket(redis, capacity=chance.randint(1, 7), every=chance.choice([1, 7, 8_571_429, EVERY]))
    granted: dict[str, dict[int, int]] = defaultdict(dict)  # user -> event -> its time
    now = 0
    for turn in range(150):
        now += chance.choice([0, 1, bucket.every // 3, bucket.every, 3 * bucket.every, 20 * bucket.every])
        events = [(chance.choice("ab"), chance.randint(max(0, 4 * turn - 9), 4 * turn)) for _ in range(chance.randint(1, 6))]
        for (user, event), wait in zip(events, await bucket.ask(now, *events, defer=chance.random() < 0.3), strict=True):
            if wait >= 0:
                granted[user].setdefault(event, now + wait)
    for times in (sorted(events.values()) for events in granted.values()):
        assert len(times) > 50, "too few grants to tell"
        for first, start in enumerate(times):
            for last in range(first, len(times)):
                assert last - first + 1 <= bucket.capacity + Fraction(times[last] - start, bucket.every)


async def test_nobody_is_refused_while_a_token_is_there(redis: Redis) -> None:
    """Against a bucket in exact fractions."""
    chance = random.Random(7)
    bucket = Bucket(redis, capacity=3, every=8_571_429)
    level, now = Fraction(3), 0
    for event in range(400):
        step = chance.choice([0, 1, 999_983, bucket.every - 1, bucket.every])
        now += step
        level = min(Fraction(3), level + Fraction(step, bucket.every))
        expected = GO if level >= 1 else REFUSED
        assert await bucket.ask(now, ("ann", event)) == [expected]
        level -= level >= 1


# ---- as it is, with the server's own clock


async def test_the_script_as_it_is_goes_by_the_servers_clock(redis: Redis) -> None:
    every = 3600 * S
    args = [2, every, KEEP, 1, *(11, 12, 13, 14)]
    first, second, third, fourth = await TOKEN_BUCKET(redis, [bucket_key("ann")] * 4, args)
    assert (first, second) == (GO, GO)
    assert (third, fourth) == (every, 2 * every)
    (again,) = await TOKEN_BUCKET(redis, [bucket_key("ann")], [2, every, KEEP, 1, 13])
    assert every - 60 * S < again <= every
