"""The statements of the preferences: one each, so that changes made at the same time are all kept."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from app.store.batch import Connection, Pool


@dataclass(frozen=True, slots=True)
class StoredPreference:
    """One row of preference."""

    email_opt_in: bool
    sms_opt_in: bool
    push_opt_in: bool
    created_at: datetime
    updated_at: datetime


GET = "select email_opt_in, sms_opt_in, push_opt_in, created_at, updated_at from preference where user_id = $1"

# null: keep what is stored; true where nothing is.
MERGE = """
insert into preference as stored (user_id, email_opt_in, sms_opt_in, push_opt_in)
values ($1, coalesce($2, true), coalesce($3, true), coalesce($4, true))
on conflict (user_id) do update set
    email_opt_in = coalesce($2, stored.email_opt_in),
    sms_opt_in = coalesce($3, stored.sms_opt_in),
    push_opt_in = coalesce($4, stored.push_opt_in),
    updated_at = now()
returning email_opt_in, sms_opt_in, push_opt_in, created_at, updated_at
"""


async def get_preference(pool: "Pool | Connection", user_id: str) -> StoredPreference | None:
    """What is stored for a user; None: nothing, everything is on."""
    return _stored(await pool.fetchrow(GET, user_id))


async def put_preference(
    pool: "Pool | Connection", user_id: str, email_opt_in: bool, sms_opt_in: bool, push_opt_in: bool
) -> StoredPreference:
    """Replace all three."""
    return await merge_preference(pool, user_id, email_opt_in, sms_opt_in, push_opt_in)


async def merge_preference(
    pool: "Pool | Connection",
    user_id: str,
    email_opt_in: bool | None = None,
    sms_opt_in: bool | None = None,
    push_opt_in: bool | None = None,
) -> StoredPreference:
    """Change those that are not None; the others stay, whatever happens to them meanwhile."""
    stored = _stored(await pool.fetchrow(MERGE, user_id, email_opt_in, sms_opt_in, push_opt_in))
    assert stored is not None  # the statement always returns its row
    return stored


def _stored(row: asyncpg.Record | None) -> StoredPreference | None:
    return None if row is None else StoredPreference(*row)
