"""RESULTS.md: each command keeps its own part of it, with what it ran on."""

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
ROOT = RESULTS.parent.parent


def keep(command: str, text: str) -> None:
    """Put `text` where this command's last results were."""
    old = RESULTS.read_text() if RESULTS.exists() else "# What the benchmarks found\n"
    RESULTS.write_text(with_section(old, command, text))


def with_section(document: str, command: str, text: str) -> str:
    """The document with the section of this command replaced, or added at its end."""
    head, section = f"## `{command}`\n", f"## `{command}`\n\n{text.strip()}\n"
    sections = re.split(r"^(?=## `)", document, flags=re.M)
    if any(old.startswith(head) for old in sections):
        return "\n".join(section if old.startswith(head) else old.strip() + "\n" for old in sections if old.strip())
    return "\n".join([*(old.strip() + "\n" for old in sections if old.strip()), section])


def circumstances(postgres: str, valkey: str, took_s: float) -> str:
    """When, of what, on what; one paragraph."""
    commit = _output("git", "-C", str(ROOT), "log", "-1", "--format=%h")
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.machine()
    )
    node = f", Node {_output('node', '--version').removeprefix('v')}" if shutil.which("node") else ""
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit or 'unknown'}; {os.cpu_count()} cores ({cpu}), "
        f"Linux {platform.release()}, Python {platform.python_version()}, PostgreSQL {postgres}, Valkey {valkey}{node}; "
        f"{took_s:.0f} s in all."
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
