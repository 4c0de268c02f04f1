"""The page of dead letters: by what was recorded, each with what may be done, and entries that no row explains. Pure.

It does not refresh itself: a row must not move away under the hand that is about to choose it.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from app.addresses import redis_command
from app.domain import Reason, Status
from app.settings import Settings
from app.streams import DEAD
from web import links, sql, words
from web.away import Away
from web.dead_queries import DEAD_ROWS, GROUPED_ROWS, DeadEntries, DeadGroup, DeadRows
from web.listing import Button, Choosing, Row
from web.parts import Command, EventLine, Line, event_line, limit_words, line
from web.payload import INVISIBLE

UNPRINTED = re.compile(f"[\x00-\x1f]|{INVISIBLE.pattern}")
FIELDS_SHOWN = 20
FIELD_CHARS = 300
DEAD_FILTER = {"status": Status.FAILED, "reason": Reason.DEAD_LETTER}


@dataclass(frozen=True, slots=True)
class DeadGroupLine:
    """How many have this sentence; the links lead to them and to what may be done with all of them."""

    what: str
    error: str
    count: str
    link: str | None
    replay: str | None
    discard: str | None


@dataclass(frozen=True, slots=True)
class EventRow:
    """A dead event; `edit` leads to its payload."""

    line: EventLine
    edit: str


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
    events: tuple[EventRow, ...]
    list: Choosing
    act_events: str
    entries: tuple[EntryLine, ...] | None
    act_entries: str
    newest_entry: str
    length: str
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    rows_read: bool
    commands: tuple[Command, ...]


def dead_letters(settings: Settings, rows: DeadRows | Away, entries: DeadEntries | Away, notice: str) -> DeadLetters:
    """The page; either part may be missing."""
    read = None if isinstance(rows, Away) else rows
    found = None if isinstance(entries, Away) else entries
    limit, cli = limit_words(settings), redis_command(settings.redis_url)
    stream = shlex.quote(DEAD)
    lines = tuple(_entry(entry_id, fields) for entry_id, fields in found.entries) if found else ()
    return DeadLetters(
        title="Dead letters",
        refresh_s=None,
        again=links.DEAD_LETTERS,
        notice=notice,
        groups=tuple(_group(group) for group in read.groups) if read else (),
        events=tuple(_event(event_line(event, read.now, limit)) for event in read.events) if read else (),
        list=_choosing(tuple(line(row, read.now, limit) for row in read.notifications) if read else ()),
        act_events=links.DEAD_EVENTS,
        entries=None if found is None else lines,
        act_entries=links.DEAD_ENTRIES,
        newest_entry=lines[0].id if lines else "",
        length=words.number(found.length) if found else "",
        notes=(_capped(),) if read and read.capped else (),
        problems=tuple({away.sentence: None for away in (rows, entries) if isinstance(away, Away)}),
        rows_read=read is not None,
        commands=(
            *sql.dead_letters(GROUPED_ROWS),
            Command("entries of the dead stream", f"{cli} XLEN {stream}"),
            Command("the newest of them", f"{cli} XREVRANGE {stream} + - COUNT {DEAD_ROWS}"),
        ),
    )


def notice(asked: Mapping[str, str]) -> str:
    """The line that the page shows after something was done; empty where nothing was."""
    for name, sentence in _NOTICES.items():
        number = asked.get(name, "")
        if number.isascii() and number.isdigit() and len(number) < 10:
            return sentence.format(words.number(int(number)))
    return ""


_NOTICES = {
    "replayed": "Replayed: {}, on the way again. What was no dead letter any more was left alone.",
    "edited": "Edited: {}, on the way again. What it was before is in the log of actions.",
    "discarded": "Discarded: {}. What was no dead letter any more was left alone.",
    "dropped": "Discarded: {} entries of the dead stream.",
}


def _choosing(lines: tuple[Line, ...]) -> Choosing:
    return Choosing(
        action=links.ACT,
        hidden=tuple((name, str(value)) for name, value in DEAD_FILTER.items()),
        selected=(Button("replay-selected", "Replay selected…"), Button("discard-selected", "Discard selected…")),
        all=(Button("replay-all", "Replay all dead ones…"), Button("discard-all", "Discard all dead ones…")),
        rows=tuple(Row(shown, links.dead_letter("notification", shown.id), "Edit…") for shown in lines),
    )


def _group(group: DeadGroup) -> DeadGroupLine:
    if group.what != "notification":
        return DeadGroupLine(group.what, group.error, words.number(group.n), None, None, None)
    chosen = {**DEAD_FILTER, "error": group.error[:250]}
    return DeadGroupLine(
        group.what,
        group.error,
        words.number(group.n),
        links.notifications(**chosen),
        links.act("replay-all", **chosen),
        links.act("discard-all", **chosen),
    )


def _event(shown: EventLine) -> EventRow:
    return EventRow(shown, links.dead_letter("event", shown.id))


def _capped() -> str:
    return f"Looked at the newest {words.number(GROUPED_ROWS)} rows that failed; there are more."


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
