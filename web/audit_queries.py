"""Reads the log of actions, newest first: one page at a time, on an index for each filter."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col

from app.models import Audit
from web.queries import PAGE_ROWS, reading


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What the log shows; `before` is the id that the page before it ended with."""

    who: str | None = None
    action: str | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class AuditRows:
    """One page; `next_before` None: the last one."""

    now: datetime
    rows: list[Audit]
    next_before: int | None = None


async def audit_log(engine: AsyncEngine, wanted: AuditFilter, most: int = PAGE_ROWS) -> AuditRows:
    """One page of the log; the next one has `before = next_before`."""
    query = select(Audit).order_by(col(Audit.id).desc()).limit(most + 1)
    if wanted.who is not None:
        query = query.where(col(Audit.who) == wanted.who)
    if wanted.action is not None:
        query = query.where(col(Audit.action) == wanted.action)
    if wanted.before is not None:
        query = query.where(col(Audit.id) < wanted.before)
    async with reading(engine) as (session, now):
        rows = list(await session.scalars(query))
        return AuditRows(now, rows[:most], rows[most - 1].id if len(rows) > most else None)
