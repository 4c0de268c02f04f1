"""`--deep`: what PostgreSQL owes against what the streams carry, as further lines. Thin: app/consistency compares and judges."""

import asyncpg
from redis.exceptions import RedisError

from app.consistency import check, judge
from app.doctor.facts import Away, Facts
from app.doctor.finding import Finding, not_judged, warn
from app.resources import open_redis
from app.settings import Settings

WHAT = "check"
LIMIT_S = 20.0


async def deep(settings: Settings, facts: Facts) -> list[Finding]:
    """Takes up to LIMIT_S. Where a server is away or refuses, one line says so."""
    away = [name for name, of in (("PostgreSQL", facts.postgres), ("Redis", facts.redis)) if isinstance(of, Away)]
    if away:
        return [not_judged(WHAT, " and ".join(away))]
    try:
        async with open_redis(settings) as redis:
            return judge(settings, await check(settings, redis, LIMIT_S))
    except (asyncpg.PostgresError, asyncpg.InterfaceError, RedisError, OSError, TimeoutError) as error:
        says = (str(error) or type(error).__name__).splitlines()[0]
        return [warn(WHAT, f"cannot be judged: {says}")]
