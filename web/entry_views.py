"""A raw entry of a stream as a page shows it: its fields, who has it, and the lines for redis-cli that show the same. Pure."""

import shlex
from dataclasses import dataclass

from app.streams import GROUP
from web.entries import AFTER, BEFORE, Found, wanted_entries
from web.letter import clip
from web.lookups import StoryRows
from web.parts import Command
from web.words import duration, plural

FIELDS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class EntryView:
    """`state`: who has it, since when, how often."""

    stream: str
    id: str
    state: str
    fields: tuple[tuple[str, str], ...]
    commands: tuple[Command, ...]


def entry_view(found: Found, cli: str) -> EntryView:
    """`cli` is what reaches the server: redis-cli with its options."""
    stream = shlex.quote(found.stream)
    return EntryView(
        stream=found.stream,
        id=found.id,
        state=_state(found),
        fields=tuple((clip(name, 60), clip(value, 300)) for name, value in found.fields[:FIELDS_SHOWN]),
        commands=(
            Command("the entry", f"{cli} XRANGE {stream} {found.id} {found.id}"),
            Command(
                "who has it, idle for how many ms, delivered how often",
                f"{cli} XPENDING {stream} {GROUP} {found.id} {found.id} 1",
            ),
        ),
    )


def entry_note(rows: StoryRows, found: int, cli: str) -> str:
    """Why there is none, or not each; empty where all are there."""
    wanted = wanted_entries(rows)
    if not wanted:
        return "None: what is finished is deleted from its stream; what waits for long, or is sent at once, is on none."
    if found >= len(wanted):
        return ""
    first, last = (int((wanted[-1].published_at + by).timestamp() * 1000) for by in (-BEFORE, AFTER))
    line = f"{cli} XRANGE {shlex.quote(wanted[-1].stream)} {first} {last}"
    return f"Not every entry was found among those added when it was published; this looks at all of them: {line}"


def _state(found: Found) -> str:
    if found.consumer is None:
        return "Nobody has read it yet."
    often = plural(found.deliveries, "delivery", "deliveries")
    return f"In the hand of {clip(found.consumer, 80)}, idle for {duration(found.idle_s)}, {often} without an answer."
