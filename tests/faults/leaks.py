"""What a process holds: open files and connections, and its tasks. After a fault it must hold no more than before."""

import signal
from contextlib import suppress
from dataclasses import dataclass

import psutil

from tests.faults.system import System

FILES_MORE = 16  # connections of pools that grew under load and stay
CLOSED_WITHIN_S = 8


@dataclass(frozen=True, slots=True)
class Held:
    """Open files by kind of process, of processes that just started."""

    api_files: int
    consumer_files: int


def held(system: System) -> Held:
    return Held(_files(system.api.pid), max(_files(part.pid) for part in system.consumers))


async def leaks(system: System, before: Held) -> list[str]:
    """What is held that was not before, in words."""
    wrong = []
    for part in (system.api, *system.consumers):
        most = (before.api_files if part is system.api else before.consumer_files) + FILES_MORE
        with suppress(AssertionError):
            await system.until(lambda: _files(part.pid) <= most, CLOSED_WITHIN_S)  # noqa: B023
        if (files := _files(part.pid)) > most:
            wrong.append(f"{part.name} holds {files} open files, {most} are right")
    wrong += [f"{part.name} runs {tasks}" for part in system.consumers for tasks in await _strange_tasks(system, part.pid)]
    return wrong


async def _strange_tasks(system: System, pid: int) -> list[str]:
    """Named tasks of a consumer process that come more often than once: each duty has a name."""
    known = len(system.noted())
    psutil.Process(pid).send_signal(signal.SIGUSR1)
    await system.until(lambda: any("tasks" in fact for fact in system.noted()[known:]))
    (names,) = [fact["tasks"] for fact in system.noted()[known:] if "tasks" in fact]
    assert names, "no task has a name"
    duties = [name for name in names if not name.startswith("batch ")]  # two batches may be in hand
    return sorted({f"{duties.count(name)} x {name}" for name in duties if duties.count(name) > 1})


def _files(pid: int) -> int:
    return psutil.Process(pid).num_fds()
