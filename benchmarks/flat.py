"""Does an event cost the same whatever waits or was? A thousand and a million events waiting, retries waiting, many users."""

import asyncio
import time

from app.domain import Channel
from app.streams import EVENTS, GROUP, WORK_STREAMS, channel_stream
from benchmarks.measure import CHANNELS, drain, pids_of, rate, until
from benchmarks.results import Rate
from benchmarks.servers import Place, Servers, fresh_place
from benchmarks.tidings import Tidings, published
from benchmarks.usage import Pids, cpu_s

WATCH_S = 5

DONE = "select count(*), count(*) filter (where status = 'SENT') from notification"

# Half of them wait on their stream, half are parked. They are due after the measurement.
RETRIES = """
with made as (
  insert into event (event_id, type, user_id, payload, occurred_at, body_hash, status)
  select 'old-' || n, 'ORDER_PLACED', 'user_' || n, '{}', now(), '\\x00', 'ROUTED' from generate_series(1, $1 / 2) n
  returning id, user_id
)
insert into notification (event_pk, channel, user_id, attempt, tries, due_at, published_at)
select id, channel, user_id, 1, 1, now() + case channel when 'EMAIL' then interval '55 s' else interval '1 h' end,
  case channel when 'EMAIL' then now() end
from made cross join unnest(array['EMAIL', 'SMS']) as channel
returning id, channel, published_at
"""

# KEYS[1] stream; ARGV[1] group, ARGV[2] published_at, ARGV[3] idle time in ms, ARGV[4+] notification ids: read, and put back.
WAIT = """
for i = 4, #ARGV do
  redis.call('XADD', KEYS[1], '*', 'notification', ARGV[i], 'event_id', 'old', 'user_id', 'user', 'event_type', 'ORDER_PLACED',
    'published_at', ARGV[2])
end
local read = redis.call('XREADGROUP', 'GROUP', ARGV[1], 'gone', 'COUNT', #ARGV, 'STREAMS', KEYS[1], '>')
for _, entry in ipairs(read[1][2]) do
  redis.call('XCLAIM', KEYS[1], ARGV[1], 'gone', 0, entry[1], 'IDLE', ARGV[3], 'RETRYCOUNT', 0, 'JUSTID')
end
"""
WAIT_MAX = 500

PREFERENCES = "insert into preference (user_id) select 'user_' || n from generate_series(0, $1 - 1) n"


async def thousand_waiting(servers: Servers, stored: int, watch_s: float = WATCH_S, waiting: int = 1000) -> Rate:
    """The same while about a thousand events wait: the stream is topped up from `stored` events."""
    tidings = Tidings(users=1_000_000)
    async with fresh_place(servers, tidings.template) as place:
        await tidings.store(place, stored)
        at, given = await published(place), 0

        async def top_up() -> None:
            nonlocal given
            while given < stored:
                if await place.redis.xlen(EVENTS) < waiting // 2:
                    await tidings.publish(place, range(given + 1, min(given + waiting // 2, stored) + 1), at)
                    given += waiting // 2
                await asyncio.sleep(0.002)

        feeding = asyncio.create_task(top_up())
        try:
            with tidings.workers(place, 1) as working:
                return await _watch(place, pids_of(servers, working), watch_s)
        finally:
            feeding.cancel()


async def million_waiting(
    servers: Servers, events: int, watch_s: float = WATCH_S, stored: int | None = None
) -> tuple[Rate, float]:
    """Events/s, CPU and the consumer's memory while so many wait; and bytes in Redis for each of them.

    `stored` of them have rows, all unless told: more than it gets to meanwhile.
    """
    tidings = Tidings(users=1_000_000)
    async with fresh_place(servers, tidings.template) as place:
        await tidings.store(place, stored or events)
        empty = (await place.redis.info("memory"))["used_memory"]
        await tidings.publish(place, range(1, events + 1), await published(place))
        entry_bytes = ((await place.redis.info("memory"))["used_memory"] - empty) / events
        await _settle(place)
        with tidings.workers(place, 1) as working:
            return await _watch(place, pids_of(servers, working), watch_s), entry_bytes


async def _settle(place: Place) -> None:
    """What the making left to be done in the background is done now, so that it is not taken for a cost of what follows."""
    await place.database.execute("vacuum analyze event")
    await place.database.execute("checkpoint")

    async def rewritten() -> bool:
        persistence = await place.redis.info("persistence")
        return not (persistence["aof_rewrite_in_progress"] or persistence["aof_rewrite_scheduled"])

    await until(rewritten, "Valkey rewrites its file")


async def _watch(place: Place, pids: Pids, watch_s: float) -> Rate:
    """An event counts half when it is routed and half when its third row is SENT: routing may run ahead."""

    async def done() -> float:
        routed, sent = await place.database.fetchrow(DONE) or (0, 0)
        return float(routed + sent) / CHANNELS / 2

    await until(done, "nothing is done")
    already, before, began = await done(), cpu_s(pids), time.time()
    await asyncio.sleep(watch_s)
    took_s, spent, events = time.time() - began, rate(1, 1, before, pids), await done() - already
    return Rate(events / took_s, {name: us / events for name, us in spent.cpu_us.items()}, spent.peak_mb)


async def retries_waiting(servers: Servers, events: int, retries: int) -> Rate:
    """A drain while so many notifications wait for their next try, half on a stream and half parked."""

    async def prepare(place: Place) -> None:
        rows = await place.database.fetch(RETRIES, retries)
        for stream in WORK_STREAMS:
            await place.redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
        on_stream = [row for row in rows if row["channel"] == Channel.EMAIL]
        for start in range(0, len(on_stream), WAIT_MAX):
            part = on_stream[start : start + WAIT_MAX]
            ids, at = [str(row["id"]) for row in part], part[0]["published_at"].isoformat()
            await place.redis.eval(WAIT, 1, channel_stream(Channel.EMAIL), GROUP, at, "5000", *ids)

    return await drain(servers, Tidings(waiting=retries // 2), events, prepare=prepare)


async def many_users(servers: Servers, events: int, number: int) -> Rate:
    """A drain of events for so many users, each with a stored preference."""

    async def prepare(place: Place) -> None:
        await place.database.execute(PREFERENCES, number)
        await place.database.execute("analyze preference")

    return await drain(servers, Tidings(users=number), events, prepare=prepare)
