"""The options of `tidings replay`, read into one order that makes sense. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from app.domain import Channel, Reason, Status
from app.store.replay import Wanted

Choice = TypeVar("Choice", bound=StrEnum)

ROW_ID_MAX = 2**63 - 1
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
INSTANT_RULE = "must be a time ago such as 30m, 2h or 7d, or ISO 8601 with an offset such as 2026-03-31T16:30:00Z"
SAY_WHAT = "say what: ids of notifications, --event EVENT_ID, or a filter such as --status FAILED (see `tidings replay --help`)"


class ReplayError(Exception):
    """Nothing, or not all, was replayed. The message is one line that says why and what to do."""


@dataclass(frozen=True, slots=True)
class Named:
    """Rows named one by one: notifications by id, or one event by its client's id."""

    ids: Sequence[int] = ()
    event_id: str | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """What to replay, and how. `limit` and `rate_per_s` count for a filter (Wanted)."""

    what: Named | Wanted
    yes: bool
    dry_run: bool
    limit: int | None
    rate_per_s: float


def read_what(
    ids: Sequence[int], event_id: str | None, source: str, *, events: bool, filters: Mapping[str, str | None], now: datetime
) -> Named | Wanted:
    """What to replay; `filters` are the options by name, --limit included, None where not given. Raises ReplayError."""
    filtered = events or any(value is not None for value in filters.values())
    if bool(ids) + (event_id is not None) + filtered > 1:
        raise ReplayError("ids, --event and a filter exclude each other: give one of the three")
    if source and event_id is None:
        raise ReplayError("--source is for --event")
    if not filtered:
        return _named(ids, event_id, source)
    wanted = _wanted(filters, events, now)
    if events and (wanted.status is not Status.FAILED or wanted.channel is not None):
        raise ReplayError("--events are FAILED ones that have no channels yet: leave --status and --channel out")
    if wanted.since and wanted.until and wanted.since >= wanted.until:
        raise ReplayError("option --until: must be later than --since")
    return wanted


def _named(ids: Sequence[int], event_id: str | None, source: str) -> Named:
    if not ids and event_id is None:
        raise ReplayError(SAY_WHAT)
    for row_id in ids:
        if not 1 <= row_id <= ROW_ID_MAX:
            raise ReplayError(f"notification {row_id}: an id is a number from 1 on")
    return Named(tuple(ids), event_id, source)


def _wanted(filters: Mapping[str, str | None], events: bool, now: datetime) -> Wanted:
    return Wanted(
        status=_choice("--status", filters["status"], (Status.FAILED, Status.UNKNOWN)) or Status.FAILED,
        events=events,
        channel=_choice("--channel", filters["channel"], tuple(Channel)),
        reason=_choice("--reason", filters["reason"], tuple(Reason)),
        user_id=_text("--user", filters["user"]),
        event_type=_text("--type", filters["type"]),
        since=_instant("--since", filters["since"], now),
        until=_instant("--until", filters["until"], now),
    )


def _choice(option: str, text: str | None, choices: Sequence[Choice]) -> Choice | None:
    """Letters of any case."""
    found = {choice.lower(): choice for choice in choices}
    if text is not None and text.lower() not in found:
        raise ReplayError(f"option {option}: must be one of {', '.join(choices)}")
    return None if text is None else found[text.lower()]


def _text(option: str, text: str | None) -> str | None:
    if text is not None and (not text or not text.isprintable()):
        raise ReplayError(f"option {option}: must be text that can be printed")
    return text


def _instant(option: str, text: str | None, now: datetime) -> datetime | None:
    if text is None:
        return None
    try:
        return read_instant(text, now)
    except (ValueError, OverflowError):
        raise ReplayError(f"option {option}: {INSTANT_RULE}") from None


def read_instant(text: str, now: datetime) -> datetime:
    """ISO 8601 with an offset, or so long before `now`: 45s, 30m, 2h, 7d. Raises ValueError or OverflowError."""
    ago = re.fullmatch(r"([0-9]{1,6})([smhd])", text, re.ASCII)
    if ago:
        return now - timedelta(seconds=int(ago[1]) * UNITS_S[ago[2]])
    instant = datetime.fromisoformat(text.upper())
    if instant.tzinfo is None or not 1970 <= instant.year < 9999:
        raise ValueError(INSTANT_RULE)
    return instant.astimezone(UTC)
