"""What the dashboard counts, and what `tidings doctor --deep` compares, against what SQL and redis-cli say."""

from app.consistency import check, judge
from app.doctor.finding import Level
from app.resources import open_engine, open_redis
from app.stream_stats import stream_stats
from tests.faults.facts import Facts
from tests.faults.system import System
from web.counts import counts

LIMIT_S = 10


async def disagreements(system: System, facts: Facts) -> list[str]:
    """In words; nothing where all agree."""
    redis = open_redis(system.settings)
    async with open_engine(system.settings, "test") as engine:
        counted, stats = await counts(engine), {s.stream: s for s in await stream_stats(redis)}
    compared = await check(system.settings, redis, LIMIT_S)
    await redis.aclose()
    shown = {status.value: count.n for status, count in counted.notifications.items() if count.n}
    wrong = [] if shown == facts.by_status else [f"the dashboard counts {shown}, SQL {dict(facts.by_status)}"]
    for stream in facts.streams:
        s = stats[stream.stream]
        if (s.length, s.lag, s.pending) != (stream.length, stream.lag, stream.pending):
            wrong.append(f"the dashboard says {s}, redis-cli {stream}")
    return wrong + [f"doctor --deep: {f}" for f in judge(system.settings, compared) if f.level is Level.FAIL]
