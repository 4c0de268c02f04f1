"""`tidings doctor`: what is wrong here, and the command that mends it. Facts are gathered, then judged by pure functions."""

import asyncio
import sys
from collections.abc import Mapping

import orjson

from app import schema
from app.doctor import parts, servers, streams
from app.doctor.facts import Away, Facts
from app.doctor.finding import Finding, Level, not_judged, ok
from app.doctor.gather import gather_facts
from app.doctor.tables import tables
from app.domain import Channel
from app.settings import Settings, SettingsError, load_settings
from app.store.hold import Hold

__all__ = ["examine", "judge", "run"]


def run(as_json: bool = False, deep: bool = False) -> bool:
    """Print what was found, a line each or as JSON. False: something failed."""
    try:
        found = asyncio.run(examine(load_settings(), deep))
    except SettingsError as error:
        found = parts.settings_wrong(str(error))
    if as_json:
        sys.stdout.write(orjson.dumps([f.record() for f in found], option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        sys.stdout.write("".join(f.line() + "\n" for f in found))
    return not any(f.level is Level.FAIL for f in found)


async def examine(settings: Settings, deep: bool = False) -> list[Finding]:
    """All findings about a system with these settings; takes 1.5 s where a server is dead. `deep`: also, does it all add up?"""
    facts = await gather_facts(settings)
    found = judge(settings, facts)
    if deep:
        from app.doctor import deep as deeper  # the check speaks in findings, so it imports this package

        found += await deeper.deep(settings, facts)
    return found


def judge(settings: Settings, facts: Facts, may: streams.Limits | None = None) -> list[Finding]:
    """Every check, in the order in which one would mend. `may`: other limits than the settings give."""
    named = settings.model_fields_set
    return [
        ok("settings", "fit together"),
        *servers.postgres(facts.postgres, "database_url" in named),
        _tables(facts),
        *servers.redis(facts.redis, "redis_url" in named),
        servers.clocks(facts.postgres, facts.redis),
        *streams.streams(facts.streams, may or streams.limits(settings), _holds(facts)),
        *(parts.port(port) for port in facts.ports),
        parts.providers(settings),
    ]


def _holds(facts: Facts) -> Mapping[Channel, Hold]:
    return {} if isinstance(facts.postgres, Away) else facts.postgres.holds


def _tables(facts: Facts) -> Finding:
    if isinstance(facts.postgres, Away):
        return not_judged("tables", "PostgreSQL")
    return tables(facts.postgres.differences, schema.schema_text(), facts.postgres.url)
