"""What every batched statement needs: batches share no fate, deadlocks are repeated, and text is fit to be stored."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

if TYPE_CHECKING:
    from app.kept import Kept

    Pool = asyncpg.Pool[asyncpg.Record]
    Fetching = Pool | Kept
    Connection = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]

Item = TypeVar("Item")
Answer = TypeVar("Answer")

TEXT_MAX = 2_000
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

# The server, or the way to it, is away: the same call may work later. What it did before it went is not known.
AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the connection was cut while asyncpg looked up types
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
)
FAULTY = (
    *AWAY,
    asyncpg.PostgresError,
)  # or it cannot do it now: a role or table that is missing, a disk that is full, a deadlock
REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)


def clean(text: str | None) -> str | None:
    """A provider's text, fit for PostgreSQL: no NUL, no lone surrogate, at most 2,000 characters."""
    if text is None:
        return None
    cut = text[:TEXT_MAX]
    return cut if cut.isprintable() else _UNSTORABLE.sub("\ufffd", cut)  # neither is printable, and nearly all texts are


async def all_or_each(
    items: Sequence[Item],
    run: Callable[[Sequence[Item]], Awaitable[list[Answer]]],
    refused: Callable[[Item, asyncpg.PostgresError], list[Answer]],
) -> list[Answer]:
    """`run` for the whole batch; where PostgreSQL refuses it for its data, for its halves, so that a bad item spoils no other.

    An item that is refused alone is answered by `refused`. Deadlocks (40P01) are repeated. Raises whatever else `run` raises.
    """
    try:
        return await repeat_deadlocks(items, run)
    except REFUSED as error:
        if len(items) == 1:
            return refused(items[0], error)
    half = len(items) // 2
    return [*await all_or_each(items[:half], run, refused), *await all_or_each(items[half:], run, refused)]


def raise_refused(_item: object, error: asyncpg.PostgresError) -> list[Any]:
    """For all_or_each: what is refused alone is raised, since no answer would be true."""
    raise error


async def repeat_deadlocks(items: Sequence[Item], run: Callable[[Sequence[Item]], Awaitable[list[Answer]]]) -> list[Answer]:
    """`run`, again where another's locks and ours formed a circle (40P01). Raises whatever else it raises."""
    for again in range(20):
        try:
            return await run(items)
        except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
            await asyncio.sleep(0.002 * again)
    return await run(items)
