"""What a list of notifications says, and a page that says one thing: records, built by pure functions from rows and the time."""

from dataclasses import dataclass

from app.domain import Channel, Status
from app.settings import Settings
from web import links, sql, words
from web.away import Away
from web.lookups import EventRows
from web.parts import REFRESH_S, Command, EventLine, Line, event_line, limit_words, line
from web.queries import OPEN_ROWS, Filter, ListRows


@dataclass(frozen=True, slots=True)
class Choice:
    """One option of a filter."""

    value: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """`notes` say what the list leaves out; `problem` that it could not be read."""

    title: str
    refresh_s: int | None
    statuses: tuple[Choice, ...]
    channels: tuple[Choice, ...]
    user: str
    user_link: str | None
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    problem: str
    older: str | None
    newest: str | None
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """A page that says one thing: not found, several found, cannot be read."""

    title: str
    refresh_s: int | None
    sentence: str
    events: tuple[EventLine, ...] = ()
    user_link: str | None = None


def listing(settings: Settings, wanted: Filter, rows: ListRows | Away) -> Listing:
    """The page, from its rows or from why there are none."""
    limit = limit_words(settings)
    answered = None if isinstance(rows, Away) else rows
    chosen = {"status": wanted.status, "channel": wanted.channel, "user": wanted.user}
    older = answered.next_before if answered else None
    return Listing(
        title=_list_title(wanted),
        refresh_s=REFRESH_S if wanted.before is None else None,
        statuses=tuple(Choice(s, s == wanted.status) for s in Status),
        channels=tuple(Choice(c, c == wanted.channel) for c in Channel),
        user=wanted.user or "",
        user_link=links.user(wanted.user) if wanted.user else None,
        lines=tuple(line(row, answered.now, limit) for row in answered.listed) if answered else (),
        notes=_notes(answered) if answered else (),
        problem=rows.sentence if isinstance(rows, Away) else "",
        older=links.notifications(**chosen, before=older) if older is not None else None,
        newest=links.notifications(**chosen) if wanted.before is not None else None,
        commands=sql.listing(wanted),
    )


def found(text: str, rows: EventRows, is_user: bool, limit: str) -> Message:
    """What a search came to, where there is not exactly one answer."""
    if not rows.events and not is_user:
        sentence = f"No event and no user is called {text}. Ids must match to the letter."
        return Message("Nothing found", None, sentence)
    events = tuple(event_line(event, rows.now, limit) for event in rows.events)
    user_link = links.user(text) if is_user else None
    return Message(f"Called {text}", None, "More than one thing has this id.", events, user_link)


def cannot_read(away: Away) -> Message:
    """A page whose content is out of reach for now; it asks again by itself."""
    return Message("Cannot be read now", REFRESH_S, f"{away.sentence} Nothing accepted is lost; this page asks again by itself.")


def refused(status: int) -> Message:
    """An address or a method that there is none of."""
    if status == 404:
        return Message("Not found", None, "There is no such page, or no such event any more.")
    return Message("Not possible", None, "This page only shows: it does not take this request.")


def not_ours(sentence: str) -> Message:
    """A POST that does not come from a page of ours, or that asks for nothing we do."""
    return Message("Nothing was changed", None, sentence)


def cannot_replay(away: Away) -> Message:
    """The row may have been moved, if the answer was lost on its way: the list tells."""
    return Message("Not replayed, as far as is known", None, f"{away.sentence} Look at the list again before you repeat it.")


def broken() -> Message:
    """Our own fault."""
    sentence = "The dashboard made a mistake; its log has the details. Deliveries go on without it."
    return Message("Something went wrong here", None, sentence)


def _list_title(wanted: Filter) -> str:
    of_user = f" of {wanted.user}" if wanted.user else ""
    kinds = " ".join(part for part in (wanted.status, wanted.channel) if part)
    return f"{kinds} notifications{of_user}" if kinds else f"Notifications{of_user}"


def _notes(rows: ListRows) -> tuple[str, ...]:
    notes = []
    if rows.open_capped:
        notes.append(f"A big backlog: these are among the {words.number(OPEN_ROWS)} of each channel that have waited longest.")
    if rows.searched is not None:
        notes.append(f"Looked through {words.number(rows.searched)} notifications for this page; the link below goes on.")
    return tuple(notes)
