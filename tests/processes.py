"""Tidings' own processes for tests: started as a user starts them, killed for real, and gone when the test ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.process import die_with_parent, free_port, wait_or_kill
from app.settings import Settings

ROOT = Path(__file__).resolve().parent.parent


def environment(settings: Settings, **override: object) -> dict[str, str]:
    """The environment that gives a process these settings."""
    values = {**settings.model_dump(exclude_none=True), **override}
    return {**bare_environment(), **{name.upper(): _text(value) for name, value in values.items()}}


def bare_environment() -> dict[str, str]:
    """Ours, from which `python -m app` finds the checkout in any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def start_process(command: list[str], env: dict[str, str], folder: Path, log_name: str | None = None) -> subprocess.Popen[bytes]:
    """`python -m COMMAND`; what it says goes to `folder`/NAME.log. It dies with us."""
    with (folder / f"{log_name or command[0]}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            env=env,
            cwd=folder,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )


@contextmanager
def process(command: list[str], env: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The same, killed at the end if it still runs."""
    child = start_process(command, env, folder)
    try:
        yield child
    finally:
        wait_or_kill(child, 0)


@contextmanager
def api_process(settings: Settings, folder: Path) -> Iterator[str]:
    """The API on a free port; answers its address. It may not be up yet: wait for /readyz."""
    port = free_port(0)
    with process(["app", "api"], environment(settings, api_port=port), folder):
        yield f"http://127.0.0.1:{port}"


@dataclass(frozen=True, slots=True)
class Dev:
    """A running `tidings dev`, and what it said when it was ready."""

    process: subprocess.Popen[str]
    folder: Path
    env: dict[str, str]
    ready_line: str

    @property
    def api(self) -> str:
        return self.ready_line.split()[1]

    @property
    def dashboard(self) -> str:
        return self.ready_line.split()[2]

    def tidings(self, *command: str) -> str:
        """What `tidings COMMAND` prints in a second terminal in the same folder."""
        run = [sys.executable, "-m", "app", *command]
        env = bare_environment()
        return subprocess.run(
            run, cwd=self.folder, env=env, capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()


@contextmanager
def dev(folder: Path, **settings: str) -> Iterator[Dev]:
    """`tidings dev` in `folder` on free ports, once it is ready; stopped as Ctrl-C stops it. Its log lines go to dev.log."""
    ports = {"API_PORT": str(free_port(0)), "DASHBOARD_PORT": str(free_port(0))}
    env = {**bare_environment(), **ports, **{name.upper(): value for name, value in settings.items()}}
    with (folder / "dev.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "app", "dev"],
            env=env,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
    try:
        yield Dev(child, folder, env, _ready_line(child, folder))
    finally:
        child.send_signal(signal.SIGINT)
        wait_or_kill(child, 30)


def _ready_line(child: subprocess.Popen[str], folder: Path) -> str:
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("ready "):
            return line.strip()
    raise AssertionError(f"it ended before it was ready: {(folder / 'dev.log').read_text()}")


def _text(value: object) -> str:
    return ",".join(str(part) for part in value) if isinstance(value, tuple) else str(value)
