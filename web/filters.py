"""What a list of notifications is asked for: read from a query string or a form, written into links, said in words. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeAlias, TypeVar

from app.domain import Channel, Status
from app.replay_options import read_instant
from web import words

TEXT_MAX = 255
KEY_MAX = 2**63 - 1
IDS_MAX = 200  # of one selection
TIME_RULE = "write a time ago such as 30m, 2h or 7d, or a moment such as 2026-03-31T16:30 (UTC)"


class Several(StrEnum):
    """Statuses that are looked for together."""

    BAD = "FAILED or UNKNOWN"
    OPEN = "PENDING or PROCESSING"


MEMBERS: dict[Several, tuple[Status, ...]] = {
    Several.BAD: (Status.FAILED, Status.UNKNOWN),
    Several.OPEN: (Status.PENDING, Status.PROCESSING),
}
ChosenStatus: TypeAlias = Status | Several
One = TypeVar("One", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list shows. None: whichever. `error` is a part of the recorded sentence, in letters of any case.

    `since` and `until` (exclusive) are about when a notification was made. `before` and `after` are where a page ends or begins:
    the id that the page beside it ended with.
    """

    status: ChosenStatus | None = None
    channel: Channel | None = None
    user: str | None = None
    event: str | None = None
    type: str | None = None
    provider: str | None = None
    error: str | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    left_out: str | None = None  # a reason that an order for all does not take
    ids: tuple[int, ...] = ()
    before: int | None = None
    after: int | None = None

    @property
    def statuses(self) -> tuple[Status, ...]:
        """Those that are looked for; empty: all."""
        if self.status is None:
            return ()
        return (self.status,) if isinstance(self.status, Status) else MEMBERS[self.status]

    @property
    def without_place(self) -> "Filter":
        """The same from its newest on."""
        return replace(self, before=None, after=None)


@dataclass(frozen=True, slots=True)
class Asked:
    """A filter as it was read; `faults` say what could not be understood, and so was not used."""

    filter: Filter
    faults: tuple[str, ...] = ()


def read_filter(asked: Mapping[str, str], now: datetime, ids: tuple[int, ...] = ()) -> Asked:
    """From a query string or a form. A time without an offset is UTC; a number that is none counts as not asked."""
    faults: list[str] = []
    given = {name: asked.get(name, "").replace("\0", "").strip()[:TEXT_MAX] for name in ("status", "channel", "since", "until")}
    statuses: tuple[ChosenStatus, ...] = (*Status, *Several)
    texts = {name: stored_text(asked.get(name, "")) or None for name in ("user", "event", "type", "provider", "error", "reason")}
    chosen = Filter(
        **texts,
        status=_choice("status", given["status"], statuses, faults),
        channel=_choice("channel", given["channel"], tuple(Channel), faults),
        since=_instant("since", given["since"], now, faults),
        until=_instant("until", given["until"], now, faults),
        ids=ids,
        before=row_id(asked.get("before", "")),
        after=row_id(asked.get("after", "")),
    )
    return Asked(chosen, tuple(faults))


def query_of(wanted: Filter) -> dict[str, object]:
    """The filter for a link or hidden fields, without `ids` and the place in the list."""
    named = ("status", "channel", "user", "event", "type", "provider", "error", "reason")
    times = {name: iso(at) for name, at in (("since", wanted.since), ("until", wanted.until)) if at}
    return {name: value for name in named if (value := getattr(wanted, name)) is not None} | times


def filter_words(wanted: Filter) -> str:
    """The filter as the end of a sentence that begins with a number: "FAILED notifications on EMAIL of ann, ..."."""
    status = f"{wanted.status} " if wanted.status else ""
    told = [
        f"on {wanted.channel}" if wanted.channel else "",
        f"of {wanted.user}" if wanted.user else "",
        f"of event {wanted.event}" if wanted.event else "",
        f"of type {wanted.type}" if wanted.type else "",
        f"tried by {wanted.provider}" if wanted.provider else "",
        f"with reason {wanted.reason}" if wanted.reason else "",
        f"without {wanted.left_out} ones" if wanted.left_out else "",
        f"with “{wanted.error}” in their error" if wanted.error else "",
        f"made since {words.utc(wanted.since)}" if wanted.since else "",
        f"made before {words.utc(wanted.until)}" if wanted.until else "",
    ]
    return " ".join([f"{status}notifications", *(part for part in told if part)])


def iso(at: datetime) -> str:
    """To the microsecond, in UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def stored_text(asked: str) -> str:
    """What could be stored: PostgreSQL's text has no NUL, ids are at most TEXT_MAX characters."""
    return asked.replace("\0", "")[:TEXT_MAX]


def row_id(asked: str) -> int | None:
    """The number of a row, None where it cannot be one."""
    number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) <= len(str(KEY_MAX)) else KEY_MAX + 1
    return number if number <= KEY_MAX else None


def row_ids(asked: list[str]) -> tuple[int, ...]:
    """The numbers among them, each once, at most IDS_MAX."""
    found = dict.fromkeys(number for text in asked[: 2 * IDS_MAX] if (number := row_id(text)) is not None)
    return tuple(found)[:IDS_MAX]


def _choice(name: str, text: str, choices: tuple[One, ...], faults: list[str]) -> One | None:
    """Letters of any case."""
    found = next((choice for choice in choices if choice.lower() == text.lower()), None)
    if text and found is None:
        faults.append(f"{name} “{text[:40]}”: there is no such {name}")
    return found


def _instant(name: str, text: str, now: datetime, faults: list[str]) -> datetime | None:
    if not text:
        return None
    try:
        return _read(text, now)
    except (ValueError, OverflowError):
        faults.append(f"{name} “{text[:40]}”: {TIME_RULE}")
        return None


def _read(text: str, now: datetime) -> datetime:
    """Without an offset it is UTC. Raises ValueError or OverflowError."""
    try:
        return read_instant(text, now)
    except ValueError:
        return read_instant(f"{datetime.fromisoformat(text).isoformat()}Z", now)
