"""What a person would read: subject and text of a message, made from an event's type and payload. Pure.

The simulated providers send nothing, and templates are the business of a real one: this is what the mailbox shows instead.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from web.payload import INVISIBLE
from web.words import capital, plural

SUBJECTS = ("subject", "title")
TEXTS = ("message", "body", "text")
FACTS_SHOWN = 12
VALUE_MAX, TEXT_MAX, SHORT_MAX, SUBJECT_MAX = 200, 4_000, 320, 160  # characters
WORD_ENDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[\s_.:/-]+")


@dataclass(frozen=True, slots=True)
class Letter:
    """`text` has lines, as a mail; `push` is one below the subject; `sms` is all in one."""

    subject: str
    text: str
    push: str
    sms: str


def letter(event_type: str, payload_text: str, cut: bool = False) -> Letter:
    """`payload_text` is JSON; `cut`: only its beginning, which is then shown as it is."""
    payload = _object(payload_text)
    subject = clip(_first(payload, SUBJECTS) or phrase(event_type) or "Message", SUBJECT_MAX)
    told = _first(payload, TEXTS)
    facts = list(_facts({k: v for k, v in payload.items() if k not in (*SUBJECTS, *TEXTS)}))
    if cut:
        facts.append(payload_text)
    text = "\n\n".join(part for part in (told or f"{subject}.", "\n".join(facts)) if part)
    line = " ".join(told.split()) or capital(", ".join(_lowered(fact) for fact in facts))
    sms = line if told else f"{subject}: {', '.join(_lowered(fact) for fact in facts)}" if facts else subject
    return Letter(subject, clip(text, TEXT_MAX), clip(line, SHORT_MAX), clip(" ".join(sms.split()), SHORT_MAX))


def phrase(name: str) -> str:
    """A name as words: "ORDER_PLACED" and "orderPlaced" are "Order placed"."""
    return capital(" ".join(WORD_ENDS.sub(" ", visible(name)).split()).lower())


def clip(text: str, most: int) -> str:
    """At most so many characters, nothing invisible among them; an ellipsis where some are left out."""
    shown = visible(text)
    return shown if len(shown) <= most else f"{shown[: most - 1].rstrip()}…"


def visible(text: str) -> str:
    """Without characters that are not seen, or that turn the text around them."""
    return INVISIBLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _object(text: str) -> Mapping[str, Any]:
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return payload if isinstance(payload, dict) else {}


def _first(payload: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The first of these members that is a text with something in it."""
    return next((text.strip() for name in names if isinstance(text := payload.get(name), str) and text.strip()), "")


def _facts(payload: Mapping[str, Any]) -> Iterator[str]:
    for name, value in list(payload.items())[:FACTS_SHOWN]:
        yield f"{clip(phrase(name), 60)}: {clip(_value(value), VALUE_MAX)}"
    if len(payload) > FACTS_SHOWN:
        yield f"and {plural(len(payload) - FACTS_SHOWN, 'more fact')}"


def _value(value: Any) -> str:
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        return ", ".join(_value(item) for item in value[:FACTS_SHOWN]) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _lowered(fact: str) -> str:
    name, colon, value = fact.partition(":")
    return f"{name.lower()}{value}" if colon else fact
