"""Waits that end early when the process is asked to stop."""

import asyncio


async def sleep_or_stop(seconds: float | None, stopping: asyncio.Event) -> None:
    """Returns after `seconds` (None: never), or once `stopping` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        pass
