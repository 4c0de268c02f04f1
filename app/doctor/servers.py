"""Judges PostgreSQL, Redis and the three clocks. Pure."""

from collections.abc import Iterator

from app.doctor.facts import Away, Cause, Clock, PostgresFacts, RedisFacts
from app.doctor.finding import Finding, fail, not_judged, ok, warn

POSTGRES_MIN = 15
VALKEY_MIN = (8,)
REDIS_MIN = (7, 2)
CLOCKS_WITHIN_S = 1.0
MEMORY_NEAR = 0.8
MEMORY_FULL = 0.95

DATABASE_EXAMPLE = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
REDIS_EXAMPLE = "redis://:PASSWORD@HOST:6379"
# A session of a read-only default cannot undo it without this.
PSQL = 'PGOPTIONS="-c default_transaction_read_only=off" psql {url} -c'
UNDO_READ_ONLY = {
    "database": 'alter database "{database}" reset default_transaction_read_only',
    "user": 'alter role "{role}" reset default_transaction_read_only',
    "database user": 'alter role "{role}" in database "{database}" reset default_transaction_read_only',
}


def postgres(facts: PostgresFacts | Away, named: bool) -> Iterator[Finding]:
    """`named`: was DATABASE_URL set? Where not, `tidings dev` would start a server."""
    if isinstance(facts, Away):
        yield fail("PostgreSQL", f"(setting DATABASE_URL) {facts.says}", _postgres_mend(facts.cause, named))
        yield not_judged("PostgreSQL writes", "PostgreSQL")
        return
    yield _postgres_version(facts.version)
    yield _writes(facts)


def _postgres_mend(cause: Cause, named: bool) -> str:
    if cause is Cause.NO_DATABASE:
        return "tidings schema apply"
    if cause is Cause.REFUSED and not named:
        return "tidings dev (starts one), or export DATABASE_URL=" + DATABASE_EXAMPLE
    return "export DATABASE_URL=" + DATABASE_EXAMPLE


def _postgres_version(version: int) -> Finding:
    said = f"version {version // 10_000}.{version % 10_000}"
    if version // 10_000 < POSTGRES_MIN:
        says = f"{said} is too old: {POSTGRES_MIN} or later is needed"
        return fail("PostgreSQL", says, f"export DATABASE_URL={DATABASE_EXAMPLE} (a newer server)")
    return ok("PostgreSQL", f"answers, {said}")


def _writes(facts: PostgresFacts) -> Finding:
    what = "PostgreSQL writes"
    if facts.standby:
        return fail(what, "it is a standby: it only reads", f"export DATABASE_URL={DATABASE_EXAMPLE} (the primary)")
    if facts.read_only_by is not None:
        undo = UNDO_READ_ONLY.get(facts.read_only_by, "alter system reset default_transaction_read_only")
        undo = undo.format(database=facts.database, role=facts.role)
        reload = "" if facts.read_only_by in UNDO_READ_ONLY else " -c 'select pg_reload_conf()'"
        return fail(what, f"database {facts.database} is read-only for us", f"{PSQL.format(url=facts.url)} '{undo}'{reload}")
    if facts.denied:
        grant = f'grant select, insert, update, delete on {", ".join(facts.denied)} to "{facts.role}"'
        says = f"role {facts.role} may not change {', '.join(facts.denied)}"
        return fail(what, says, f"psql -U postgres -d '{facts.database}' -c '{grant}'")
    return ok(what, f"database {facts.database} takes them")


def redis(facts: RedisFacts | Away, named: bool) -> Iterator[Finding]:
    """`named`: was REDIS_URL set?"""
    if isinstance(facts, Away):
        start = "tidings dev (starts one), or " if facts.cause is Cause.REFUSED and not named else ""
        yield fail("Redis", f"(setting REDIS_URL) {facts.says}", f"{start}export REDIS_URL={REDIS_EXAMPLE}")
        yield not_judged("eviction", "Redis")
        yield not_judged("persistence", "Redis")
        yield not_judged("memory", "Redis")
        return
    yield _redis_version(facts)
    yield _eviction(facts.eviction)
    yield _persistence(facts)
    yield _memory(facts.memory, facts.memory_max)


def _redis_version(facts: RedisFacts) -> Finding:
    said = f"{facts.name} {'.'.join(map(str, facts.version))}"
    if facts.version < (VALKEY_MIN if facts.name == "Valkey" else REDIS_MIN):
        mend = f"export REDIS_URL={REDIS_EXAMPLE} (a newer server)"
        return fail("Redis", f"{said} is too old: Valkey 8 or Redis 7.2 or later is needed", mend)
    if facts.replica:
        return fail("Redis", f"{said} is a replica: it only reads", f"export REDIS_URL={REDIS_EXAMPLE} (the primary)")
    return ok("Redis", f"answers, {said}")


def _eviction(policy: str) -> Finding:
    if policy == "noeviction":
        return ok("eviction", "off (noeviction)")
    says = f"maxmemory-policy is {policy}: under memory pressure Redis drops streams silently"
    return fail("eviction", says, "tidings redis CONFIG SET maxmemory-policy noeviction")


def _persistence(facts: RedisFacts) -> Finding:
    switch_on = "tidings redis CONFIG SET appendonly yes"
    if not facts.last_write_ok:
        return fail("persistence", "Redis could not write its data to disk and refuses writes", "df -h (make room on its disk)")
    if facts.append_only:
        return ok("persistence", "append-only file")
    if facts.save:
        return ok("persistence", f"snapshots ({facts.save}); an append-only file would lose less")
    if facts.save is None:
        return warn("persistence", "no append-only file, and Redis does not tell whether it saves snapshots", switch_on)
    return warn("persistence", "off: after a restart the relay has to publish everything owed again", switch_on)


def _memory(used: int, limit: int) -> Finding:
    if not limit:
        return ok("memory", f"{_megabytes(used)} used, no limit")
    says = f"{_megabytes(used)} of {_megabytes(limit)} used"
    if used < MEMORY_NEAR * limit:
        return ok("memory", says)
    mend = f"tidings redis CONFIG SET maxmemory {2 * limit}"
    if used < MEMORY_FULL * limit:
        return warn("memory", f"{says}: near the limit, where Redis refuses writes", mend)
    return fail("memory", f"{says}: at the limit Redis refuses writes", mend)


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.1f} MB"


def clocks(postgres: PostgresFacts | Away, redis: RedisFacts | Away) -> Finding:
    """Host, Redis and PostgreSQL, each against each."""
    known = {"this host": Clock(0, 0)}
    if not isinstance(postgres, Away):
        known["PostgreSQL"] = postgres.clock
    if not isinstance(redis, Away):
        known["Redis"] = redis.clock
    if len(known) == 1:
        return warn("clocks", "cannot be judged: neither server gave an answer")
    apart = list(_apart(known))
    if apart:
        return fail("clocks", "; ".join(apart), "sudo timedatectl set-ntp true (where the clock is wrong)")
    if len(known) == 2:
        missing = "Redis" if "PostgreSQL" in known else "PostgreSQL"
        return warn("clocks", f"{' and '.join(known)} agree; {missing} gave no answer")
    return ok("clocks", "this host, PostgreSQL and Redis agree within a second")


def _apart(known: dict[str, Clock]) -> Iterator[str]:
    """A sentence for each two that surely differ by more than they may."""
    names = list(known)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            ahead_s = known[second].ahead_s - known[first].ahead_s
            if abs(ahead_s) - known[first].within_s - known[second].within_s > CLOCKS_WITHIN_S:
                yield f"{second} is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} {first}"
