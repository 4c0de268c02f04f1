"""Packs Redis commands in C, as redis-py does in its synchronous connections only.

Its asynchronous ones pack each argument in Python, which costs more than all else that they do.
"""

from typing import Any

import hiredis
from redis.asyncio import Redis


class PackingInC:
    """For any class of redis-py's connections. An argument is text, bytes or a number; anything else is a TypeError."""

    def pack_command(self, *args: Any) -> list[bytes]:
        name = args[0]
        spaced = b" " in name if isinstance(name, bytes) else " " in name  # as in "CONFIG GET": two arguments
        return [hiredis.pack_command((*name.split(), *args[1:]) if spaced else args)]


def pack_in_c(client: Redis) -> None:
    """The connections that this client opens from now on; none may be open yet."""
    pool = client.connection_pool
    pool.connection_class = type("ConnectionPackingInC", (PackingInC, pool.connection_class), {})
