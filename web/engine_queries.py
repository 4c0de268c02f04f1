"""What PostgreSQL and Redis say of themselves: versions, memory, durability, connections, sizes. Nothing is counted."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ResponseError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.models import Event
from web.queries import reading

CONNECTIONS_SHOWN = 30

SERVER = """
select current_setting('server_version') as version, current_database() as database, current_user as role,
  pg_postmaster_start_time() as started, pg_database_size(current_database()) as size,
  (select count(*) from pg_stat_activity where backend_type = 'client backend') as connections,
  (select max(clock_timestamp() - xact_start) from pg_stat_activity
   where datname = current_database() and pid <> pg_backend_pid()) as oldest_transaction
"""
NAMES = ("fsync", "synchronous_commit", "full_page_writes", "max_connections", "shared_buffers", "autovacuum")
PG_SETTINGS = "select name, current_setting(name) as value from pg_settings where name = any(:names)"
CONNECTIONS = """
select coalesce(nullif(application_name, ''), '(no name)') as who, count(*) as n,
  count(*) filter (where state <> 'idle') as busy
from pg_stat_activity where datname = current_database() and backend_type = 'client backend'
group by 1 order by 2 desc, 1 limit :most
"""
TABLES = """
select c.relname as name, c.reltuples::bigint as rows, pg_table_size(c.oid) as size, pg_indexes_size(c.oid) as index_size,
  coalesce(s.n_dead_tup, 0) as dead, coalesce(s.n_tup_upd, 0) as updates, coalesce(s.n_tup_hot_upd, 0) as hot,
  greatest(s.last_vacuum, s.last_autovacuum) as vacuumed
from unnest(cast(:names as text[])) as name
join pg_class c on c.oid = to_regclass(quote_ident(name)) left join pg_stat_user_tables s on s.relid = c.oid
order by pg_total_relation_size(c.oid) desc, c.relname
"""


class Connections(NamedTuple):
    who: str
    n: int
    busy: int


class TableSize(NamedTuple):
    """Sizes in bytes; `rows` as of the last analyze, -1: never. `hot`: updates that touched no index."""

    name: str
    rows: int
    size: int
    index_size: int
    dead: int
    updates: int
    hot: int
    vacuumed: datetime | None


@dataclass(frozen=True, slots=True)
class PostgresEngine:
    """`settings` by name, as PostgreSQL spells them."""

    now: datetime
    version: str
    database: str
    role: str
    started: datetime
    size: int
    connections: int
    oldest_transaction_s: float
    settings: dict[str, str]
    by_application: list[Connections]
    tables: list[TableSize]


@dataclass(frozen=True, slots=True)
class RedisEngine:
    """INFO, and the settings that CONFIG tells; without it (servers that others run) there are none."""

    info: dict[str, Any]
    settings: dict[str, str]


async def postgres_engine(engine: AsyncEngine) -> PostgresEngine:
    async with reading(engine) as (session, now):
        server = (await session.execute(text(SERVER))).one()
        settings = await session.execute(text(PG_SETTINGS), {"names": list(NAMES)})
        connections = await session.execute(text(CONNECTIONS), {"most": CONNECTIONS_SHOWN})
        tables = await session.execute(text(TABLES), {"names": [table.name for table in Event.metadata.sorted_tables]})
        oldest = server.oldest_transaction
        return PostgresEngine(
            now=now,
            version=server.version,
            database=server.database,
            role=server.role,
            started=server.started,
            size=server.size,
            connections=server.connections,
            oldest_transaction_s=max(0.0, oldest.total_seconds()) if oldest else 0.0,
            settings={row.name: row.value for row in settings},
            by_application=[Connections(*row) for row in connections],
            tables=[TableSize(*row) for row in tables],
        )


async def redis_engine(redis: Redis) -> RedisEngine:
    info: dict[str, Any] = await redis.info()
    try:
        told: dict[Any, Any] = await redis.config_get("appendfsync", "save", "maxclients")
    except ResponseError:
        told = {}
    return RedisEngine(info, {_str(name): _str(value) for name, value in told.items()})


def _str(raw: Any) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
