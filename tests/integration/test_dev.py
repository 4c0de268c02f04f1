"""`tidings dev` as a whole: what is killed is started again, what is kept is found again, and nothing is left behind."""

import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import psutil

from app.process import free_port
from tests.processes import Dev, bare_environment, dev

Wait = Callable[..., Awaitable[Any]]
INSTANT = {f"simulated_{c}_{what}": "0" for c in ("email", "sms", "push") for what in ("latency_ms", "failure_rate")}
QUICK = {**INSTANT, "reclaim_after_s": "4", "redis_timeout_s": "0.4"}
EVENT = {"eventType": "T", "userId": "u", "payload": {}, "timestamp": "2026-03-31T16:30:00Z"}


def run_dev(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """`tidings dev` that is expected to end by itself."""
    command = [sys.executable, "-m", "app", "dev"]
    return subprocess.run(
        command, cwd=folder, env={**bare_environment(), **settings}, capture_output=True, text=True, check=False, timeout=30
    )


def descendants(running: Dev) -> list[psutil.Process]:
    return list(psutil.Process(running.process.pid).children(recursive=True))


def the(running: Dev, word: str) -> psutil.Process:
    """The child of `tidings dev` whose command line has this word."""
    [found] = [p for p in psutil.Process(running.process.pid).children() if any(word in part for part in p.cmdline())]
    return found


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def statuses(running: Dev, event_id: str) -> set[str]:
    """The statuses of the event's three notifications; none while the API does not answer, or has not got them yet."""
    try:
        answer = httpx2.get(f"{running.api}/api/events/{event_id}")
    except httpx2.TransportError:
        return set()
    found = [n["status"] for n in answer.json()["notifications"]] if answer.status_code == 200 else []
    return set(found) if len(found) == 3 else set()


def sent(running: Dev, event_id: str) -> bool:
    return statuses(running, event_id) == {"SENT"}


def ended(running: Dev, event_id: str) -> bool:
    """Sent, or cut in mid-send on a channel that allows no repeat."""
    return statuses(running, event_id) in ({"SENT"}, {"SENT", "UNKNOWN"})


def accepted(running: Dev, event_id: str) -> bool:
    try:
        return httpx2.post(f"{running.api}/api/events", json={**EVENT, "eventId": event_id}).status_code == 202
    except httpx2.TransportError:
        return False


async def test_kill_9_of_every_part_and_server_at_once_loses_nothing(tmp_path: Path, wait_until: Wait) -> None:
    with dev(tmp_path, **QUICK) as running:
        assert accepted(running, "before")
        parts = [the(running, word) for word in ("consumers", "api", "web", "valkey-server", "postgres")]
        for part in parts:
            part.kill()
        await wait_until(lambda: accepted(running, "after"), within_s=20)
        await wait_until(lambda: ended(running, "before") and sent(running, "after"), within_s=20)


async def test_kill_9_of_dev_leaves_nothing_running_and_the_data(tmp_path: Path, wait_until: Wait) -> None:
    with dev(tmp_path, **QUICK) as running:
        assert accepted(running, "first")
        await wait_until(lambda: sent(running, "first"))
        again = run_dev(tmp_path)
        assert (again.returncode, again.stderr.count("\n")) == (1, 1), again.stderr
        assert "already runs in this folder" in again.stderr
        family = descendants(running)
        assert len(family) >= 5
        running.process.kill()
        await wait_until(lambda: not alive(family))
    with dev(tmp_path, **QUICK) as running:
        assert sent(running, "first")
        family = descendants(running)
        running.process.send_signal(signal.SIGINT)
        await wait_until(lambda: running.process.poll() is not None)
        assert (running.process.returncode, alive(family)) == (0, [])
    assert not (tmp_path / ".tidings" / "env").exists()


def test_a_taken_port_is_one_line_that_names_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        stopped = run_dev(tmp_path, API_PORT=port, DASHBOARD_PORT=str(free_port(0)))
    assert (stopped.returncode, stopped.stderr.count("\n")) == (1, 1), stopped.stderr
    assert port in stopped.stderr
    assert "API_PORT" in stopped.stderr


def test_a_wrong_setting_is_one_line_that_names_it(tmp_path: Path) -> None:
    stopped = run_dev(tmp_path, RECLAIM_AFTER_S="soon")
    assert (stopped.returncode, stopped.stderr.count("\n")) == (1, 1), stopped.stderr
    assert "RECLAIM_AFTER_S" in stopped.stderr
