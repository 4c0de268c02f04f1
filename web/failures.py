"""The page of failures: FAILED and UNKNOWN over time, by error, and the newest of them to act on. Pure.

It does not refresh itself: a row must not move away under the hand that is about to choose it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.domain import Reason, Status
from app.settings import Settings
from web import links, sql, words
from web.away import Away
from web.failure_queries import GAP, KINDS_SHOWN, LOOKED_AT_ROWS, FailureRows, Kind
from web.filters import Filter, Several
from web.listing import Choosing, choosing
from web.parts import Badge, Bar, Command, Moment, badge, limit_words, line, moment
from web.queries import ListRows

OVER = {"1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7)}
OVER_DEFAULT = "24h"
DOUBLE = (
    "UNKNOWN means that it may have been sent: nobody heard the provider's answer. "
    "Send it again only where a second message does no harm: the person may get it twice."
)


@dataclass(frozen=True, slots=True)
class Over:
    """One of the times that the page can be over."""

    name: str
    link: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class KindLine:
    """Failures of one kind; `link` shows only these in the list, `columns` when they were."""

    badge: Badge
    why: str
    error: str
    count: str
    channels: str
    newest: Moment
    link: str
    columns: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Failures:
    """`total` says how many there were; `problem` why nothing could be read."""

    title: str
    refresh_s: int | None
    again: str
    made: Moment | None
    over: tuple[Over, ...]
    total: str
    columns: tuple[Bar, ...]
    first: str
    kinds: tuple[KindLine, ...]
    list: Choosing
    all_link: str
    warning: str
    notes: tuple[str, ...]
    problem: str
    commands: tuple[Command, ...]


def failures(settings: Settings, over: str, rows: FailureRows | Away, newest: ListRows | Away) -> Failures:
    """The page over one of OVER, from its rows or from why there are none."""
    read = None if isinstance(rows, Away) else rows
    listed = None if isinstance(newest, Away) else newest
    limit = limit_words(settings)
    lines = tuple(line(row, listed.now, limit) for row in listed.listed) if listed else ()
    return Failures(
        title="Failures",
        refresh_s=None,
        again=links.failures(over=over),
        made=moment(read.now, read.now) if read else None,
        over=tuple(Over(name, links.failures(over=name), name == over) for name in OVER),
        total=_total(read) if read else "",
        columns=bars([sum(both) for both in zip(*read.places.values(), strict=True)], read.since, read.now) if read else (),
        first=words.utc(read.since) if read else "",
        kinds=tuple(_kind(kind, read, limit) for kind in read.kinds) if read else (),
        list=choosing(Filter(Several.BAD), lines),
        all_link=links.notifications(status=Several.BAD),
        warning=DOUBLE if any(shown.badge.text == Status.UNKNOWN for shown in lines) else "",
        notes=_notes(read) if read else (),
        problem=next((away.sentence for away in (rows, newest) if isinstance(away, Away)), ""),
        commands=sql.failures(LOOKED_AT_ROWS),
    )


def bars(numbers: list[int], since: datetime, until: datetime, tone: str = "bad") -> tuple[Bar, ...]:
    """Numbers that follow each other in time, from since until."""
    most, step = max(numbers, default=0) or 1, (until - since) / max(1, len(numbers))
    return tuple(
        Bar(f"from {words.utc(since + place * step)}", words.number(n), -(-100 * n // most), tone)
        for place, n in enumerate(numbers)
    )


def _total(rows: FailureRows) -> str:
    told = [f"{words.number(sum(places))} {status}" for status, places in rows.places.items() if sum(places)]
    return ", ".join(told)


def _kind(kind: Kind, rows: FailureRows, limit: str) -> KindLine:
    tone = "warn" if kind.status == Status.UNKNOWN else "bad"
    return KindLine(
        badge=badge(kind.status),
        why=words.reason(kind.reason, limit),
        error="" if kind.reason == Reason.RATE_LIMITED else kind.error,
        count=words.number(kind.n),
        channels=", ".join(f"{channel} {words.number(n)}" for channel, n in sorted(kind.channels.items(), key=lambda c: -c[1])),
        newest=moment(kind.newest, rows.now),
        link=links.notifications(status=kind.status, reason=kind.reason, error=longest_part(kind.error)),
        columns=bars(kind.places, rows.since, rows.now, tone),
    )


def longest_part(error: str) -> str:
    """What is the same in all errors of a kind, as far as a list can be filtered by it."""
    return max((part.strip() for part in error.split(GAP)), key=len)


def _notes(rows: FailureRows) -> tuple[str, ...]:
    notes = []
    if rows.complete_since is not None:
        notes.append(
            f"Many failures: looked at the newest {words.number(LOOKED_AT_ROWS)} of each status, so before "
            f"{words.utc(rows.complete_since)} not all are counted."
        )
    if len(rows.kinds) >= KINDS_SHOWN:
        notes.append(f"The {KINDS_SHOWN} kinds with the most failures are shown.")
    return tuple(notes)
