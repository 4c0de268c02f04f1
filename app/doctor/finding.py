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
    """`what` was looked at; `says` what is so; `mend` the command that mends it, None where there is nothing to type."""

    level: Level
    what: str
    says: str
    mend: str | None = None

    def line(self) -> str:
        """One line, without passwords."""
        mend = f"; mend: {self.mend}" if self.mend else ""
        return hide_password(f"{self.level:<4}  {self.what}  — {self.says}{mend}")

    def record(self) -> dict[str, str | None]:
        """The same as JSON values; `level` is ok, warn or fail."""
        said = {"level": self.level.lower(), "what": self.what, "says": self.says, "mend": self.mend}
        return {name: value and hide_password(value) for name, value in said.items()}


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
