"""A page that says one thing: a record, built by pure functions."""

from dataclasses import dataclass

from web import links
from web.away import Away
from web.lookups import EventRows
from web.parts import REFRESH_S, EventLine, event_line


@dataclass(frozen=True, slots=True)
class Message:
    """A page that says one thing: not found, several found, cannot be read."""

    title: str
    refresh_s: int | None
    sentence: str
    events: tuple[EventLine, ...] = ()
    user_link: str | None = None
    sign_in_link: str = ""


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


def not_signed_in(sentence: str, link: str = "") -> Message:
    """Who asks is not known; `link`: where they sign in."""
    return Message("Not signed in", None, sentence, sign_in_link=link)


def unchanged(sentence: str) -> Message:
    """A POST that was refused, or that asks for nothing we do."""
    return Message("Nothing was changed", None, sentence)


def broken() -> Message:
    """Our own fault."""
    sentence = "The dashboard made a mistake; its log has the details. Deliveries go on without it."
    return Message("Something went wrong here", None, sentence)
