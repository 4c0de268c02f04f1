"""Connections that are kept between short statements: few, given back after errors, and never one that is suspect."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from app import kept
from app.kept import Kept
from app.resources import HOT_SIZE, Resources
from app.store.batch import AWAY

Wait = Callable[..., Awaitable[Any]]
ME = "select pg_backend_pid()"


async def backend(hot: Kept) -> int:
    [row] = await hot.fetch(ME)
    return int(row[0])


async def test_the_same_connection_again_and_no_more_than_are_allowed(resources: Resources) -> None:
    one = await backend(resources.hot)
    assert await backend(resources.hot) == one
    slow = await asyncio.gather(*(resources.hot.fetch(f"{ME}, pg_sleep(0.01)") for _ in range(3 * HOT_SIZE)))
    assert len({rows[0][0] for rows in slow}) == HOT_SIZE


async def test_one_that_was_refused_data_is_used_again(resources: Resources) -> None:
    one = await backend(resources.hot)
    with pytest.raises(asyncpg.DataError):
        await resources.hot.fetch("select 1 / 0")
    assert await backend(resources.hot) == one


async def test_one_whose_backend_was_ended_is_replaced(resources: Resources) -> None:
    one = await backend(resources.hot)
    await resources.pool.execute("select pg_terminate_backend($1, 5000)", one)
    answer: int | None = None
    while answer is None:
        try:
            answer = await backend(resources.hot)
        except AWAY:  # the news had not come yet
            continue
    assert answer != one


async def test_who_is_cut_off_in_a_statement_takes_all_along(resources: Resources, wait_until: Wait) -> None:
    slow = await asyncio.gather(*(resources.hot.fetch(f"{ME}, pg_sleep(0.01)") for _ in range(2)))
    sleeping = asyncio.ensure_future(resources.hot.fetch("select pg_sleep(60)"))
    await wait_until(lambda: resources.pool.fetchval("select true from pg_stat_activity where query = 'select pg_sleep(60)'"))
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    assert await backend(resources.hot) not in {rows[0][0] for rows in slow}


async def test_one_that_was_idle_for_long_is_not_trusted(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    one = await backend(resources.hot)
    monkeypatch.setattr(kept, "IDLE_MAX_S", 0.0)
    assert await backend(resources.hot) != one
