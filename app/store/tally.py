"""The statements of the tally: counts are added to those of the same 10 s and of the same 2 min, and old ones are deleted."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.store.batch import Pool
    from app.tally import Key

# Width of a bucket in seconds -> how long it is kept, in hours: fine ones for the charts of an hour, coarse ones for a day's.
WIDTHS: dict[int, int] = {10: 6, 120: 7 * 24}

# Sorted, so that two processes wait for each other and never in a circle.
ADD = """
insert into tally (width_s, started_at, channel, kind, bin, n)
select width_s, date_bin(make_interval(secs => width_s), now(), 'epoch'), channel, kind, bin, n
from unnest($1::text[], $2::text[], $3::int[], $4::bigint[]) as u(channel, kind, bin, n), unnest($5::int[]) as width_s
order by width_s, channel, kind, bin
on conflict (width_s, started_at, channel, kind, bin) do update set n = tally.n + excluded.n
"""

PURGE = """
delete from tally using unnest($1::int[], $2::int[]) as kept(width_s, hours)
where tally.width_s = kept.width_s and started_at < now() - make_interval(hours => kept.hours)
"""


async def add_tally(pool: "Pool", counts: Mapping["Key", int]) -> None:
    """Add to what all processes counted, in the buckets of now by PostgreSQL's clock."""
    rows = [(*key, n) for key, n in counts.items()]
    await pool.execute(ADD, *map(list, zip(*rows, strict=True)), list(WIDTHS))


async def purge_tally(pool: "Pool") -> None:
    """Delete what is older than its width is kept."""
    await pool.execute(PURGE, list(WIDTHS), list(WIDTHS.values()))
