"""Which channels an operator has paused, for the pages that say so."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col

from app.domain import Channel
from app.models import ChannelPause
from app.store.hold import Hold
from web.queries import reading


async def holds(engine: AsyncEngine) -> dict[Channel, Hold]:
    """The longest first."""
    async with reading(engine) as (session, now):
        rows = await session.scalars(select(ChannelPause).order_by(col(ChannelPause.since)))
        known = {channel.value: channel for channel in Channel}
        return {
            known[row.channel]: Hold(row.by, row.reason, max(0.0, (now - row.since).total_seconds()))
            for row in rows
            if row.channel in known
        }
