"""One dead letter, to look at, edit and send on its way: what may be changed, and what was typed. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.domain import Reason, Status
from app.models import Event, Notification
from app.payload import first_fault
from app.settings import Settings
from web import links, words
from web.parts import Badge, badge, limit_words

ID_MAX = 255
PAYLOAD_MAX_BYTES = 256 * 1024
PRETTY_MAX = 40_000  # characters: what is longer stays as it is, its indentation could be many times its size
TRIED = (
    "The payload is the event's, and another channel was already tried with it, or waits to be: "
    "what is sent stays what the record says. Post a new event to send something else."
)


@dataclass(frozen=True, slots=True)
class Content:
    """What can be edited. `address` None: the provider looks it up."""

    type: str
    payload: str
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Dead:
    """A dead event, or notification of an event. `tried`: another channel of it was, or waits to be."""

    event: Event
    notification: Notification | None
    payload_json: str
    tried: bool

    @property
    def is_dead(self) -> bool:
        row = self.notification or self.event
        return row.status == Status.FAILED and row.reason == Reason.DEAD_LETTER


@dataclass(frozen=True, slots=True)
class DeadEdit:
    """The page. `over`: it is no dead letter any more; `fault`: what was wrong with what was typed; `locked`: why it stays."""

    title: str
    section: str
    refresh_s: int | None
    state: Badge
    why: str
    event_id: str
    story_link: str
    user: str
    user_link: str
    content: Content
    doubtful: bool
    locked: str
    over: bool
    fault: str
    action: str
    back: str


class NotFit(Exception):
    """What was typed cannot be stored. The message is a sentence for the page."""


def dead_edit(settings: Settings, dead: Dead, typed: Content | None = None, fault: str = "") -> DeadEdit:
    """The page of one dead letter; `typed` is what was sent and found at fault."""
    n, event = dead.notification, dead.event
    row = n or event
    kind = "notification" if n else "event"
    return DeadEdit(
        title=f"Dead letter: {n.channel + ' notification' if n else kind} {row.id}",
        section="Dead letters",
        refresh_s=None,
        state=badge(row.status),
        why=words.why(row.reason, row.error, limit_words(settings)),
        event_id=event.event_id,
        story_link=links.story(event.id),
        user=event.user_id,
        user_link=links.user(event.user_id),
        content=typed or stored(dead),
        doubtful=bool(n and n.possible_duplicate),
        locked=TRIED if dead.tried else "",
        over=not dead.is_dead,
        fault=fault,
        action=links.dead_letter(kind, row.id),
        back=links.DEAD_LETTERS,
    )


def stored(dead: Dead) -> Content:
    """What is there now, the payload for people to read where that is not too long."""
    payload = dead.payload_json
    if len(payload) <= PRETTY_MAX:
        told = json.dumps(json.loads(payload), indent=2, ensure_ascii=False)
        payload = told if len(told) <= 2 * PRETTY_MAX else payload
    return Content(dead.event.type, payload, dead.notification.address if dead.notification else None)


def read_content(form: Mapping[str, str], dead: Dead) -> Content:
    """What was typed; where something cannot be edited, what is stored."""
    kept = stored(dead)
    address = form.get("address", kept.address) if kept.address is not None else None
    if dead.tried:
        return Content(kept.type, kept.payload, address)
    return Content(form.get("type", kept.type).strip(), form.get("payload", kept.payload), address)


def check(content: Content) -> dict[str, Any]:
    """The payload, by the rules of POST /api/events. Raises NotFit."""
    if not content.type or len(content.type) > ID_MAX or not content.type.isprintable():
        raise NotFit(f"The type must be 1 to {ID_MAX} characters that can be printed.")
    if content.address is not None and not (content.address.strip() and content.address.isprintable()):
        raise NotFit("The address must not be empty, and can have only characters that can be printed.")
    if len(content.payload.encode("utf-8", "replace")) > PAYLOAD_MAX_BYTES:
        raise NotFit(f"The payload is bigger than {words.number(PAYLOAD_MAX_BYTES)} bytes.")
    try:
        payload = json.loads(content.payload)
    except ValueError as error:
        raise NotFit(f"The payload is no JSON: {_where(error)}.") from None
    except RecursionError:
        raise NotFit("The payload is nested too deep.") from None
    if not isinstance(payload, dict):
        raise NotFit("The payload must be a JSON object.")
    if fault := first_fault(payload):
        raise NotFit(f"The payload is not right at {'/'.join(('#', *map(str, fault.path)))[:200]}: {fault.rule}.")
    if any(0xD800 <= ord(c) <= 0xDFFF for c in json.dumps(payload, ensure_ascii=False)):
        raise NotFit("The payload holds half of a character (a lone surrogate).")
    return payload


def _where(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg.lower()} at line {error.lineno}, column {error.colno}"
    return "a number has too many digits"
