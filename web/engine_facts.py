"""What PostgreSQL and Redis say of themselves, in words. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.doctor.facts import Away, Clock, Facts
from web.engine_queries import PostgresEngine, RedisEngine, TableSize
from web.parts import moment
from web.words import duration, number, percent

LONG_TRANSACTION_S = 60  # it keeps dead rows from being vacuumed


@dataclass(frozen=True, slots=True)
class Fact:
    """`command` gives the same in a terminal; `tone` is a colour where it deserves one."""

    label: str
    value: str
    command: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class TableLine:
    name: str
    rows: str
    size: str
    indexes: str
    dead: str
    hot: str
    vacuumed: str


def redis_facts(redis: RedisEngine, cli: str) -> tuple[Fact, ...]:
    info = redis.info
    name = "Valkey" if "valkey_version" in info else "Redis"
    limit, used, evicted = (_int(info, told) for told in ("maxmemory", "used_memory", "evicted_keys"))
    of = f" of {size(limit)} ({percent(used, limit)})" if limit else ", no limit"
    clients = redis.settings.get("maxclients") or info.get("maxclients")
    return (
        Fact("Version", f"{name} {info.get('valkey_version') or info.get('redis_version', 'unknown')}", f"{cli} INFO server"),
        Fact("Up for", duration(_int(info, "uptime_in_seconds"))),
        Fact("Role", _role(info), f"{cli} INFO replication"),
        Fact("Persistence", _persistence(redis), f"{cli} INFO persistence"),
        Fact("Memory", f"{size(used)}{of}, peak {size(_int(info, 'used_memory_peak'))}", f"{cli} INFO memory"),
        Fact("Eviction", str(info.get("maxmemory_policy", "not told")), f"{cli} CONFIG GET maxmemory-policy"),
        Fact("Evicted keys", number(evicted), f"{cli} INFO stats", "bad" if evicted else ""),
        Fact("Clients", _of(_int(info, "connected_clients"), clients)),
        Fact("Commands per second", number(_int(info, "instantaneous_ops_per_sec"))),
    )


def postgres_facts(postgres: PostgresEngine) -> tuple[Fact, ...]:
    told, oldest_s = postgres.settings, postgres.oldest_transaction_s
    risky = [name for name in ("fsync", "full_page_writes", "synchronous_commit") if told.get(name, "on") == "off"]
    durable = ", ".join(f"{name} {told[name]}" for name in ("fsync", "synchronous_commit", "full_page_writes") if name in told)
    return (
        Fact("Version", postgres.version, "select version()"),
        Fact("Up for", duration((postgres.now - postgres.started).total_seconds())),
        Fact("Database", f"{postgres.database}, as {postgres.role}, {size(postgres.size)}"),
        Fact("Durability", durable, "show synchronous_commit", "bad" if risky else ""),
        Fact("Connections", _of(postgres.connections, told.get("max_connections"))),
        Fact("Oldest transaction", duration(oldest_s), tone="warn" if oldest_s > LONG_TRANSACTION_S else ""),
        Fact("Shared buffers", told.get("shared_buffers", "unknown"), "show shared_buffers"),
        Fact("Autovacuum", told.get("autovacuum", "unknown"), tone="bad" if told.get("autovacuum") == "off" else ""),
    )


def clock_facts(facts: Facts) -> tuple[Fact, ...]:
    """Both servers' clocks against this host's."""
    asked = (("PostgreSQL", facts.postgres), ("Redis", facts.redis))
    return tuple(Fact(name, "no answer" if isinstance(one, Away) else _clock(one.clock)) for name, one in asked)


def size(number_of_bytes: float) -> str:
    """In units of 1024: "1.6 MB"."""
    amount = float(number_of_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TB"


def _clock(clock: Clock) -> str:
    if abs(clock.ahead_s) <= clock.within_s:
        return f"the same as this host's, give or take {duration(clock.within_s)}"
    way = "ahead of" if clock.ahead_s > 0 else "behind"
    return f"{duration(abs(clock.ahead_s))} {way} this host's, give or take {duration(clock.within_s)}"


def table_line(table: TableSize, now: datetime) -> TableLine:
    return TableLine(
        name=table.name,
        rows="unknown" if table.rows < 0 else f"about {number(table.rows)}",
        size=size(table.size),
        indexes=size(table.index_size),
        dead=number(table.dead),
        hot=percent(table.hot, table.updates) if table.updates else "–",
        vacuumed=moment(table.vacuumed, now).ago if table.vacuumed else "never",
    )


def _role(info: Mapping[str, Any]) -> str:
    replicas = _int(info, "connected_slaves")
    return "replica" if info.get("role") == "slave" else f"primary, {number(replicas)} replicas" if replicas else "alone"


def _persistence(redis: RedisEngine) -> str:
    info, told = redis.info, redis.settings
    log = f"append-only file, fsync {told.get('appendfsync', 'not told')}" if info.get("aof_enabled") else ""
    snapshots = f"snapshots ({told['save']})" if told.get("save") else ""
    failed = "err" in (info.get("aof_last_write_status"), info.get("rdb_last_bgsave_status"))
    return (", ".join(part for part in (log, snapshots) if part) or "none told") + ("; the last write failed" if failed else "")


def _int(info: Mapping[str, Any], name: str) -> int:
    value = info.get(name, 0)
    return int(value) if _is_number(value) else 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and value.isascii() and value.isdigit())


def _of(n: int, most: object) -> str:
    return f"{number(n)} of {number(int(most))}" if isinstance(most, int | str) and _is_number(most) else number(n)
