"""The end of a task that was cancelled, whatever a library made of it."""

import asyncio


def unless_cancelled(error: BaseException | None = None) -> None:
    """For loops that outlive errors: raises CancelledError where this task was cancelled.

    redis-py and asyncpg may raise an error of their own where they are cancelled; who then tries again never ends.
    """
    if (task := asyncio.current_task()) is not None and task.cancelling():
        raise asyncio.CancelledError from error
