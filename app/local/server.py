"""What both servers share: the binary, the folder's lock, a port, the start until it answers, the stop."""

import fcntl
import importlib.util
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.process import die_with_parent, free_port, port_problem, wait_or_kill

START_WITHIN_S = 60  # crash recovery of a large folder included
STOP_WITHIN_S = 20
LOCK_WITHIN_S = 10
PORTS_TRIED = 5
POLL_S = 0.01

Command = Sequence[str | Path]


class LocalError(Exception):
    """A server cannot be started here. The message is one line that says why and what to do."""


class _PortTakenError(LocalError):
    pass


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs. `url` is complete; PostgreSQL's names the database `tidings`."""

    name: str
    url: str
    port: int
    process: subprocess.Popen[bytes]
    stop_signal: signal.Signals

    def ask_to_stop(self) -> None:
        self.process.send_signal(self.stop_signal)

    def stop(self) -> None:
        """Stop in good order, all data on disk, and wait for the end."""
        self.ask_to_stop()
        wait_or_kill(self.process, STOP_WITHIN_S)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one server lives: its folder, and the lock on it, held while this place is open."""

    folder: Path
    lock: int

    @property
    def log(self) -> Path:
        return self.folder / "server.log"


def find_binary(package: str, pattern: str, name: str, setting: str) -> Path:
    """The server's binary inside an installed package. Raises LocalError where this platform has none."""
    found = importlib.util.find_spec(package)
    binary = next(Path(found.origin).parent.glob(pattern), None) if found and found.origin else None
    if binary is None:
        raise LocalError(f"no {name} here (package {package} is not installed): set {setting} to a server that runs")
    return binary


def start_in(name: str, folder: Path, port: int, exactly: bool, start: Callable[[Place, int], Server]) -> Server:
    """Lock `folder`, start on the first free port from `port` on (0: any), on another one where some process was faster."""
    place = _open(name, folder)
    try:
        for _ in range(1 if exactly else PORTS_TRIED):
            chosen = port if exactly else free_port(port)
            try:
                return start(place, chosen)
            except _PortTakenError:
                continue
        raise LocalError(f"{name} found no port: {chosen} is taken")
    finally:
        os.close(place.lock)  # the server has its own copy


def spawn(place: Place, command: Command, on_orphaned: signal.Signals | None, **popen: Any) -> subprocess.Popen[bytes]:
    """Start a server; the kernel sends it `on_orphaned` when we die (None: the command sees to that itself)."""
    with place.log.open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=place.folder,
            env=server_environment(os.environ),
            pass_fds=(place.lock,),
            start_new_session=True,  # Ctrl-C in the terminal is for us; servers stop last
            preexec_fn=die_with_parent(on_orphaned) if on_orphaned else None,
            **popen,
        )


def wait_ready(name: str, place: Place, port: int, process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    """Return once `ready()`. Raises LocalError, the process ended, where it died or took too long."""
    until = time.monotonic() + START_WITHIN_S
    while not ready():
        if process.poll() is not None:
            if port_problem("127.0.0.1", port):
                raise _PortTakenError
            raise LocalError(f"{name} did not start: {last_words(place.log)} (see {place.log})")
        if time.monotonic() > until:
            process.kill()
            process.wait()
            raise LocalError(f"{name} did not answer within {START_WITHIN_S} s (see {place.log})")
        time.sleep(POLL_S)


def last_words(log: Path) -> str:
    """The last line of a server's log, PostgreSQL's last FATAL one where there is one."""
    lines = [line.strip() for line in log.read_text(errors="replace")[-4000:].splitlines() if line.strip()]
    fatal = [line.partition("FATAL:")[2].strip() for line in lines if "FATAL:" in line]
    return (fatal or lines or ["it says nothing"])[-1]


def server_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Our environment without what would change a server's mind."""
    return {name: value for name, value in ours.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _open(name: str, folder: Path) -> Place:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise LocalError(f"cannot write {error.filename}: {error.strerror}") from None
    until = time.monotonic() + LOCK_WITHIN_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Place(folder.resolve(), lock)
        except BlockingIOError:  # a server whose parent was killed takes a moment to end
            if time.monotonic() > until:
                os.close(lock)
                raise LocalError(f"another {name} still runs on {folder}: stop that first") from None
            time.sleep(POLL_S)
