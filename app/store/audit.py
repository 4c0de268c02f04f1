"""The log of what people did: who, what, to what, how many, and why. Rows are only added."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from app.store.batch import clean

if TYPE_CHECKING:
    from app.store.batch import Connection

RECORD = """
insert into audit (who, role, action, target, count, reason, detail) values ($1, $2, $3, $4, $5, $6, $7::jsonb) returning id
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One action. `count`: rows that moved, None where it does not count any; `reason` is the person's own words."""

    who: str
    role: str
    action: str
    target: str = ""
    count: int | None = None
    reason: str = ""
    detail: dict[str, Any] | None = None


async def record(connection: "Connection", entry: Entry) -> int:
    """Adds one line; its id. On the connection, and in the transaction, of the action itself."""
    detail = None if entry.detail is None else (orjson.dumps(entry.detail).decode().replace("\\u0000", "\\ufffd"))
    texts = [clean(text) for text in (entry.who, entry.role, entry.action, entry.target)]
    return int(await connection.fetchval(RECORD, *texts, entry.count, clean(entry.reason), detail))
