"""The list of notifications: its filter, one page of lines, and what may be done to them. A record, built by pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.domain import Channel, Reason, Status
from app.settings import Settings
from web import links, sql, words
from web.away import Away
from web.filters import Asked, Filter, Several, filter_words, query_of
from web.operations import RULES, Operation, possible
from web.parts import REFRESH_S, Command, Line, limit_words, line
from web.queries import ListRows, Searched

ON_LISTS = (Operation.REPLAY, Operation.CANCEL)
FURTHER = ("event", "type", "provider", "reason", "until")


@dataclass(frozen=True, slots=True)
class Choice:
    """One option of a filter."""

    value: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Field:
    """A text of the filter, as it was typed."""

    name: str
    label: str
    value: str
    hint: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line; `act` leads to what may be done to it, None: nothing."""

    line: Line
    act: str | None
    verb: str


@dataclass(frozen=True, slots=True)
class Button:
    """What is sent with the list's form, and what it says."""

    do: str
    text: str


@dataclass(frozen=True, slots=True)
class Choosing:
    """A list whose lines can be chosen: `selected` acts on those, `all` on everything that `hidden`, the filter, matches."""

    action: str
    hidden: tuple[tuple[str, str], ...]
    selected: tuple[Button, ...]
    all: tuple[Button, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class ListPage:
    """`faults` say what of the filter was not understood, `notes` what the list leaves out, `problem` why it was not read."""

    title: str
    section: str
    refresh_s: int | None
    statuses: tuple[Choice, ...]
    channels: tuple[Choice, ...]
    reasons: tuple[Choice, ...]
    fields: Mapping[str, Field]
    further_open: bool
    filtered: bool
    user_link: str | None
    faults: tuple[str, ...]
    list: Choosing
    notes: tuple[str, ...]
    problem: str
    older: str | None
    older_words: str
    newer: str | None
    newest: str | None
    commands: tuple[Command, ...]


def listing(settings: Settings, asked: Asked, typed: Mapping[str, str], rows: ListRows | Away) -> ListPage:
    """The page, from its rows or from why there are none; `typed` is what was typed into the filter."""
    wanted, limit = asked.filter, limit_words(settings)
    answered = None if isinstance(rows, Away) else rows
    query = query_of(wanted)
    older, newer = (answered.next_before, answered.next_after) if answered else (None, None)
    return ListPage(
        title=words.capital(filter_words(wanted)),
        section="Notifications",
        refresh_s=REFRESH_S if wanted.before is None and wanted.after is None else None,
        statuses=_choices((*Status, *Several), wanted.status),
        channels=_choices(tuple(Channel), wanted.channel),
        reasons=_choices(_reasons(wanted), wanted.reason),
        fields=fields(wanted, typed),
        further_open=any(query.get(name) is not None for name in FURTHER),
        filtered=bool(query),
        user_link=links.user(wanted.user) if wanted.user else None,
        faults=asked.faults,
        list=choosing(wanted, tuple(line(found, answered.now, limit) for found in answered.listed) if answered else ()),
        notes=_notes(answered) if answered else (),
        problem=rows.sentence if isinstance(rows, Away) else "",
        older=links.notifications(**query, before=older) if older is not None else None,
        older_words="Look further back" if answered and answered.searched and answered.searched.newest_first else "Older",
        newer=links.notifications(**query, after=newer) if newer is not None else None,
        newest=links.notifications(**query) if wanted.before is not None or wanted.after is not None else None,
        commands=sql.listing(wanted),
    )


def choosing(wanted: Filter, lines: Sequence[Line]) -> Choosing:
    """These lines of what is filtered, to be chosen from."""
    verbs = {found for shown in lines if (found := possible(shown.badge.text))}
    query = query_of(wanted)
    what = "all that match" if query else "all"
    return Choosing(
        action=links.ACT,
        hidden=tuple((name, str(value)) for name, value in query.items()),
        selected=tuple(Button(f"{one}-selected", f"{RULES[one].verb} selected…") for one in Operation if one in verbs),
        all=tuple(Button(f"{one}-all", f"{RULES[one].verb} {what}…") for one in ON_LISTS if RULES[one].narrow(wanted)),
        rows=tuple(_row(shown) for shown in lines),
    )


def _row(shown: Line) -> Row:
    operation = possible(shown.badge.text)
    if operation is None:
        return Row(shown, None, "")
    return Row(shown, links.act(f"{operation}-selected", id=shown.id), f"{RULES[operation].verb}…")


def fields(wanted: Filter, typed: Mapping[str, str]) -> dict[str, Field]:
    """The texts of the filter; times as they were typed."""
    times = {name: typed.get(name, "")[:60].replace("\0", "") for name in ("since", "until")}
    told = {
        "user": ("User", wanted.user, "anyone"),
        "error": ("Error has", wanted.error, "part of the text"),
        "since": ("Made since", times["since"], "2h, 7d, 2026-03-31"),
        "until": ("Made before", times["until"], "2h, 7d, 2026-03-31"),
        "event": ("Event id", wanted.event, "the whole id"),
        "type": ("Event type", wanted.type, "ORDER_PLACED"),
        "provider": ("Tried by provider", wanted.provider, "its whole name"),
    }
    return {name: Field(name, label, value or "", hint) for name, (label, value, hint) in told.items()}


def _choices(values: tuple[str, ...], chosen: str | None) -> tuple[Choice, ...]:
    return tuple(Choice(str(value), value == chosen) for value in values)


def _reasons(wanted: Filter) -> tuple[str, ...]:
    """A reason that is none of ours was typed into the address: it stays what is filtered by."""
    known = tuple(str(reason) for reason in Reason)
    return known if wanted.reason is None or wanted.reason in known else (*known, wanted.reason)


def _notes(rows: ListRows) -> tuple[str, ...]:
    return () if rows.searched is None else (searched_words(rows.searched),)


def searched_words(searched: Searched) -> str:
    """How far a look came that its time limit ended."""
    to = f" to {words.utc(searched.to)}" if searched.to else ""
    way = "back" if searched.newest_first else "forward"
    more = "older" if searched.newest_first else "newer"
    return (
        f"No index has this filter: looked {way}{to} through {words.number(searched.rows)} notifications, "
        f"then the time for one page was up. There may be {more} ones; the link below goes on."
    )
