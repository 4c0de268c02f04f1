"""The statements of accept: store events, and tell a repeated one from a reused id."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import asyncpg

from app.domain import Event
from app.store.batch import all_or_each

if TYPE_CHECKING:
    from app.store.batch import Pool


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event as it is stored: `payload_json` is its payload as JSON text, `body_hash` the hash of its canonical form."""

    event: Event
    payload_json: str
    body_hash: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of one event. `row_id` and `published_at` are set where it was added; `published_at` None: parked until sendAt.

    Where it was not added, `body_hash` is that of the event which already has the id; None: PostgreSQL refused the event.
    """

    row_id: int | None
    published_at: datetime | None
    body_hash: bytes | None


# `due_at` in the future means parked (published_at null): the relay publishes it when due.
INSERT = """
insert into event
  (source, event_id, type, user_id, payload, occurred_at, body_hash, channels, send_at, due_at, published_at, expires_at)
select source, event_id, type, user_id, payload::json, occurred_at, body_hash, string_to_array(channels, ','), send_at,
       coalesce(send_at, now()), case when send_at > now() then null else now() end, expires_at
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::bytea[], $8::text[],
            $9::timestamptz[], $10::timestamptz[])
  as u(source, event_id, type, user_id, payload, occurred_at, body_hash, channels, send_at, expires_at)
order by source, event_id
on conflict (source, event_id) do nothing
returning id, source, event_id, published_at
"""

# A statement of its own: the rows that INSERT ran into were committed after its snapshot was taken.
SAME_IDS = """
select e.source, e.event_id, e.body_hash from event e
join unnest($1::text[], $2::text[]) as u(source, event_id) using (source, event_id)
"""


async def insert_events(pool: "Pool", events: Sequence[NewEvent]) -> list[Stored]:
    """Store a batch, committed on return; one answer per event, in order. Ids within the batch must differ.

    Raises batch.AWAY errors where PostgreSQL is away; then events may or may not have been stored.
    """

    async def run(part: Sequence[NewEvent]) -> list[Stored]:
        return await _insert(pool, part)

    return await all_or_each(events, run, _refused)


async def _insert(pool: "Pool", events: Sequence[NewEvent]) -> list[Stored]:
    added = {(r["source"], r["event_id"]): r for r in await pool.fetch(INSERT, *_columns(events))}
    keys = [(new.event.source, new.event.event_id) for new in events]
    missing = [key for key in keys if key not in added]
    known = await _body_hashes(pool, missing) if missing else {}
    return [
        Stored(added[key]["id"], added[key]["published_at"], None) if key in added else Stored(None, None, known.get(key))
        for key in keys
    ]


def _columns(events: Sequence[NewEvent]) -> list[list[object]]:
    rows = [
        (
            new.event.source,
            new.event.event_id,
            new.event.type,
            new.event.user_id,
            new.payload_json,
            new.event.occurred_at,
            new.body_hash,
            None if new.event.channels is None else ",".join(new.event.channels),
            new.event.send_at,
            new.event.expires_at,
        )
        for new in events
    ]
    return [list(column) for column in zip(*rows, strict=True)]


async def _body_hashes(pool: "Pool", keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
    rows = await pool.fetch(SAME_IDS, [source for source, _ in keys], [event_id for _, event_id in keys])
    return {(r["source"], r["event_id"]): r["body_hash"] for r in rows}


def _refused(_event: NewEvent, _error: asyncpg.PostgresError) -> list[Stored]:
    return [Stored(None, None, None)]
