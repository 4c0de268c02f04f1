"""What starting another process needs: its death tied to ours, a port nobody has, an orderly end."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

PR_SET_PDEATHSIG = 1


def die_with_parent(with_signal: signal.Signals) -> Callable[[], None] | None:
    """A `preexec_fn`: the kernel sends `with_signal` to the child when we die, `kill -9` included. None where it cannot.

    Linux only, and tied to the thread that forks: start children from the main thread.
    """
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def in_child() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(with_signal))
        if os.getppid() != parent:  # the parent died before the line above
            os._exit(1)

    return in_child


def port_problem(host: str, port: int) -> str | None:
    """Why nothing can listen on `host` and `port` now, as the system says it; None where it can."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is no obstacle
            probe.bind(address)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return None


def free_port(first: int) -> int:
    """The first port from `first` on that is free on 127.0.0.1; 0: any. Raises OSError where there is none."""
    if first == 0:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])
    for port in range(first, 65536):
        if port_problem("127.0.0.1", port) is None:
            return port
    raise OSError(f"no port from {first} on is free on 127.0.0.1")


def wait_or_kill(process: subprocess.Popen[Any], within_s: float) -> None:
    """Wait for the end of a process that was asked to stop; SIGKILL where it takes longer than `within_s`."""
    try:
        process.wait(max(0.0, within_s))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
