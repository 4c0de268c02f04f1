"""Connections to PostgreSQL that end where a statement takes too long, and take their whole pool along.

asyncpg asks the server to cancel, over a new connection, and waits for the old one to say so. One that is half open never does;
and its idle neighbours in the pool are as dead as it is, each to be found out by a time limit of its own.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import asyncpg

AFTER_S = 0.01  # by then the statement's own error was raised, and the pool waits for the connection to be free


class SeveredConnection(asyncpg.Connection):
    """Cuts itself off, and calls `expire`, where asyncpg would cancel the statement: at a time limit, or when its task ends."""

    expire: Callable[[], object] = staticmethod(lambda: None)

    def _cancel_current_command(self, waiter: object, cancel_waiter: object = None) -> None:
        asyncio.get_running_loop().call_later(AFTER_S, self.terminate)
        self.expire()

    async def close(self, *, timeout: float | None = None) -> None:
        """In good order, or by force after `timeout` s. The pool closes expired ones in tasks whose errors nobody would hear."""
        with suppress(TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await super().close(timeout=timeout)
