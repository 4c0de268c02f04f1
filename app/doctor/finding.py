"""What one check came to, as a line for people and as a record for machines."""

from dataclasses import dataclass
from enum import StrEnum

from app.logs import hide_password


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` was looked at; `says` what is so; `mend` the command that mends it, None where there is nothing to type.

    `says` may quote a server or a setting, so passwords are hidden in it; commands are made without any.
    """

    level: Level
    what: str
    says: str
    mend: str | None = None

    def line(self) -> str:
        mend = f"; mend: {self.mend}" if self.mend else ""
        return f"{self.level:<4}  {self.what}  — {hide_password(self.says)}{mend}"

    def record(self) -> dict[str, str | None]:
        """The same as JSON values; `level` is ok, warn or fail."""
        return {"level": self.level.lower(), "what": self.what, "says": hide_password(self.says), "mend": self.mend}


def ok(what: str, says: str) -> Finding:
    return Finding(Level.OK, what, says)


def warn(what: str, says: str, mend: str | None = None) -> Finding:
    return Finding(Level.WARN, what, says, mend)


def fail(what: str, says: str, mend: str) -> Finding:
    """A fault that stops the work or loses some: it always says what to do."""
    return Finding(Level.FAIL, what, says, mend)


def not_judged(what: str, server: str) -> Finding:
    """Its server gave no answer, which is a finding of its own."""
    return warn(what, f"cannot be judged: {server} gave no answer")
