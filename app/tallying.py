"""Writes a process' tally to PostgreSQL every 2 s, and once more at the end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from app.cancelled import unless_cancelled
from app.resources import Resources
from app.store.batch import FAULTY
from app.store.tally import add_tally
from app.trouble import Trouble

log = structlog.get_logger()

EVERY_S = 2.0
AT_THE_END_S = 1.0  # a PostgreSQL that is away must not hold up the exit


@asynccontextmanager
async def tallying(resources: Resources) -> AsyncIterator[None]:
    """Works while inside."""
    trouble = Trouble(log, "rates and latencies are recorded again")
    one_write = asyncio.Lock()
    writing = asyncio.create_task(_write_for_ever(resources, trouble, one_write), name="tally")
    try:
        yield
    finally:
        try:
            async with asyncio.timeout(AT_THE_END_S), one_write:  # one that is cut would lose what it has taken
                writing.cancel()
                await write(resources, trouble)
        except TimeoutError:
            writing.cancel()


async def _write_for_ever(resources: Resources, trouble: Trouble, one_write: asyncio.Lock) -> None:
    while True:
        await asyncio.sleep(EVERY_S)
        async with one_write:
            await write(resources, trouble)


async def write(resources: Resources, trouble: Trouble) -> None:
    """Counts that cannot be written are gone: added again, those whose answer was lost would count twice."""
    counts = resources.tally.take()
    if not counts:
        return
    try:
        await add_tally(resources.pool, counts)
        trouble.over()
    except FAULTY as error:
        unless_cancelled(error)
        trouble.say("rates and latencies are not recorded", error)
