"""How the settings reach the token bucket, and its answers the router. The bucket itself: integration/test_token_bucket.py."""

from collections.abc import AsyncIterator
from typing import Any

import fakeredis
import pytest
from redis.asyncio import Redis

from app.settings import Settings, load_settings
from app.streams import SCRIPT_MAX, bucket_key
from consumers import rate_limit
from consumers.rate_limit import REFUSED, charge

ANN = "ann"


@pytest.fixture
async def redis() -> AsyncIterator[Redis]:
    client = fakeredis.FakeAsyncRedis()
    yield client
    await client.aclose()


def rules(**override: Any) -> Settings:
    return load_settings(_env_file=None, **override)


class Call:
    """Stands in for the script: keeps what it was called with, answers `answers`."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.keys: list[list[str]] = []
        self.args: list[list[int]] = []

    async def __call__(self, _redis: Redis, keys: list[str], args: list[int]) -> list[int]:
        self.keys.append(keys)
        self.args.append(args)
        return [self.answers.pop(0) if self.answers else 0 for _ in keys]


@pytest.mark.parametrize(
    ("settings", "capacity", "every_us", "remember_us", "reserve"),
    [
        ({}, 5, 12_000_000, 180_000_000, 0),
        ({"rate_limit_policy": "defer"}, 5, 12_000_000, 180_000_000, 1),
        ({"rate_limit_per_user": 100, "rate_limit_window_s": 1}, 100, 10_000, 180_000_000, 0),
        ({"reclaim_after_s": 2, "redis_timeout_s": 0.2}, 5, 12_000_000, 6_000_000, 0),
    ],
)
async def test_the_settings_become_whole_microseconds(
    monkeypatch: pytest.MonkeyPatch,
    redis: Redis,
    settings: dict[str, Any],
    capacity: int,
    every_us: int,
    remember_us: int,
    reserve: int,
) -> None:
    script = Call()
    monkeypatch.setattr(rate_limit, "TOKEN_BUCKET", script)
    await charge(redis, rules(**settings), [(11, ANN), (12, "bob")])
    assert script.keys == [[bucket_key(ANN), bucket_key("bob")]]
    assert script.args == [[capacity, every_us, remember_us, reserve, 11, 12]]


async def test_answers_are_go_refused_or_seconds(monkeypatch: pytest.MonkeyPatch, redis: Redis) -> None:
    monkeypatch.setattr(rate_limit, "TOKEN_BUCKET", Call(0, -1, 1_500_000))
    assert await charge(redis, rules(), [(1, ANN), (2, ANN), (3, ANN)]) == [0, REFUSED, 1.5]


async def test_many_events_are_asked_in_calls_of_bounded_size(monkeypatch: pytest.MonkeyPatch, redis: Redis) -> None:
    script = Call()
    monkeypatch.setattr(rate_limit, "TOKEN_BUCKET", script)
    assert len(await charge(redis, rules(), [(n, ANN) for n in range(2 * SCRIPT_MAX + 1)])) == 2 * SCRIPT_MAX + 1
    assert [len(keys) for keys in script.keys] == [SCRIPT_MAX, SCRIPT_MAX, 1]
    assert [event for args in script.args for event in args[4:]] == list(range(2 * SCRIPT_MAX + 1))


async def test_five_events_a_minute_and_user_go_and_an_event_is_charged_once(redis: Redis) -> None:
    events = [(n, ANN) for n in range(1, 7)]
    assert await charge(redis, rules(), [*events, (7, "bob")]) == [0, 0, 0, 0, 0, REFUSED, 0]
    assert await charge(redis, rules(), events) == [0, 0, 0, 0, 0, REFUSED]


async def test_with_policy_defer_each_event_over_the_limit_gets_a_time_twelve_seconds_after_the_last(redis: Redis) -> None:
    answers = await charge(redis, rules(rate_limit_policy="defer"), [(n, ANN) for n in range(1, 9)])
    assert answers == [0, 0, 0, 0, 0, 12, 24, 36]


@pytest.mark.parametrize(("per_user", "window_s"), [(7, 60), (11, 60), (13, 0.001), (1_000_000, 0.1)])
async def test_rounding_never_gives_more_than_the_limit(
    monkeypatch: pytest.MonkeyPatch, redis: Redis, per_user: int, window_s: float
) -> None:
    script = Call()
    monkeypatch.setattr(rate_limit, "TOKEN_BUCKET", script)
    await charge(redis, rules(rate_limit_per_user=per_user, rate_limit_window_s=window_s), [(1, ANN)])
    every_us = script.args[0][1]
    assert every_us >= window_s * 1e6 / per_user
