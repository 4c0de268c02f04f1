"""Connections to PostgreSQL that end where a statement takes too long, and take their whole pool along.

asyncpg asks the server to cancel, over a new connection, and waits for the old one to say so. One that is half open never does;
and its idle neighbours in the pool are as dead as it is, each to be found out by a time limit of its own.

Each new one asks what bigint[] is before its first statement that has one, in up to six round trips: here once for the process.
Where a round trip takes a quarter of a second, that statement came to its time limit, and no new connection was ever of use.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import asyncpg

AFTER_S = 0.01  # by then the statement's own error was raised, and the pool waits for the connection to be free
FIRST_GENERATED_OID = 10_000  # the types below are the same in every PostgreSQL
_types: dict[int, Any] = {}  # what asyncpg was answered about these: elements before what is made of them
NOT_ASKED = SimpleNamespace(name="none, and nothing was replaced")
ASK_TYPES = "select '{}'::bigint[], '{}'::int[], '{}'::float8[], '{}'::boolean[], '{}'::timestamptz[]"  # of all our statements


class SeveredConnection(asyncpg.Connection):
    """Cuts itself off, and calls `expire`, where asyncpg would cancel the statement: at a time limit, or when its task ends."""

    expire: Callable[[], object] = staticmethod(lambda: None)

    def _cancel_current_command(self, waiter: object, cancel_waiter: object = None) -> None:
        asyncio.get_running_loop().call_later(AFTER_S, self.terminate)
        self.expire()

    async def _introspect_types(self, typeoids: Collection[int], timeout: float | None) -> tuple[list[Any], Any]:
        """The rows that say what the types are, and the statement that asked: it may have replaced the one that needs them."""
        if set(typeoids) <= _types.keys():
            return list(_types.values()), NOT_ASKED
        asyncpgs: Any = super()
        rows, statement = await asyncpgs._introspect_types(typeoids, timeout)
        _types.update({row["oid"]: row for row in rows if row["oid"] < FIRST_GENERATED_OID})
        return rows, statement

    async def close(self, *, timeout: float | None = None) -> None:
        """In good order, or by force after `timeout` s. The pool closes expired ones in tasks whose errors nobody would hear."""
        with suppress(TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await super().close(timeout=timeout)
