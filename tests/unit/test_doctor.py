"""What doctor makes of facts: a table for each judgement; its last column is the finding, the command that mends included."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from app.doctor import judge, parts, servers
from app.doctor import streams as judged_streams
from app.doctor.facts import Away, Cause, Clock, Facts, PortFacts, PortState, PostgresFacts, RedisFacts, StreamFacts
from app.doctor.finding import Finding, Level, fail, ok
from app.doctor.gather import for_shell
from app.doctor.ports import is_api, is_dashboard
from app.doctor.tables import tables
from app.domain import Channel
from app.settings import SettingsError, load_settings
from app.store.hold import Hold
from app.stream_stats import STREAMS, ConsumerStats, StreamStats
from tests.unit.ready_made import pause

SETTINGS = load_settings(_env_file=None)
EXACT = Clock(0, 0)
AWAY = Away(Cause.REFUSED, "connection refused")
MAIL = "tidings:{0}:email"

POSTGRES = PostgresFacts(180006, "tidings", "ann", False, None, (), (), EXACT, "URL")
REDIS = RedisFacts("Valkey", (9, 1, 2), False, "noeviction", 2**20, 0, True, "", True, EXACT)
PORT = PortFacts("API", "API_PORT", "tidings api", "http://127.0.0.1:3001", 3001, PortState.FREE, None, 3002)


def stream(name: str = MAIL, **other: Any) -> StreamStats:
    """Read up by one live consumer."""
    consumers = (ConsumerStats("host-1-ab", 0, 0.2, 0.2),)
    known: dict[str, Any] = {
        "length": 0, "lag": 0, "pending": 0, "oldest_s": None, "oldest_unread_s": None, "group": True, "consumers": consumers
    }  # fmt: skip
    return StreamStats(stream=name, **{**known, **other})


def streams(mail: StreamStats | None = None, pending_idle_s: float = 0, **types: str) -> StreamFacts:
    """All well but for the mail stream; `types` by the last part of the name."""
    stats = [mail if mail and name == MAIL else stream(name) for name in STREAMS]
    return StreamFacts({s: types.get(s.rpartition(":")[2], "stream") for s in STREAMS}, stats, {MAIL: pending_idle_s})


def faults(found: Iterable[Finding]) -> list[str]:
    return [f.line() for f in found if f.level is not Level.OK]


POSTGRES_FAULTS = {
    "too old": (
        {"version": 140011},
        r"FAIL  PostgreSQL  — version 14\.11 is too old: 15 or later .*; mend: export DATABASE_URL=.*",
    ),
    "standby": (
        {"standby": True, "read_only_by": "default"},
        r"FAIL .* standby: it only reads; mend: export DATABASE_URL=.*primary.*",
    ),
    "read-only database": (
        {"read_only_by": "database"},
        r'FAIL .* tidings is read-only .*; mend: PGOPTIONS=.* psql .*alter database "tidings" reset default_transaction_.*',
    ),
    "read-only role": ({"read_only_by": "user"}, r'FAIL .*; mend: .*alter role "ann" reset default_transaction_read_only.*'),
    "read-only server": ({"read_only_by": "configuration file"}, r"FAIL .*; mend: .*alter system reset .*pg_reload_conf.*"),
    "denied": ({"denied": ("event",)}, r"FAIL .*role ann may not change event; mend: psql .*grant .* on event to \"ann\".*"),
}


@pytest.mark.parametrize("name", POSTGRES_FAULTS)
def test_postgresql(name: str) -> None:
    changed, says = POSTGRES_FAULTS[name]
    [line] = faults(servers.postgres(replace(POSTGRES, **changed), named=True))  # type: ignore[arg-type]
    assert re.fullmatch(says, line)


SCHEMA = """
create table if not exists event (
    status text not null default 'NEW',               -- the move's place
    done   boolean generated always as (status <> 'NEW') stored
);
alter table event add column if not exists late text;
"""
NEW = "'\\''NEW'\\''"  # quoted for the shell
TABLES = [
    (["table event is missing"], "tidings schema apply"),
    (["column event.late is missing"], "tidings schema apply"),
    (["column event.status is missing"], f"alter table event add column status text not null default {NEW}"),
    (
        ["column event.done is missing"],
        f"alter table event add column done boolean generated always as (status <> {NEW}) stored",
    ),
    (
        ["column event.status is nullable and should be not null", "column event.status is date and should be text"],
        "alter table event alter column status set not null; alter table event alter column status type text",
    ),
]


@pytest.mark.parametrize(("differences", "mend"), TABLES)
def test_tables(differences: list[str], mend: str) -> None:
    command = mend if mend.startswith("tidings") else f"psql URL -c '{mend}'"
    found = tables(differences, SCHEMA, "URL")
    assert (found.level, found.says, found.mend) == (Level.FAIL, "; ".join(differences), command)


def test_psql_is_given_an_address_that_shows_no_password() -> None:
    assert for_shell("postgresql://postgres@127.0.0.1/tidings") == "postgresql://postgres@127.0.0.1/tidings"
    assert for_shell("postgresql://ann:hush@host/d") == for_shell("postgresql://host/d?password=hush") == '"$DATABASE_URL"'


def test_the_oldest_versions_that_do() -> None:
    assert not faults(servers.postgres(replace(POSTGRES, version=150000), named=True))
    for name, version in (("Valkey", (8, 0, 0)), ("Redis", (7, 2, 4))):
        assert not faults(servers.redis(replace(REDIS, name=name, version=version), named=True))


AWAY_MENDS = [
    (Cause.NO_DATABASE, True, "tidings schema apply"),
    (Cause.REFUSED, False, "tidings dev"),
    (Cause.REFUSED, True, "export DATABASE_URL=postgresql://"),
    (Cause.LOGIN, False, "export DATABASE_URL=postgresql://"),
    (Cause.URL, True, "export DATABASE_URL=postgresql://"),
    (Cause.LATE, True, "export DATABASE_URL=postgresql://"),
]


@pytest.mark.parametrize(("cause", "named", "mend"), AWAY_MENDS)
def test_postgresql_away_and_what_mends_it(cause: Cause, named: bool, mend: str) -> None:
    first, *others = servers.postgres(Away(cause, "its own word"), named)
    assert (first.level, first.says) == (Level.FAIL, "(setting DATABASE_URL) its own word")
    assert (first.mend or "").startswith(mend)
    assert {f.says for f in others} == {"cannot be judged: PostgreSQL gave no answer"}


REDIS_FAULTS = {
    "too old": (
        {"name": "Redis", "version": (7, 0, 15)},
        r"FAIL  Redis  — Redis 7\.0\.15 is too old: .*; mend: export REDIS_URL=.*",
    ),
    "old Valkey": ({"version": (7, 2, 9)}, r"FAIL .*Valkey 7\.2\.9 is too old: .*"),
    "replica": ({"replica": True}, r"FAIL .* is a replica: it only reads; mend: export REDIS_URL=.*"),
    "evicts": (
        {"eviction": "allkeys-lru"},
        r"FAIL  eviction  — .*allkeys-lru.*; mend: tidings redis CONFIG SET maxmemory-policy noeviction",
    ),
    "keeps nothing": ({"append_only": False}, r"warn  persistence  — off: .*; mend: tidings redis CONFIG SET appendonly yes"),
    "does not tell": ({"append_only": False, "save": None}, r"warn  persistence  — .*does not tell.*; mend: .*appendonly yes"),
    "disk full": ({"last_write_ok": False}, r"FAIL  persistence  — .*refuses writes; mend: df -h .*"),
    "memory near": (
        {"memory": 80, "memory_max": 100},
        r"warn  memory  — .*near the limit.*; mend: tidings redis CONFIG SET maxmemory 200",
    ),
    "memory full": (
        {"memory": 95, "memory_max": 100},
        r"FAIL  memory  — .*refuses writes; mend: tidings redis CONFIG SET maxmemory 200",
    ),
}


@pytest.mark.parametrize("name", REDIS_FAULTS)
def test_redis(name: str) -> None:
    changed, says = REDIS_FAULTS[name]
    [line] = faults(servers.redis(replace(REDIS, **changed), named=True))  # type: ignore[arg-type]
    assert re.fullmatch(says, line)


def test_snapshots_are_persistence_too() -> None:
    assert not faults(servers.redis(replace(REDIS, append_only=False, save="3600 1"), named=True))


CLOCKS = [
    # Redis ahead of us, PostgreSQL ahead of us, half the time the answers took; what is said
    (0.0, 0.0, 0.0, []),
    (0.9, 0.0, 0.0, []),
    (1.1, 1.1, 0.0, ["PostgreSQL is 1.1 s ahead of this host", "Redis is 1.1 s ahead of this host"]),
    (0.6, -0.6, 0.0, ["Redis is 1.2 s ahead of PostgreSQL"]),
    (-5.0, 0.0, 0.0, ["Redis is 5.0 s behind this host", "Redis is 5.0 s behind PostgreSQL"]),
    (1.1, 0.0, 0.2, []),  # a slow answer may be all of it
]


@pytest.mark.parametrize(("redis_s", "postgres_s", "within_s", "says"), CLOCKS)
def test_clocks(redis_s: float, postgres_s: float, within_s: float, says: list[str]) -> None:
    found = servers.clocks(
        replace(POSTGRES, clock=Clock(postgres_s, within_s)), replace(REDIS, clock=Clock(redis_s, within_s))
    )  # fmt: skip
    if not says:
        assert found.level is Level.OK
    else:
        assert (found.level, found.says) == (Level.FAIL, "; ".join(says))
        assert (found.mend or "").startswith("sudo timedatectl set-ntp true")


def test_the_clock_of_a_server_that_is_away_is_not_judged() -> None:
    assert servers.clocks(AWAY, REDIS).says == "this host and Redis agree; PostgreSQL gave no answer"
    assert servers.clocks(AWAY, AWAY).level is Level.WARN


SILENT = (ConsumerStats("host-1-ab", 0, 31, None),)
STREAM_FAULTS = {
    "no group": (
        streams(stream(group=False, consumers=())),
        rf"FAIL  {MAIL}  — its group tidings is missing; mend: tidings redis XGROUP CREATE '{MAIL}' tidings 0 MKSTREAM",
    ),
    "nobody": (streams(stream(consumers=())), rf"FAIL  {MAIL}  — no consumer reads {MAIL}; mend: tidings consumers"),
    "somebody, long ago": (streams(stream(consumers=SILENT)), r"FAIL .*\(the last one asked 31 s ago\); mend: tidings consumers"),
    "full": (
        streams(stream(length=100_001, lag=100_001, oldest_unread_s=1)),
        rf"FAIL  {MAIL}  — it is full: 100,001 entries, more than 100,000; mend: tidings consumers --processes 2 .*",
    ),
    "late": (
        streams(stream(length=7, lag=7, oldest_unread_s=61)),
        rf"warn  {MAIL}  — 7 entries are unread, the oldest for 61 s, longer than 60 s; mend: tidings consumers --processes 2 .*",
    ),
    "pending too long": (
        streams(stream(length=1, pending=1), pending_idle_s=121),
        rf"FAIL  {MAIL}  — .*untouched for 121 s; .*; mend: tidings consumers",
    ),
    "content lost": (streams(stream(lag=None, pending=4)), r"warn .*lost their content.*; mend: tidings redis XPENDING .*"),
}


@pytest.mark.parametrize("name", STREAM_FAULTS)
def test_streams(name: str) -> None:
    facts, says = STREAM_FAULTS[name]
    [line] = faults(judged_streams.streams(facts, judged_streams.limits(SETTINGS)))
    assert re.fullmatch(says.replace("{0}", r"\{0\}"), line)


WELL = {
    "empty": streams(),
    "short retries wait up to a window": streams(stream(length=1, pending=1, oldest_s=500), pending_idle_s=60),
    "as many as there may be": streams(stream(length=100_000, lag=100_000, oldest_unread_s=59)),
    "one of two consumers has gone": streams(stream(consumers=(*SILENT, *stream().consumers))),
}


@pytest.mark.parametrize("name", WELL)
def test_streams_that_are_well(name: str) -> None:
    assert not faults(judged_streams.streams(WELL[name], judged_streams.limits(SETTINGS)))


def test_a_paused_channel_is_one_line_that_says_why_and_since_when() -> None:
    """Nobody asks for its entries, on purpose: that is not told as a fault as well."""
    mail = stream(length=9, lag=7, pending=2, oldest_unread_s=900, consumers=(*SILENT, *SILENT))
    facts = replace(streams(mail, pending_idle_s=500), pauses={Channel.EMAIL: [pause("answered 401:\nno such token")]})
    [line] = faults(judged_streams.streams(facts, judged_streams.limits(SETTINGS)))
    assert line == (
        f"warn  {MAIL}  — paused by 1 of 2 consumers for 200 s: answered 401: no such token; 9 waiting; "
        "a probe every 4.0 s finds out when its provider answers"
    )


def test_a_channel_that_is_paused_by_hand_is_one_line_with_the_command_that_ends_it() -> None:
    mail = stream(length=9, lag=7, pending=2, oldest_unread_s=900, consumers=SILENT)
    facts = replace(streams(mail, pending_idle_s=500), pauses={Channel.EMAIL: [pause("busy")]})
    holds = {Channel.EMAIL: Hold("ann", "the provider\nis moved", 200)}
    [line] = faults(judged_streams.streams(facts, judged_streams.limits(SETTINGS), holds))
    assert line == (
        f"warn  {MAIL}  — paused by hand for 200 s, by ann: the provider is moved; 9 waiting; mend: tidings resume EMAIL"
    )


def test_a_stream_that_was_never_published_to_needs_a_consumer_only() -> None:
    facts = streams(stream(group=False, consumers=()), email="none")
    found = [f for f in judged_streams.streams(facts, judged_streams.limits(SETTINGS)) if f.what == MAIL]
    assert [(f.level, f.mend) for f in found] == [(Level.OK, None), (Level.FAIL, "tidings consumers")]
    assert found[0].says.startswith("not made yet")


def test_a_key_that_is_no_stream_is_moved_out_of_the_way() -> None:
    facts = replace(streams(email="string"), stats=None)
    found = {f.what: f for f in judged_streams.streams(facts, judged_streams.limits(SETTINGS))}
    assert found[MAIL].says.startswith("is a string, not a stream")
    assert found[MAIL].mend == f"tidings redis RENAME '{MAIL}' 'not-{MAIL}'"
    assert {f.level for what, f in found.items() if what != MAIL} == {Level.WARN}


def test_dead_letters_are_a_warning() -> None:
    facts = streams()
    assert facts.stats is not None
    counted = replace(facts, stats=[*facts.stats[:-1], stream(STREAMS[-1], length=2)])
    [line] = faults(judged_streams.streams(counted, judged_streams.limits(SETTINGS)))
    assert re.fullmatch(r"warn  tidings:\{0\}:dead  — 2 dead letters: .*; mend: tidings redis XRANGE .*", line)


PORTS = [
    (PortState.OURS, None, r"ok    API port  — API answers at http://127\.0\.0\.1:3001"),
    (PortState.FREE, None, r"ok    API port  — port 3001 is free; .*"),
    (PortState.TAKEN, None, r"FAIL  API port  — port 3001 is taken by something else; mend: API_PORT=3002 tidings api"),
    (PortState.UNUSABLE, "permission denied", r"FAIL .*cannot be used: permission denied; mend: API_PORT=3002 tidings api"),
]


@pytest.mark.parametrize(("state", "problem", "says"), PORTS)
def test_ports(state: PortState, problem: str | None, says: str) -> None:
    assert re.fullmatch(says, parts.port(replace(PORT, state=state, problem=problem)).line())


def test_who_answers_is_told_by_the_answer() -> None:
    assert is_api(b'HTTP/1.1 200 OK\r\n\r\n{"status":"ok"}')
    assert not is_api(b"HTTP/1.1 200 OK\r\n\r\nhello")
    assert is_dashboard(b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /admin/queues\r\n\r\n")
    assert not is_dashboard(b"HTTP/1.1 200 OK\r\n\r\n\r\nlocation: /admin/queues")


WRONG_SETTINGS = [
    ({"api_port": "x"}, "export API_PORT=3001"),
    ({"email_waits_s": "soon"}, "export EMAIL_WAITS_S=0,5,30,120,600,1800,7200"),
    ({"api_port": 0, "retry_jitter": 2}, "export API_PORT=3001 RETRY_JITTER=0.2"),
    ({"redis_url": "http://localhost"}, "export REDIS_URL=redis://localhost:6379"),
    ({"reclaim_after_s": 10}, "export REDIS_TIMEOUT_S=1.25"),
    ({"provider_timeout_s": 60}, "export PROVIDER_TIMEOUT_S=25"),
]


@pytest.mark.parametrize(("override", "mend"), WRONG_SETTINGS)
def test_a_wrong_setting_is_mended_by_one_that_is_right(override: dict[str, Any], mend: str) -> None:
    with pytest.raises(SettingsError) as wrong:
        load_settings(_env_file=None, **override)
    finding = parts.settings_wrong(str(wrong.value))[0]
    assert (finding.level, finding.says, finding.mend) == (Level.FAIL, str(wrong.value), mend)
    mended = dict(part.split("=") for part in mend.split()[1:])
    load_settings(_env_file=None, **override | {name.lower(): value for name, value in mended.items()})


def test_everything_is_judged_whatever_is_away() -> None:
    whats = [f.what for f in judge(SETTINGS, Facts(POSTGRES, REDIS, streams(), (PORT,)))]
    assert [f.what for f in judge(SETTINGS, Facts(AWAY, AWAY, AWAY, (PORT,)))] == whats


def test_no_password_is_printed() -> None:
    finding = fail("Redis", "cannot reach redis://:hush@host", "export REDIS_URL=redis://HOST")
    assert "hush" not in finding.line() + str(finding.record())


def test_a_record_has_the_same_words() -> None:
    assert ok("eviction", "off").record() == {"level": "ok", "what": "eviction", "says": "off", "mend": None}
