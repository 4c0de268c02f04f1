"""The statements of direct notifications: one event that is ROUTED from the start, and its one notification."""

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import asyncpg
import orjson

from app.domain import Channel, DecisionReason, Status

if TYPE_CHECKING:
    from app.store.batch import Pool
    from app.store.idempotency import Connection

SOURCE = "tidings:direct"
TYPE = "DIRECT"


class NewDirect(NamedTuple):
    """One message on one channel. `event_id` is a fresh one, `body_hash` that of the canonical request."""

    event_id: str
    user_id: str
    channel: Channel
    address: str
    message: str
    body_hash: bytes


class DirectRow(NamedTuple):
    """A direct notification as it is now. `attempt` is the number of calls to the provider so far."""

    id: int
    user_id: str
    channel: Channel
    message: str
    status: Status
    reason: str | None
    error: str | None
    attempt: int
    created_at: datetime


INSERT = """
with made as (
  insert into event (source, event_id, type, user_id, payload, occurred_at, body_hash, channels, status, decisions)
  values ($1, $2, $3, $4, $5::json, now(), $6, array[$7::text], 'ROUTED', $8::jsonb)
  returning id, user_id
)
insert into notification (event_pk, channel, user_id, address) select id, $7, user_id, $9 from made
returning id, published_at, created_at
"""

READ = """
select n.id, n.user_id, n.channel, e.payload->>'message' as message, n.status, n.reason, n.error, n.attempt, n.created_at
from notification n join event e on e.id = n.event_pk
where n.id = $1 and e.source = $2
"""


async def insert_direct(connection: "Connection", new: NewDirect) -> tuple[DirectRow, datetime]:
    """The notification, PENDING, and its `published_at`: once this is committed the caller publishes it."""
    payload = orjson.dumps({"message": new.message}).decode()
    decisions = orjson.dumps({new.channel.value: {"use": True, "reason": DecisionReason.REQUESTED}}).decode()
    row = await connection.fetchrow(
        INSERT, SOURCE, new.event_id, TYPE, new.user_id, payload, new.body_hash, new.channel, decisions, new.address
    )
    assert row is not None  # the statement always returns its row
    made = DirectRow(row["id"], new.user_id, new.channel, new.message, Status.PENDING, None, None, 0, row["created_at"])
    return made, row["published_at"]


async def get_direct(pool: "Pool", notification_id: int) -> DirectRow | None:
    """One direct notification; None: there is none with this id."""
    return _direct_row(await pool.fetchrow(READ, notification_id, SOURCE))


def _direct_row(r: asyncpg.Record | None) -> DirectRow | None:
    if r is None:
        return None
    return DirectRow(
        r["id"], r["user_id"], Channel(r["channel"]), r["message"], Status(r["status"]), r["reason"], r["error"], r["attempt"],
        r["created_at"],
    )  # fmt: skip
