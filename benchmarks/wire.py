"""Redis without a client library's cost: commands packed at once, answers read at once."""

import asyncio
from collections.abc import Sequence
from typing import Any, Self
from urllib.parse import urlsplit

import hiredis

CHUNK = 2**18
Command = tuple[Any, ...]


class Wire:
    """One connection. Raises hiredis.ReplyError where a command is refused."""

    def __init__(self, redis_url: str) -> None:
        parts = urlsplit(redis_url)
        self._place = parts.hostname or "127.0.0.1", parts.port or 6379
        self._reader = hiredis.Reader()

    async def __aenter__(self) -> Self:
        self._in, self._out = await asyncio.open_connection(*self._place, limit=CHUNK)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._out.close()

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """One answer for each command, in one round trip."""
        self._out.write(b"".join([hiredis.pack_command(command) for command in commands]))
        return [await self._answer() for _ in commands]

    async def _answer(self) -> Any:
        while (answer := self._reader.gets()) is False:
            self._reader.feed(await self._in.read(CHUNK))
        if isinstance(answer, hiredis.ReplyError):
            raise answer
        return answer
