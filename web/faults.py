"""The fault panel: what each simulated provider is made to do, buttons to change it, and what its calls came to since."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from app.addresses import redis_command
from app.domain import Channel, CrashPolicy
from app.faults import KEEP_S, Fault, Kind
from app.settings import SIMULATED, ChannelPolicy, Settings
from web import links, words
from web.away import Away
from web.fault_words import Faults, what
from web.letter import clip
from web.mailbox_queries import CALLS_OF, Called, CallRows
from web.parts import OUTCOME_SIGNS, OUTCOME_TONES, Command, Moment, moment

REFRESH_S = 2
CALLS_SHOWN = 60  # per channel
OFFERED: tuple[tuple[str, tuple[tuple[Kind, float], ...]], ...] = (
    ("Slow", ((Kind.SLOW, 2), (Kind.SLOW, 10), (Kind.SLOW, 30))),
    ("Flaky", ((Kind.FLAKY, 25), (Kind.FLAKY, 50), (Kind.FLAKY, 100))),
    ("Busy (429)", ((Kind.BUSY, 5), (Kind.BUSY, 60))),
    ("Down", ((Kind.DOWN, 0), (Kind.HANGING, 0))),
    ("Strict", ((Kind.REJECTING, 0),)),
)
LABELS: dict[Kind, str] = {
    Kind.SLOW: "{:g} s",
    Kind.FLAKY: "{:g} %",
    Kind.BUSY: "retry after {:g} s",
    Kind.DOWN: "refuse connections",
    Kind.HANGING: "never answer",
    Kind.REJECTING: "refuse each message for good",
}


@dataclass(frozen=True, slots=True)
class Press:
    """A button: the fault it sets, in words too, and whether that one is set."""

    label: str
    says: str
    value: str
    pressed: bool


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    presses: tuple[Press, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One call as a small square; `says` has all of it in words."""

    sign: str
    tone: str
    says: str
    link: str


@dataclass(frozen=True, slots=True)
class ChannelPanel:
    """`real`: why there is nothing to press. `fault` empty: it does as the settings say."""

    channel: str
    real: str
    usual: str
    fault: str
    until: Moment | None
    left: str
    paused: str
    rows: tuple[Row, ...]
    calls: tuple[Call, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class FaultPanel:
    """All channels. `notice` says what a click did; `keep` how long a fault lasts."""

    title: str
    refresh_s: int | None
    action: str
    notice: str
    keep: str
    panels: tuple[ChannelPanel, ...]
    problems: tuple[str, ...]
    commands: tuple[Command, ...]


def fault_panel(
    settings: Settings,
    now: datetime,
    faults: Faults | Away,
    rows: CallRows | Away,
    halted: Mapping[Channel, str],
    notice: str,
) -> FaultPanel:
    """Parts that could not be read are empty; `problems` say why. `halted`: as web.paused has it."""
    known = {} if isinstance(faults, Away) else faults
    calls = [] if isinstance(rows, Away) else rows.calls
    at = now if isinstance(rows, Away) else rows.now
    return FaultPanel(
        title="Fault panel",
        refresh_s=REFRESH_S,
        action=links.FAULT,
        notice=notice,
        keep=words.duration(KEEP_S),
        panels=tuple(
            _panel(settings, c, known.get(c), [x for x in calls if x.channel == c], halted.get(c, ""), at) for c in Channel
        ),
        problems=tuple({a.sentence: None for a in (faults, rows) if isinstance(a, Away)}),
        commands=tuple(_commands(redis_command(settings.redis_url))),
    )


def summary(calls: list[Called]) -> str:
    """What the calls came to, in a sentence."""
    ended = [c for c in calls if c.ended_at is not None]
    if not calls:
        return f"No call for the newest {words.number(CALLS_OF)} notifications."
    counted = Counter(c.outcome or "" for c in ended)
    parts = [f"{words.number(n)} {words.outcome(outcome)}" for outcome, n in counted.most_common()]
    under_way = len(calls) - len(ended)
    parts += [f"{under_way} under way"] if under_way else []
    took = median((c.ended_at - c.started_at).total_seconds() for c in ended if c.ended_at) if ended else None
    typical = f"; half of them took {words.duration(took)} or less" if took is not None else ""
    return f"{words.plural(len(calls), 'newest call', 'newest calls')}: {', '.join(parts)}{typical}."


def _panel(
    settings: Settings, channel: Channel, fault: Fault | None, calls: list[Called], paused: str, now: datetime
) -> ChannelPanel:
    policy = settings.channel_policy(channel)
    simulated, shown = policy.provider == SIMULATED, calls[:CALLS_SHOWN]
    real = "" if simulated else f"Sent for real, by the address in {channel}_PROVIDER: nothing to break here."
    return ChannelPanel(
        channel=channel,
        real=real,
        usual=_usual(settings, policy),
        fault=what(fault) if fault and simulated else "",
        until=moment(now + timedelta(seconds=fault.left_s), now) if fault and simulated else None,
        left=words.duration(fault.left_s) if fault and simulated else "",
        paused=clip(paused, 300),
        rows=tuple(Row(name, tuple(_press(channel, *one, fault) for one in each)) for name, each in OFFERED) if simulated else (),
        calls=tuple(_call(c, now) for c in shown),
        summary=summary(shown),
    )


def _usual(settings: Settings, policy: ChannelPolicy) -> str:
    """What happens without a fault, and what silence leads to: the two facts one needs to foresee the effect."""
    latency, failing = words.duration(policy.simulated_latency_ms / 1000), policy.simulated_failure_rate * 100
    usual = f"Usually about {latency} a call, {failing:g} % fail"
    again = policy.crash_policy is CrashPolicy.AT_LEAST_ONCE
    after = "it is sent again, marked as maybe twice" if again else "it ends as UNKNOWN, and is not sent again"
    return f"{usual}. No answer within {words.duration(settings.provider_limit_s)}: {after}."


def _press(channel: Channel, kind: Kind, amount: float, fault: Fault | None) -> Press:
    pressed = fault is not None and (fault.kind, fault.amount) == (kind, amount)
    return Press(LABELS[kind].format(amount), f"Make {channel} {what(Fault(kind, amount))}", f"{kind}:{amount:g}", pressed)


def _call(call: Called, now: datetime) -> Call:
    if call.ended_at is None or call.outcome is None:
        since = words.duration((now - call.started_at).total_seconds())
        return Call("…", "busy", f"Attempt {call.number}: under way for {since}", links.story(call.event_pk))
    took = words.duration((call.ended_at - call.started_at).total_seconds())
    error = f": {clip(call.error, 200)}" if call.error else ""
    says = f"Attempt {call.number}, {moment(call.ended_at, now).ago}: {words.outcome(call.outcome)}, took {took}{error}"
    return Call(OUTCOME_SIGNS.get(call.outcome, "·"), OUTCOME_TONES.get(call.outcome, "mute"), says, links.story(call.event_pk))


def _commands(cli: str) -> list[Command]:
    key = links.fault_key_quoted(Channel.EMAIL)
    return [
        Command("the fault of EMAIL, and its end in ms", f"{cli} HGETALL {key}; {cli} PTTL {key}"),
        Command(
            "any other amount (without EXPIRE it is not obeyed)",
            f"{cli} HSET {key} kind slow amount 3.5; {cli} EXPIRE {key} {KEEP_S}",
        ),
        Command("no fault any more", f"{cli} DEL {key}"),
    ]
