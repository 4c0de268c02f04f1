"""Open resources for one test, and a watch on its rows: a statement that makes a move domain.py does not allow fails the test."""

from collections.abc import AsyncIterator

import pytest

from app.domain import EVENT_MOVES, MOVES
from app.resources import Resources, open_resources
from app.settings import Settings

WATCH = """
create table seen_move (kind text, was text, became text);
create function see_move() returns trigger language plpgsql as $$ begin
  insert into seen_move values (tg_table_name, old.status, new.status);
  return null;
end $$;
create trigger see_move after update of status on event for each row execute function see_move();
create trigger see_move after update of status on notification for each row execute function see_move();
"""
ALLOWED = {("event", was, became) for was, nexts in EVENT_MOVES.items() for became in nexts} | {
    ("notification", was, became) for was, nexts in MOVES.items() for became in nexts
}


def patient(settings: Settings) -> Settings:
    """Redis has as long as users give it: with the tests' short window, a machine that stalls would look like Redis away."""
    return settings.model_copy(update={"redis_timeout_s": 5.0})


@pytest.fixture
async def resources(settings: Settings) -> AsyncIterator[Resources]:
    """What one process holds, on this test's servers."""
    async with open_resources(patient(settings), "test") as opened:
        await opened.pool.execute(WATCH)
        yield opened
        assert await forbidden_moves(opened) == set()


async def seen_moves(resources: Resources) -> set[tuple[str, str, str]]:
    """Every move of this test's rows so far: (table, from, to)."""
    return {tuple(r) for r in await resources.pool.fetch("select distinct kind, was, became from seen_move")}


async def forbidden_moves(resources: Resources) -> set[tuple[str, str, str]]:
    """Those that domain.py's tables do not have."""
    return await seen_moves(resources) - ALLOWED
