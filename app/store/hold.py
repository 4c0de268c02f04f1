"""Channels that an operator has paused: in PostgreSQL, so that neither FLUSHALL nor a restart resumes them.

Consumers read it once a second (consumers/held.py) and leave the stream of a held channel alone.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.domain import Channel
from app.store.batch import clean

if TYPE_CHECKING:
    from app.store.batch import Connection, Pool

HOLD = "insert into channel_pause (channel, by, reason) values ($1, $2, $3) on conflict do nothing returning channel"
RELEASE = "delete from channel_pause where channel = $1 returning channel"
HELD = """
select channel, by, reason, extract(epoch from clock_timestamp() - since)::float8 as since_s from channel_pause order by since
"""


@dataclass(frozen=True, slots=True)
class Hold:
    """Who has paused a channel, why, and for how long now."""

    by: str
    reason: str
    since_s: float

    @property
    def words(self) -> str:
        """One line: "ann: the provider is being moved"."""
        return " ".join(f"{self.by}: {self.reason}".split()) if self.reason else self.by


async def hold(connection: "Pool | Connection", channel: Channel, by: str, reason: str) -> bool:
    """Pause the channel. False: it was paused already, and stays as it was."""
    return await connection.fetchval(HOLD, channel, clean(by), clean(reason)) is not None


async def release(connection: "Pool | Connection", channel: Channel) -> bool:
    """Resume the channel. False: nobody had paused it."""
    return await connection.fetchval(RELEASE, channel) is not None


async def read_holds(connection: "Pool | Connection") -> dict[Channel, Hold]:
    """The channels that are paused by hand, the longest first. A channel that this version does not know is left out."""
    known = set(Channel)
    rows = await connection.fetch(HELD)
    return {Channel(r["channel"]): Hold(r["by"], r["reason"], max(0.0, r["since_s"])) for r in rows if r["channel"] in known}
