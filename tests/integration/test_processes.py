"""`tidings consumers --processes N`: they share the work, and a signal to the one that started them is a signal to all."""

import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil

from app.resources import Resources
from app.settings import Settings
from app.stream_stats import stream_stats
from tests.processes import environment, process

Wait = Callable[..., Awaitable[Any]]
TWO = ["consumers", "--processes", "2"]


async def test_two_processes_read_and_leave_on_sigterm(
    resources: Resources, settings: Settings, tmp_path: Path, wait_until: Wait
) -> None:
    with process(TWO, environment(settings), tmp_path) as parent:
        await wait_until(lambda: readers(resources, 2))
        children = psutil.Process(parent.pid).children()
        assert len(children) == 2
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(10) == 0
        assert not any(child.is_running() for child in children)


async def test_one_that_dies_ends_the_others_and_their_parent(
    resources: Resources, settings: Settings, tmp_path: Path, wait_until: Wait
) -> None:
    with process(TWO, environment(settings), tmp_path) as parent:
        await wait_until(lambda: readers(resources, 2))
        psutil.Process(parent.pid).children()[1].kill()
        await wait_until(lambda: parent.poll() is not None)
        assert parent.returncode == 1


async def readers(resources: Resources, number: int) -> bool:
    """Does every work stream have so many consumers?"""
    *work, _dead = await stream_stats(resources.redis)
    return all(len(stream.consumers) == number for stream in work)
