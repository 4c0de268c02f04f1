"""As whom PostgreSQL runs: it refuses to be root."""

import os
import pwd
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.local.server import LocalError

NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Account:
    """`prefix` goes before every command, `popen` into every start; `uid` and `gid` own the data as seen from here."""

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()
    popen: dict[str, Any] = field(default_factory=dict)

    def own(self, folder: Path) -> None:
        if folder.stat().st_uid != self.uid:
            os.chown(folder, self.uid, self.gid)

    def check_owner(self, folder: Path) -> None:
        """Raises LocalError where the data belongs to somebody else: PostgreSQL would not touch it."""
        owner = folder.stat().st_uid
        if owner != self.uid:
            raise LocalError(f"{folder} belongs to user {owner}, not {self.uid}: run as that user, or remove the folder")


def find_account(binary: Path, folder: Path) -> Account:
    """Ourselves, unless we are root: then root that looks like nobody inside a user namespace, or else the real user nobody.

    Raises LocalError where neither can work.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    for account in (_in_namespace(), _real_nobody()):
        if account and _can_run(account, binary, folder):
            return account
    raise LocalError(
        f"PostgreSQL refuses to run as root, and user nobody cannot reach {binary} or {folder}: "
        "run as a normal user, or set DATABASE_URL to a server that runs"
    )


def _in_namespace() -> Account | None:
    """Entering a user namespace clears the parent-death signal, so it is set inside; the shell looks whether that was in time."""
    if sys.platform != "linux":
        return None
    namespace = ("unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "--")
    tied = ("setpriv", "--pdeathsig", signal.SIGINT.name.removeprefix("SIG"), "--")
    still_ours = ("sh", "-c", 'test "$PPID" = "$0" && exec "$@"', str(os.getpid()))
    return Account(0, 0, namespace + tied + still_ours)


def _real_nobody() -> Account | None:
    try:
        user = pwd.getpwnam("nobody")
    except KeyError:
        return None
    return Account(user.pw_uid, user.pw_gid, (), {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []})


def _can_run(account: Account, binary: Path, folder: Path) -> bool:
    look = ("sh", "-c", 'cd "$0" && exec "$1" --version', folder, binary)
    try:
        probe = subprocess.run([*account.prefix, *look], cwd="/", capture_output=True, **account.popen)
    except OSError:
        return False
    return probe.returncode == 0
