"""The command line: help with an example everywhere, exit status 0, or 1 and one line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import main

COMMANDS = [
    "",
    "dev",
    "api",
    "consumers",
    "web",
    "schema",
    "schema apply",
    "schema check",
    "send",
    "seed",
    "replay",
    "pause",
    "resume",
    "redis",
    "doctor",
    "health",
    "version",
]
NOWHERE = {"REDIS_URL": "redis://127.0.0.1:1", "DATABASE_URL": "postgresql://u:hush@127.0.0.1:1/d", "API_PORT": "1"}

ONE_LINE = {
    "no such command": ("nonsense", {}, r"No such command 'nonsense' \(see `tidings --help`\)"),
    "a command without its second word": ("schema", {}, r"Missing command \(see `tidings schema --help`\)"),
    "no such option": ("dev --fast", {}, r"No such option: --fast.* \(see `tidings dev --help`\)"),
    "no number": ("send --count many", {}, r".*'--count'.* \(see `tidings send --help`\)"),
    "a wrong setting": ("schema apply", {"API_PORT": "x"}, r"setting API_PORT: .*"),
    "no PostgreSQL": (
        "schema apply",
        NOWHERE,
        r"PostgreSQL \(setting DATABASE_URL\) cannot be used: .*refused.*|.*Connect call failed.*",
    ),
    "no PostgreSQL to check": ("schema check", NOWHERE, r"PostgreSQL \(setting DATABASE_URL\) cannot be used: .*"),
    "no Redis": ("redis PING", NOWHERE, r"Redis \(setting REDIS_URL\) cannot be used: .*refused.*"),
    "nobody to ask": ("replay --status FAILED", NOWHERE, r"there is no terminal to ask on: add --yes .*"),
    "no PostgreSQL to replay from": ("replay 7 --yes", NOWHERE, r"PostgreSQL \(setting DATABASE_URL\) cannot be used: .*"),
    "nothing to replay": ("replay --yes", {}, r"say what: ids of notifications, --event EVENT_ID, or a filter .*"),
    "no status to replay": ("replay --status SENT --yes", {}, r"option --status: must be one of FAILED, UNKNOWN"),
    "no such channel": ("pause FAX", {}, r"there is no channel 'FAX': it is one of EMAIL, SMS, PUSH"),
    "no PostgreSQL to resume in": ("resume SMS", NOWHERE, r"PostgreSQL \(setting DATABASE_URL\) cannot be used: .*"),
    "no API": ("send", NOWHERE, r"the API does not answer at http://127\.0\.0\.1:1 \(settings API_HOST, API_PORT\).*"),
    "a port for both": (
        "dev",
        {"API_PORT": "4999", "DASHBOARD_PORT": "4999"},
        r"settings API_PORT and DASHBOARD_PORT are both 4999: .*",
    ),
    "a host of another machine": ("dev", {"API_HOST": "192.0.2.1"}, r"port 3001 on 192\.0\.2\.1 .*API_HOST, API_PORT.*"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["tidings", *command.split(), "--help"])
    with pytest.raises(SystemExit) as exited:
        main()
    out, err = capsys.readouterr()
    assert (exited.value.code, err) == (0, "")
    assert re.search(rf"Example: .*tidings {command}", out)


@pytest.mark.parametrize("name", ONE_LINE)
def test_a_mistake_is_exit_status_1_and_one_line(name: str, tmp_path: Path) -> None:
    command, environment, says = ONE_LINE[name]
    done = tidings(command, environment, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(f"tidings: ({says})\n", done.stderr), done.stderr
    assert "hush" not in done.stderr


def test_without_a_command_it_shows_the_help(tmp_path: Path) -> None:
    assert tidings("", {}, tmp_path).stdout.startswith("Usage: tidings ")


@pytest.mark.parametrize("command", ["version", "--version"])
def test_version(command: str, tmp_path: Path) -> None:
    assert re.fullmatch(r"tidings \d+\.\d+\.\d+\n", tidings(command, {}, tmp_path).stdout)


def test_the_help_loads_no_driver(tmp_path: Path) -> None:
    heavy = ("asyncpg", "redis", "sqlmodel", "pydantic_settings", "aiohttp")
    code = f"import sys, app.cli; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def tidings(command: str, environment: dict[str, str], folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "app", *command.split()],
        env={**os.environ, **environment},
        cwd=folder,  # no .env, no .tidings/env
        capture_output=True,
        text=True,
    )
