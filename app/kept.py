"""A few connections to PostgreSQL that short statements take and give back at once.

asyncpg's pool makes a task for each release: half of what such a statement costs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

IDLE_MAX_S = 300.0  # a firewall may have forgotten the connection by then


class Kept:
    """Up to `size` connections; who finds none free waits. The one used last is used next."""

    def __init__(self, connect: "Callable[[], Awaitable[Connection]]", size: int) -> None:
        self._connect, self._free = connect, asyncio.Semaphore(size)
        self._idle: list[tuple[Connection, float]] = []  # and since when, by the loop's clock
        self._epoch = 0

    async def fetch(self, query: str, *args: Any) -> "Sequence[asyncpg.Record]":
        """The rows of one statement, committed on return. Raises as asyncpg does."""
        async with self._free:
            connection, epoch = self._take() or await self._connect(), self._epoch
            try:
                return await connection.fetch(query, *args)
            finally:
                self._give_back(connection, epoch)

    def expire(self) -> None:
        """All that are open now are suspect: none is used for another statement."""
        self._epoch += 1
        for connection, _ in self._idle:
            connection.terminate()
        self._idle.clear()

    async def close(self) -> None:
        """In good order."""
        idle, self._idle = self._idle, []
        self._epoch += 1
        await asyncio.gather(*(connection.close(timeout=2) for connection, _ in idle))

    def _give_back(self, connection: "Connection", epoch: int) -> None:
        if epoch == self._epoch and not connection.is_closed():
            self._idle.append((connection, asyncio.get_running_loop().time()))
        else:
            connection.terminate()

    def _take(self) -> "Connection | None":
        while self._idle:
            connection, since_s = self._idle.pop()
            if not connection.is_closed() and asyncio.get_running_loop().time() - since_s < IDLE_MAX_S:
                return connection
            connection.terminate()
        return None
