"""`tidings pause` and `tidings resume`: an operator stops one channel, and lets it go on; the log of actions keeps both."""

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from app.domain import Channel
from app.resources import open_resources
from app.settings import Settings
from app.store import audit
from app.store.batch import FAULTY
from app.store.hold import hold, read_holds, release

if TYPE_CHECKING:
    from app.store.batch import Connection

ROLE = "command line"


class HoldError(Exception):
    """It cannot be done. The message is one line."""


def pause(settings: Settings, name: str, reason: str) -> str:
    """Pauses a channel; what came of it, in a sentence. Raises HoldError and resources.Unreachable."""
    channel, who = _channel(name), _who()

    async def act(connection: "Connection") -> str:
        if await hold(connection, channel, who, reason):
            await audit.record(connection, audit.Entry(who, ROLE, "pause", channel, reason=reason))
            return f"{channel} is paused: within two seconds nothing more is taken from its stream (`tidings resume {channel}`)"
        was = (await read_holds(connection)).get(channel)
        return f"{channel} was paused already" + (f", for {was.since_s:.0f} s, by {was.words}" if was else "")

    return asyncio.run(_in_one_transaction(settings, act))


def resume(settings: Settings, name: str, reason: str) -> str:
    """Lets a channel go on; what came of it, in a sentence. Raises HoldError and resources.Unreachable."""
    channel, who = _channel(name), _who()

    async def act(connection: "Connection") -> str:
        if await release(connection, channel):
            await audit.record(connection, audit.Entry(who, ROLE, "resume", channel, reason=reason))
            return f"{channel} goes on"
        return f"{channel} was not paused by hand (a provider that does not answer pauses it by itself: see `tidings doctor`)"

    return asyncio.run(_in_one_transaction(settings, act))


async def _in_one_transaction(settings: Settings, act: "Callable[[Connection], Awaitable[str]]") -> str:
    try:
        async with (
            open_resources(settings, "hold", pool_size=1) as resources,
            resources.pool.acquire() as connection,
            connection.transaction(),
        ):
            return await act(connection)
    except FAULTY as error:
        raise HoldError(f"PostgreSQL failed, nothing was changed: {str(error) or type(error).__name__}") from None


def _channel(name: str) -> Channel:
    try:
        return Channel(name.upper())
    except ValueError:
        raise HoldError(f"there is no channel {name!r}: it is one of {', '.join(Channel)}") from None


def _who() -> str:
    """The account on this machine; in some containers it is a number only."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"
