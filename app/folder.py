"""The folder `.tidings`: who runs here (lock), and where what runs here is found (env)."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(".tidings")
ENV_FILE = FOLDER / "env"


class FolderError(Exception):
    """The folder cannot be used. The message is one line."""


@contextmanager
def held_folder() -> Iterator[Path]:
    """`.tidings`, made if missing, as ours alone until the end; what a killed run left in `env` is gone. Raises FolderError."""
    try:
        FOLDER.mkdir(exist_ok=True)
        lock = os.open(FOLDER / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise FolderError(f"cannot use {FOLDER.absolute()}: {error.strerror}") from None
    try:
        _take(lock)
        forget_addresses()
        yield FOLDER.absolute()
    finally:
        os.close(lock)


def write_addresses(values: Mapping[str, str]) -> None:
    """Write `.tidings/env`, all at once, for our eyes only: every other command in this folder reads it."""
    text = "# written by `tidings dev`, which removes it when it stops\n"
    text += "".join(f"{name}='{dotenv_value(value)}'\n" for name, value in values.items())
    new = ENV_FILE.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(ENV_FILE)


def forget_addresses() -> None:
    ENV_FILE.unlink(missing_ok=True)


def dotenv_value(url: str) -> str:
    """A URL or a plain word for between single quotes: what python-dotenv would read as something else is percent-encoded."""
    return url.replace("\\", "%5C").replace("'", "%27").replace("$", "%24")


def _take(lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(lock, 20, 0).decode(errors="replace").strip()
        raise FolderError(f"`tidings dev` already runs in this folder (process {owner}): stop it first") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
