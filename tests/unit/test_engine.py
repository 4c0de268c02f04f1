"""The page of settings and engine, with ready-made data; and that no secret is on it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.doctor.facts import Away as NoAnswer
from app.doctor.facts import Cause, Facts
from app.domain import Channel
from app.settings import Settings, load_settings
from app.store.hold import Hold
from tests.unit import ready_made as made
from tests.unit.ready_made import HOSTILE, NOW, SETTINGS
from tests.unit.test_doctor import PORT, POSTGRES, REDIS, streams
from tests.unit.test_pages import NO_POSTGRESQL, NO_REDIS, Document, render
from web.away import Away
from web.configured import HIDDEN, configured, hidden_url
from web.engine import Examined, engine_page
from web.engine_facts import size
from web.engine_queries import Connections, PostgresEngine, RedisEngine, TableSize
from web.engine_routes import channel_of, notice

INFO = {
    "valkey_version": "9.1.2", "redis_version": "7.2.4", "uptime_in_seconds": 7500, "role": "master", "connected_slaves": 0,
    "aof_enabled": 1, "used_memory": 1_700_000, "used_memory_peak": 3_000_000, "maxmemory": 0, "maxmemory_policy": "noeviction",
    "connected_clients": 12, "instantaneous_ops_per_sec": 1234, "evicted_keys": 0,
}  # fmt: skip
PG_SETTINGS = {
    "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "max_connections": "100", "shared_buffers": "128MB",
    "autovacuum": "on",
}  # fmt: skip


def postgres(**other: Any) -> PostgresEngine:
    known: dict[str, Any] = {
        "now": NOW, "version": "18.6", "database": "tidings", "role": "ann",
        "started": NOW - timedelta(hours=5), "size": 9_000_000, "connections": 9, "oldest_transaction_s": 0.5,
        "settings": PG_SETTINGS,
        "by_application": [Connections("tidings consumers", 3, 1)],
        "tables": [TableSize("notification", 1_234_567, 5 * 2**30, 2**20, 12, 100, 97, NOW - timedelta(minutes=3))],
    }  # fmt: skip
    return PostgresEngine(**{**known, **other})


def seen(**other: Any) -> Examined:
    facts = Facts(POSTGRES, REDIS, streams(), (PORT,))
    known: dict[str, Any] = {"facts": facts, "postgres": postgres(), "redis": RedisEngine(INFO, {"appendfsync": "everysec"})}
    return Examined(NOW, **{**known, **other})


def page(
    settings: Settings = SETTINGS, holds: Any = None, pauses: Any = None, who: Any = made.OPERATOR, **other: Any
) -> Document:
    return render(engine_page(settings, seen(**other), holds or {}, pauses or {}), who)


def test_what_both_servers_say() -> None:
    text = page().text
    for said in (
        "Version Valkey 9.1.2",
        "append-only file, fsync everysec",
        "1.6 MB, no limit, peak 2.9 MB",
        "Eviction noeviction",
        "Clients 12",
        "Version 18.6",
        "tidings, as ann, 8.6 MB",
        "fsync on, synchronous_commit on, full_page_writes on",
        "Connections 9 of 100",
        "tidings consumers 3 1",
        "notification about 1,234,567 5.0 GB 1.0 MB 12 97 % 3 min ago",
        "PostgreSQL the same as this host's",
    ):
        assert said in text, said


def test_what_is_risky_is_coloured() -> None:
    risky = page(
        postgres=postgres(settings={**PG_SETTINGS, "fsync": "off", "autovacuum": "off"}, oldest_transaction_s=700),
        redis=RedisEngine({**INFO, "evicted_keys": 5, "maxmemory": 2_000_000}, {}),
    )
    tones = [attrs["class"] for tag, attrs in risky.tags if tag == "b" and "class" in attrs]
    assert tones == ["badge bad", "badge bad", "badge warn", "badge bad"]
    assert "1.6 MB of 1.9 MB (85 %)" in risky.text


def test_the_doctor_s_findings_with_the_worst_first_and_its_commands() -> None:
    facts = Facts(POSTGRES, replace(REDIS, eviction="allkeys-lru"), streams(), (PORT,))
    document = page(facts=facts)
    assert "Something is wrong" in document.text
    assert "mend: tidings redis CONFIG SET maxmemory-policy noeviction" in document.text
    assert document.text.index("maxmemory-policy is allkeys-lru") < document.text.index("fit together")


def test_channels_are_paused_and_resumed_here() -> None:
    document = page(holds={Channel.EMAIL: Hold("bob", "moved", 200)}, pauses={Channel.SMS: [made.pause("busy")]})
    assert "EMAIL paused by hand 3 min ago, at 2026-11-22 02:56:40Z, by bob: moved" in document.text
    assert "SMS paused by its breaker 3 min 20 s ago: busy" in document.text
    assert "PUSH going on" in document.text
    assert document.attributes("form", "action")[1:] == [f"/admin/queues/engine/{act}" for act in ("resume", "pause", "pause")]
    values = [attrs.get("value") for tag, attrs in document.tags if tag == "input" and attrs.get("name") == "channel"]
    assert values == ["EMAIL", "SMS", "PUSH"]


def test_a_viewer_sees_all_and_pauses_nothing() -> None:
    document = page(who=made.VIEWER, holds={Channel.EMAIL: Hold("bob", "moved", 200)})
    assert "by bob: moved" in document.text
    assert "post" not in document.attributes("form", "method")


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"postgres": NO_POSTGRESQL}, "PostgreSQL cannot be reached."),
        ({"redis": NO_REDIS}, "Redis cannot be reached."),
        ({"facts": Away("The check", "The check did not answer within 3 s.")}, "The check did not answer"),
        (
            {"facts": Facts(NoAnswer(Cause.LATE, "late"), NoAnswer(Cause.LATE, "late"), NoAnswer(Cause.LATE, "late"), ())},
            "no answer",
        ),
    ],
)
def test_what_cannot_be_read_is_said(parts: dict[str, Any], says: str) -> None:
    text = page(**parts).text
    assert says in text
    assert "Settings of this process" in text


def test_servers_that_tell_little() -> None:
    bare = page(
        redis=RedisEngine({"redis_version": "7.2.0", "maxmemory": "none"}, {}),
        postgres=postgres(settings={}, tables=[], by_application=[]),
    )
    assert "Redis 7.2.0" in bare.text
    never = TableSize("event", -1, 0, 0, 0, 0, 0, None)
    assert "event unknown 0 bytes 0 bytes 0 – never" in page(postgres=postgres(tables=[never])).text


def test_hostile_text_is_shown_and_never_markup() -> None:
    info = {**INFO, "valkey_version": HOSTILE, "maxmemory_policy": HOSTILE}
    document = page(
        postgres=postgres(version=HOSTILE, database=HOSTILE, role=HOSTILE, by_application=[Connections(HOSTILE, 1, 0)]),
        redis=RedisEngine(info, {"appendfsync": HOSTILE, "save": HOSTILE}),
        holds={Channel.EMAIL: Hold(HOSTILE, HOSTILE, 1)},
        pauses={Channel.SMS: [made.pause(HOSTILE)]},
    )
    assert all(src.startswith("/static/") for src in document.attributes("script", "src"))
    assert document.text.count("<script>alert(1)</script>") >= 9
    assert not [name for _, attrs in document.tags for name in attrs if name.startswith("on") or name == "style"]


SECRET = "hush-hush"
WITH_SECRETS = {
    "redis_url": f"redis://:{SECRET}@cache.example:6380/2",
    "database_url": f"postgresql://ann:{SECRET}@db.example/tidings?sslmode=require&sslpassword={SECRET}",
    "email_provider": f"https://ann:{SECRET}@mail.example/hooks/{SECRET}?key={SECRET}",
    "sms_provider": f"https://{SECRET}@sms.example:8443",
    "dashboard_password": f"{SECRET}-operator",
    "dashboard_viewer_password": f"{SECRET}-viewer",
    "dashboard_secret": f"{SECRET}-of-the-sessions",
}


def test_no_secret_is_shown() -> None:
    settings = load_settings(_env_file=None, **WITH_SECRETS)
    document = page(settings)
    assert SECRET not in document.text
    assert not [value for _, attrs in document.tags for value in attrs.values() if value and SECRET in value]
    shown = {line.name: line.value for line in configured(settings)}
    assert shown["REDIS_URL"] == f"redis://:{HIDDEN}@cache.example:6380/2"
    assert shown["DATABASE_URL"] == f"postgresql://ann:{HIDDEN}@db.example/tidings?sslmode=require&sslpassword={HIDDEN}"
    assert shown["EMAIL_PROVIDER"] == f"https://{HIDDEN}@mail.example/{HIDDEN}?key={HIDDEN}"
    assert shown["DASHBOARD_PASSWORD"] == f"set, {HIDDEN}"
    assert shown["WEBHOOK_TOKEN"] == "not set"


def test_what_the_settings_hide_from_their_repr_is_hidden_here_too() -> None:
    """A secret that is added later needs nothing but `repr=False`."""
    secret = [name for name, field in Settings.model_fields.items() if not field.repr]
    settings = Settings.model_construct(None, **{**dict.fromkeys(secret, SECRET), "webhook_token": f"x {SECRET}"})
    assert len(secret) >= 9
    assert not [line for line in configured(settings) if SECRET in line.value]


@pytest.mark.parametrize(
    "address", ["", "x", "http://[", "redis://h:99999", "unix:///run/redis.sock?password=hush-hush", "://hush-hush"]
)
def test_any_address_is_shown_without_a_secret(address: str) -> None:
    assert SECRET not in hidden_url(address)


def test_what_is_set_is_apart_from_the_defaults() -> None:
    made_page = engine_page(load_settings(_env_file=None, email_concurrency=7), seen(), {}, {})
    assert [(line.name, line.value) for line in made_page.changed] == [("EMAIL_CONCURRENCY", "7")]
    defaults = {line.name: line.value for line in made_page.defaults}
    assert len(defaults) == len(Settings.model_fields) - 1
    assert defaults["EMAIL_WAITS_S"] == "0, 5, 30, 120, 600, 1800, 7200"
    assert defaults["PROVIDER_TIMEOUT_S"] == "25 (five twelfths of RECLAIM_AFTER_S)"
    assert "lease 30 s" in made_page.times


def test_sizes() -> None:
    assert [size(n) for n in (0, 1023, 1536, 200 * 2**20, 3 * 2**40)] == ["0 bytes", "1023 bytes", "1.5 kB", "200 MB", "3.0 TB"]


def test_what_a_click_did_in_one_line() -> None:
    assert notice({"paused": "EMAIL"}).startswith("EMAIL is paused: ")
    assert notice({"resumed": "SMS"}) == "SMS goes on: what has waited is sent."
    for asked in ({}, {"paused": "<b>"}, {"paused": ""}, {"other": "EMAIL"}):
        assert notice(asked) == ""
    assert [channel_of({"channel": text}) for text in ("EMAIL", "email", "")] == [Channel.EMAIL, None, None]
