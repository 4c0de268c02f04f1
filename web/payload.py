"""A payload for people to read. Pure."""

import json
import re
from typing import Any

SHOWN = 20_000  # characters; 256 KiB of brackets would become 16 MB of indentation
# Not seen, or turning the text around it: a payload must not look like another one.
INVISIBLE = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def pretty(payload: Any) -> tuple[str, bool]:
    """JSON on indented lines, and whether it was cut after SHOWN characters. INVISIBLE ones are escaped."""
    parts, length = [], 0
    for part in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(payload):
        parts.append(INVISIBLE.sub(lambda match: f"\\u{ord(match[0]):04x}", part))
        length += len(part)
        if length > SHOWN:
            return "".join(parts)[:SHOWN], True
    return "".join(parts), False
