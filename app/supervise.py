"""Keeps child processes running: starts again the one that died, gives up on one that cannot live, stops them in order."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from app.local import LocalError
from app.process import die_with_parent

AT_ONCE_S = 5.0  # who lives shorter died at once
FORGIVEN_AFTER_S = 10.0  # who lives longer starts again without a wait
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 10.0
TRIES = 3
LOOK_EVERY_S = 0.05

log = structlog.get_logger()


class GaveUp(Exception):
    """A child died at once too often. The message is one line that names it."""


@dataclass(frozen=True, slots=True)
class Deaths:
    """`in_a_row`: after short lives; `at_once`: those of them that came by themselves, not by a kill from outside."""

    in_a_row: int = 0
    at_once: int = 0

    def and_one(self, lived_s: float, status: int) -> "Deaths":
        in_a_row = self.in_a_row + 1 if lived_s < FORGIVEN_AFTER_S else 0
        by_itself = lived_s < AT_ONCE_S and status != -signal.SIGKILL
        return Deaths(in_a_row, self.at_once + 1 if by_itself else 0)

    def wait_s(self) -> float | None:
        """How long to wait before the next start; None: no further start."""
        if self.at_once >= TRIES:
            return None
        return min(FIRST_WAIT_S * 2 ** max(0, self.in_a_row - 1), LONGEST_WAIT_S) if self.in_a_row else 0.0


@dataclass(slots=True)
class Child:
    """A process that shall run. `start` may raise LocalError; `stop_signal` asks it to end in good order."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    stop_signal: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    deaths: Deaths = Deaths()

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


def python_child(name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Child:
    """A child that runs `python ARGUMENTS` beside us, writes to our terminal, and dies with us."""

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is for us, who stop them in order
            preexec_fn=die_with_parent(signal.SIGKILL),
        )

    return Child(name, start)


def look_after(children: Sequence[Child], now: float) -> None:
    """One look at every child: note who died, start who is due. Raises GaveUp."""
    for child in children:
        if child.process is not None and (status := child.process.poll()) is not None:
            child.process = None
            _plan_restart(child, status, now)
        if child.process is None and now >= child.start_at:
            _start(child, now)


def stop(children: Sequence[Child], within_s: float, hurry: Callable[[], bool]) -> None:
    """Ask all to end, wait, and kill those that take longer than `within_s`, or all once `hurry()`."""
    for child in children:
        if child.process is not None and child.alive:
            child.process.send_signal(child.stop_signal)
    until = time.monotonic() + within_s
    while any(child.alive for child in children):
        if hurry() or time.monotonic() > until:
            _kill(children)
        time.sleep(LOOK_EVERY_S)


def _kill(children: Sequence[Child]) -> None:
    for child in children:
        if child.process is not None and child.alive:
            child.process.kill()
            child.process.wait()


def _start(child: Child, now: float) -> None:
    child.started_at = now
    try:
        child.process = child.start()
    except LocalError as error:
        log.warning("start failed", child=child.name, error=str(error))
        _plan_restart(child, 1, now)


def _plan_restart(child: Child, status: int, now: float) -> None:
    child.deaths = child.deaths.and_one(now - child.started_at, status)
    wait_s = child.deaths.wait_s()
    if wait_s is None:
        raise GaveUp(f"{child.name} ended {TRIES} times in a row right after its start ({ending(status)}): see its lines above")
    child.start_at = now + wait_s
    log.warning("child ended, is started again", child=child.name, ended=ending(status), wait_s=wait_s)


def ending(status: int) -> str:
    """A process' end in words, from its `returncode`."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
