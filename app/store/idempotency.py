"""The statements of idempotency keys: a key and the answer it stands for belong to the transaction of what was answered.

So a second request with the same key waits on the primary key until the first has ended, and a crash leaves no key behind.
"""

from typing import TYPE_CHECKING, NamedTuple

import asyncpg

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    from app.store.batch import Pool

    Connection = PoolConnectionProxy[asyncpg.Record]

KEPT_S = 24 * 3600.0


class Key(NamedTuple):
    """`scope` is method and path; `body_hash` the hash of the request's canonical body."""

    scope: str
    key: str
    body_hash: bytes


class Kept(NamedTuple):
    """The first answer to a key, and the hash of the body that it answered. `response` is its body as JSON text."""

    body_hash: bytes
    status: int
    response: str


# A key that is too old counts as not there. One that counts is locked, not changed: it cannot be purged before it was read.
TAKE = """
insert into idempotency_key as kept (scope, key, body_hash) values ($1, $2, $3)
on conflict (scope, key) do update set body_hash = excluded.body_hash, status = null, response = null, created_at = now()
  where kept.created_at < now() - make_interval(secs => $4)
returning true
"""
READ = "select body_hash, status, response from idempotency_key where scope = $1 and key = $2"
KEEP = "update idempotency_key set status = $3, response = $4 where scope = $1 and key = $2"

PURGE = """
delete from idempotency_key k using (
  select scope, key from idempotency_key where created_at < now() - make_interval(secs => $1)
  order by created_at limit $2 for update skip locked
) old
where k.scope = old.scope and k.key = old.key
returning true
"""


async def take_key(connection: "Connection", key: Key) -> Kept | None:
    """Within a transaction: None, the key is ours now and keep_answer must follow; or the answer that was given before.

    Waits while another transaction holds the key.
    """
    if await connection.fetchval(TAKE, *key, KEPT_S):
        return None
    row = await connection.fetchrow(READ, key.scope, key.key)
    assert row is not None  # TAKE locked it
    return Kept(*row)


async def keep_answer(connection: "Connection", key: Key, status: int, response: str) -> None:
    """Within the same transaction: what every further request with this key is answered."""
    await connection.execute(KEEP, key.scope, key.key, status, response)


async def purge_idempotency_keys(pool: "Pool", older_than_s: float = KEPT_S, limit: int = 500) -> int:
    """Delete up to `limit` keys older than that, oldest first; answers how many."""
    return len(await pool.fetch(PURGE, older_than_s, limit))
