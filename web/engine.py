"""The page of settings and engine: what the doctor finds, channels, what both servers say, what is configured. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.addresses import redis_command
from app.doctor import judge
from app.doctor.facts import Facts
from app.domain import Channel
from app.settings import Settings
from app.streams import channel_stream
from web import links
from web.away import Away
from web.configured import SettingLine, configured
from web.consistency import TONES, FindingLine, finding_line
from web.engine_facts import Fact, TableLine, clock_facts, postgres_facts, redis_facts, table_line
from web.engine_queries import PostgresEngine, RedisEngine
from web.parts import Badge, Command, Moment, moment
from web.paused import Holds, Pauses
from web.words import duration, number

MENDED = {"ok": "All is well", "warn": "Something deserves a look", "bad": "Something is wrong"}
COLOURS = {"ok": "ok", "warn": "warn", "bad": "down"}


@dataclass(frozen=True, slots=True)
class ChannelLine:
    """`held`: an operator has paused it, so it can be resumed; otherwise it can be paused."""

    channel: str
    badge: Badge
    why: str
    link: str
    held: bool


@dataclass(frozen=True, slots=True)
class ConnectionLine:
    who: str
    n: str
    busy: str


@dataclass(frozen=True, slots=True)
class EnginePage:
    """`notice` says what a click did. Parts that could not be read are empty; `problems` say why."""

    title: str
    refresh_s: int | None
    made: Moment
    notice: str
    headline: str
    colour: str
    problems: tuple[str, ...]
    findings: tuple[FindingLine, ...]
    channels: tuple[ChannelLine, ...]
    pause: str
    resume: str
    redis: tuple[Fact, ...]
    postgres: tuple[Fact, ...]
    clocks: tuple[Fact, ...]
    connections: tuple[ConnectionLine, ...]
    tables: tuple[TableLine, ...]
    times: str
    changed: tuple[SettingLine, ...]
    defaults: tuple[SettingLine, ...]
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Examined:
    """One look at everything, kept for a few seconds."""

    at: datetime
    facts: Facts | Away
    postgres: PostgresEngine | Away
    redis: RedisEngine | Away


def engine_page(settings: Settings, seen: Examined, holds: Holds | Away, pauses: Pauses | Away, notice: str = "") -> EnginePage:
    """The page, from a look and from which channels are paused just now."""
    findings = () if isinstance(seen.facts, Away) else tuple(finding_line(f) for f in judge(settings, seen.facts))
    worst = next((tone for tone in ("bad", "warn") if any(f.badge.tone == tone for f in findings)), "ok")
    lines = configured(settings)
    postgres = None if isinstance(seen.postgres, Away) else seen.postgres
    return EnginePage(
        title="Engine",
        refresh_s=None,
        made=moment(seen.at, seen.at),
        notice=notice,
        headline=MENDED[worst] if findings else "Nobody could look",
        colour=COLOURS[worst] if findings else "down",
        problems=_problems(seen.facts, seen.postgres, seen.redis, holds, pauses),
        findings=tuple(sorted(findings, key=lambda f: list(TONES.values()).index(f.badge.tone), reverse=True)),
        channels=channel_lines({} if isinstance(holds, Away) else holds, {} if isinstance(pauses, Away) else pauses, seen.at),
        pause=links.PAUSE,
        resume=links.RESUME,
        redis=() if isinstance(seen.redis, Away) else redis_facts(seen.redis, redis_command(settings.redis_url)),
        postgres=postgres_facts(postgres) if postgres else (),
        clocks=() if isinstance(seen.facts, Away) else clock_facts(seen.facts),
        connections=_connections(postgres) if postgres else (),
        tables=tuple(table_line(table, postgres.now) for table in postgres.tables) if postgres else (),
        times=_times(settings),
        changed=tuple(line for line in lines if not line.default),
        defaults=tuple(line for line in lines if line.default),
        commands=(
            Command("the same check in a terminal", "tidings doctor"),
            Command("all that Redis says of itself", f"{redis_command(settings.redis_url)} INFO"),
            Command("connections", "select application_name, state, count(*) from pg_stat_activity group by 1, 2"),
            Command("sizes", "select relname, pg_size_pretty(pg_total_relation_size(relid)) from pg_stat_user_tables"),
        ),
    )


def channel_lines(holds: Holds, pauses: Pauses, now: datetime) -> tuple[ChannelLine, ...]:
    return tuple(_channel(channel, holds, pauses, now) for channel in Channel)


def _channel(channel: Channel, holds: Holds, pauses: Pauses, now: datetime) -> ChannelLine:
    hold, told = holds.get(channel), pauses.get(channel, [])
    if hold is not None:
        since = moment(now - timedelta(seconds=hold.since_s), now)
        badge, why = Badge("paused by hand", "warn"), f"{since.ago}, at {since.utc}, by {hold.words}"
    elif told:
        badge, why = Badge("paused by its breaker", "warn"), f"{duration(told[0].since_s)} ago: {told[0].reason}"
    else:
        badge, why = Badge("going on", "ok"), ""
    return ChannelLine(channel.value, badge, why, links.stream(channel_stream(channel)), hold is not None)


def _connections(postgres: PostgresEngine) -> tuple[ConnectionLine, ...]:
    return tuple(ConnectionLine(c.who, number(c.n), number(c.busy)) for c in postgres.by_application)


def _times(settings: Settings) -> str:
    """What follows from the reclaim window."""
    told = (
        ("lease", settings.lease_s),
        ("a call to a provider", settings.provider_limit_s),
        ("relay's grace", settings.relay_grace_s),
        ("relay's sweep", settings.relay_sweep_s),
        ("a statement", settings.statement_within_s),
    )
    return "From RECLAIM_AFTER_S follow: " + ", ".join(f"{name} {duration(seconds)}" for name, seconds in told) + "."


def _problems(*answers: object) -> tuple[str, ...]:
    return tuple({answer.sentence: None for answer in answers if isinstance(answer, Away)})
