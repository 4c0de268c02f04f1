"""The pages of what ended badly: failures (FAILED and UNKNOWN), and dead letters. Each row with its way back. Pure.

They do not refresh themselves: a row must not move away under the hand that is about to press its button.
"""

import re
import shlex
from dataclasses import dataclass

from app.addresses import redis_command
from app.domain import Status
from app.settings import Settings
from app.streams import DEAD
from web import links, sql, words
from web.away import Away
from web.failure_queries import DEAD_ROWS, GROUPED_ROWS, DeadEntries, DeadRows, FailureFilter, FailureGroup, FailureRows
from web.parts import Badge, Command, EventLine, Line, Moment, badge, event_line, limit_words, line, moment
from web.payload import INVISIBLE

UNPRINTED = re.compile(f"[\x00-\x1f]|{INVISIBLE.pattern}")
FIELDS_SHOWN = 20
FIELD_CHARS = 300
DOUBLE = (
    "UNKNOWN means that it may have been sent: nobody heard the provider's answer. "
    "Send it again only where a second message does no harm: the person may get it twice."
)


@dataclass(frozen=True, slots=True)
class ReplayForm:
    """What a button needs: where to send it, and where to come back to."""

    action: str
    hidden: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class GroupLine:
    """How many ended so; `link` shows only these."""

    badge: Badge
    why: str
    count: str
    channels: str
    newest: Moment
    link: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Failures:
    """`notice` says what became of a click; `again` is this page without it."""

    title: str
    refresh_s: int | None
    again: str
    notice: str
    made: Moment | None
    groups: tuple[GroupLine, ...]
    filter_words: str
    all_link: str | None
    lines: tuple[Line, ...]
    replay: ReplayForm
    warning: str
    older: str | None
    newest: str | None
    notes: tuple[str, ...]
    problem: str
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class DeadGroupLine:
    what: str
    error: str
    count: str


@dataclass(frozen=True, slots=True)
class EntryLine:
    """An entry of the dead stream: why it is there, where it was, and what it held."""

    id: str
    reason: str
    stream: str
    entry: str
    deliveries: str
    fields: tuple[tuple[str, str], ...]
    fields_left_out: int


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Two kinds: rows that ended so, and entries that no row explains. `problems` say what could not be read."""

    title: str
    refresh_s: int | None
    again: str
    notice: str
    groups: tuple[DeadGroupLine, ...]
    events: tuple[EventLine, ...]
    notifications: tuple[Line, ...]
    replay: ReplayForm
    entries: tuple[EntryLine, ...] | None
    length: str
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    rows_read: bool
    commands: tuple[Command, ...]


def failures(settings: Settings, wanted: FailureFilter, rows: FailureRows | Away, notice: str) -> Failures:
    """The page, from its rows or from why there are none."""
    answered = None if isinstance(rows, Away) else rows
    limit = limit_words(settings)
    lines = tuple(line(row, answered.now, limit) for row in answered.listed) if answered else ()
    chosen = {"status": wanted.status, "reason": wanted.reason}
    older = answered.next_before if answered else None
    return Failures(
        title="Failures",
        refresh_s=None,
        again=links.failures(**chosen, before=wanted.before),
        notice=notice,
        made=moment(answered.now, answered.now) if answered else None,
        groups=_groups(answered, wanted, limit) if answered else (),
        filter_words=_filter_words(wanted, limit),
        all_link=links.FAILURES if wanted.status or wanted.reason else None,
        lines=lines,
        replay=_form("failures", {**chosen, "before": wanted.before}),
        warning=DOUBLE if any(shown.badge.text == Status.UNKNOWN for shown in lines) else "",
        older=links.failures(**chosen, before=older) if older is not None else None,
        newest=links.failures(**chosen) if wanted.before is not None else None,
        notes=(_capped(GROUPED_ROWS, " of each status"),) if answered and answered.capped else (),
        problem=rows.sentence if isinstance(rows, Away) else "",
        commands=sql.failures(GROUPED_ROWS),
    )


def dead_letters(settings: Settings, rows: DeadRows | Away, entries: DeadEntries | Away, notice: str) -> DeadLetters:
    """The page; either part may be missing."""
    read = None if isinstance(rows, Away) else rows
    found = None if isinstance(entries, Away) else entries
    limit, cli = limit_words(settings), redis_command(settings.redis_url)
    stream = shlex.quote(DEAD)
    return DeadLetters(
        title="Dead letters",
        refresh_s=None,
        again=links.DEAD_LETTERS,
        notice=notice,
        groups=tuple(DeadGroupLine(g.what, g.error, words.number(g.n)) for g in read.groups) if read else (),
        events=tuple(event_line(event, read.now, limit) for event in read.events) if read else (),
        notifications=tuple(line(row, read.now, limit) for row in read.notifications) if read else (),
        replay=_form("dead", {}),
        entries=None if found is None else tuple(_entry(entry_id, fields) for entry_id, fields in found.entries),
        length=words.number(found.length) if found else "",
        notes=(_capped(GROUPED_ROWS, " rows that failed"),) if read and read.capped else (),
        problems=tuple({away.sentence: None for away in (rows, entries) if isinstance(away, Away)}),
        rows_read=read is not None,
        commands=(
            *sql.dead_letters(GROUPED_ROWS),
            Command("entries of the dead stream", f"{cli} XLEN {stream}"),
            Command("the newest of them", f"{cli} XREVRANGE {stream} + - COUNT {DEAD_ROWS}"),
        ),
    )


def _form(back: str, chosen: dict[str, object]) -> ReplayForm:
    kept = tuple((name, str(value)) for name, value in chosen.items() if value is not None)
    return ReplayForm(links.REPLAY, (("back", back), *kept))


def _capped(rows: int, of_what: str) -> str:
    return f"Looked at the newest {words.number(rows)}{of_what}; there are more."


def _filter_words(wanted: FailureFilter, limit: str) -> str:
    why = words.reason(wanted.reason, limit) if wanted.reason else ""
    return ": ".join(part for part in (wanted.status or "", why) if part)


def _groups(rows: FailureRows, wanted: FailureFilter, limit: str) -> tuple[GroupLine, ...]:
    """One line for each status and reason, the biggest first; a line says how many are of which channel."""
    by_reason: dict[tuple[str, str], list[FailureGroup]] = {}
    for group in rows.groups:
        by_reason.setdefault((group.status, group.reason), []).append(group)
    lines = sorted(by_reason.values(), key=lambda same: -sum(group.n for group in same))
    return tuple(_group(same, rows, wanted, limit) for same in lines)


def _group(same: list[FailureGroup], rows: FailureRows, wanted: FailureFilter, limit: str) -> GroupLine:
    status, reason = same[0].status, same[0].reason
    return GroupLine(
        badge=badge(status),
        why=words.reason(reason, limit),
        count=words.number(sum(group.n for group in same)),
        channels=", ".join(f"{group.channel} {words.number(group.n)}" for group in same),
        newest=moment(max(group.newest for group in same), rows.now),
        link=links.failures(status=status, reason=reason),
        chosen=(wanted.status, wanted.reason) == (status, reason),
    )


def _entry(entry_id: bytes, fields: dict[bytes, bytes]) -> EntryLine:
    told = {_text(name): _text(value) for name, value in fields.items()}
    known = {name: told.pop(name, "") for name in ("reason", "stream", "entry", "deliveries")}
    return EntryLine(
        id=_text(entry_id),
        **known,
        fields=tuple(told.items())[:FIELDS_SHOWN],
        fields_left_out=max(0, len(told) - FIELDS_SHOWN),
    )


def _text(raw: bytes) -> str:
    """Bytes that anybody may have written, as text on one page: cut, and what is not seen is escaped."""
    text = raw[: 4 * FIELD_CHARS].decode("utf-8", "backslashreplace")
    cut = text if len(text) <= FIELD_CHARS else f"{text[:FIELD_CHARS]} …"
    return UNPRINTED.sub(lambda match: f"\\u{ord(match[0]):04x}", cut)
