"""Two lanes: read 500 entries, their events, count the users' events, insert three rows each, "send", update them, acknowledge.

`python -m benchmarks.bare.worker REDIS DATABASE`; one such process, which makes the group.
"""

import asyncio
import gc
import sys

import asyncpg
import uvloop

from benchmarks.bare import GROUP, STREAM
from benchmarks.wire import Command, Wire

LANES = 2
BATCH = 500
PER_MINUTE = 1_000_000
READ = """
select e.id, e.user_id, e.event_id, e.type, e.payload::text, p.user_id is not null as has_preference,
  p.email_opt_in, p.sms_opt_in, p.push_opt_in
from event e left join preference p using (user_id) where e.id = any($1::bigint[])
"""
CHANNELS = {"email_opt_in": "EMAIL", "sms_opt_in": "SMS", "push_opt_in": "PUSH"}
COUNT = """
local counts = {}
for i, key in ipairs(KEYS) do
  counts[i] = redis.call('INCR', key)
  if counts[i] == 1 then redis.call('EXPIRE', key, 60) end
end
return counts
"""
INSERT = """
insert into notification (event_pk, channel, user_id) select * from unnest($1::bigint[], $2::text[], $3::text[])
on conflict do nothing returning id, event_pk, channel
"""
SENT = "update notification set status = 'SENT', updated_at = now() where id = any($1::bigint[])"


async def lane(redis_url: str, database_url: str, name: str) -> None:
    database = await asyncpg.connect(database_url, server_settings={"plan_cache_mode": "force_custom_plan"})
    read: Command = ("XREADGROUP", "GROUP", GROUP, name, "COUNT", BATCH, "BLOCK", 500, "STREAMS", STREAM, ">")
    acknowledge: list[Command] = []
    async with Wire(redis_url) as wire:
        while True:
            *_, found = await wire.ask([*acknowledge, read])
            entries = found[0][1] if found else []
            if entries:
                await deliver(database, wire, [int(fields[1]) for _, fields in entries])
            ids = [entry_id for entry_id, _ in entries]
            acknowledge = [("XACK", STREAM, GROUP, *ids), ("XDEL", STREAM, *ids)] if ids else []


async def deliver(database: "asyncpg.Connection[asyncpg.Record]", wire: Wire, ids: list[int]) -> None:
    events = {r["id"]: r for r in await database.fetch(READ, ids)}
    counts = (await wire.ask([("EVAL", COUNT, len(events), *(f"bare:rate:{r['user_id']}" for r in events.values()))]))[0]
    rows = [
        (event_id, channel, event["user_id"])
        for (event_id, event), count in zip(events.items(), counts, strict=True)
        for opt_in, channel in CHANNELS.items()
        if count <= PER_MINUTE and (event[opt_in] if event["has_preference"] else True)
    ]
    added = await database.fetch(INSERT, *map(list, zip(*rows, strict=True)))
    for row in added:
        send(row["channel"], events[row["event_pk"]])
    await database.execute(SENT, [row["id"] for row in added])


def send(_channel: str, _event: "asyncpg.Record") -> None:
    """It is sent at once."""


async def run(redis_url: str, database_url: str) -> None:
    async with Wire(redis_url) as wire:
        await wire.ask([("XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM")])
    async with asyncio.TaskGroup() as lanes:
        for number in range(LANES):
            lanes.create_task(lane(redis_url, database_url, f"lane-{number}"))


if __name__ == "__main__":
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    uvloop.run(run(sys.argv[1], sys.argv[2]))
