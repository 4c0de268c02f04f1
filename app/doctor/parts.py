"""Judges the settings, the ports and the providers. Pure."""

import re

from app.doctor.facts import PortFacts, PortState
from app.doctor.finding import Finding, fail, ok, warn
from app.domain import Channel
from app.settings import SIMULATED, Settings

NAMED = re.compile(r"setting ([A-Z_]+):")
WORD = re.compile(r"[A-Z]+(?:_[A-Z]+)+")
TOO_MUCH = re.compile(r"([A-Z_]+) is \S+ and may be at most ([\d.]+)")


def settings_wrong(says: str) -> list[Finding]:
    """From SettingsError's line. The environment outranks the files, so an export mends a wrong line in any of them."""
    most = dict(TOO_MUCH.findall(says))
    names = NAMED.findall(says) or list(most) or [name for name in WORD.findall(says) if name.lower() in Settings.model_fields]
    mend = "export " + " ".join(f"{name}={most.get(name, _default(name))}" for name in dict.fromkeys(names))
    return [
        fail("settings", says, mend),
        warn("servers, streams, ports", "cannot be judged before the settings are right"),
    ]


def _default(name: str) -> str:
    """As one writes it into the environment."""
    value = Settings.model_fields[name.lower()].default if name.lower() in Settings.model_fields else None
    if value is None:
        return ""
    return ",".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)


def port(facts: PortFacts) -> Finding:
    """Tidings answers there, or could."""
    what = f"{facts.part} port"
    move = f"{facts.setting}={facts.other_port} {facts.command}"
    match facts.state:
        case PortState.OURS:
            return ok(what, f"{facts.part} answers at {facts.url}")
        case PortState.FREE:
            return ok(what, f"port {facts.port} is free; `{facts.command}` would answer there")
        case PortState.TAKEN:
            return fail(what, f"port {facts.port} is taken by something else", move)
        case PortState.UNUSABLE:
            return fail(what, f"port {facts.port} cannot be used: {facts.problem}", move)


def providers(settings: Settings) -> Finding:
    """Who carries each channel. Addresses are not shown: they may hold a secret."""
    simulated = [channel for channel in Channel if settings.channel_policy(channel).provider == SIMULATED]
    if simulated:
        return warn("providers", f"{', '.join(simulated)}: simulated, nothing is really sent")
    return ok("providers", f"{', '.join(Channel)}: by webhook")
