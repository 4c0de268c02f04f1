"""The invariants of the promise, each a pure function of the facts: what is wrong, in words; nothing where all is well."""

from collections import defaultdict
from collections.abc import Iterator

from app.domain import Channel
from app.settings import Settings
from tests.faults.facts import Event, Facts, Notification

CHANNELS = 3
EXPLAINED = {"FAILED", "UNKNOWN", "CANCELLED"}
CLOCKS_S = 0.01  # a retry is due by PostgreSQL's clock, counted in whole microseconds


def every_accepted_event_is_final(facts: Facts, accepted: dict[str, float]) -> Iterator[str]:
    """Each 202 has its row, ROUTED, with one final notification for each channel of its user."""
    for event_id in accepted:
        event = facts.events.get(event_id)
        if event is None:
            yield f"{event_id} was answered 202 and has no row"
        elif event.status != "ROUTED":
            yield f"{event_id} is {event.status} ({event.reason})"
        elif len(event.notifications) != CHANNELS:
            yield f"{event_id} has {len(event.notifications)} notifications"
    for n in facts.notifications:
        if not n.final:
            yield f"notification {n.id} is {n.status} after {n.attempt} attempts"
        elif n.status in EXPLAINED and not (n.reason and n.error):
            yield f"notification {n.id} is {n.status} without an explanation"


def what_was_sent_is_recorded(facts: Facts) -> Iterator[str]:
    """SENT means that the provider took it; a message that it took is SENT, or UNKNOWN, or marked."""
    for call in facts.calls_without_row:
        yield f"the provider got {call.key}, which no row explains"
    for n in facts.notifications:
        sent = sum(a.outcome == "sent" for a in n.attempts)
        if n.status == "SENT" and not 1 <= sent <= n.taken:
            yield f"notification {n.id} is SENT, the provider took {n.taken}, attempts sent: {sent}"
        if n.taken and n.status == "FAILED" and not n.possible_duplicate:
            yield f"notification {n.id} is FAILED ({n.reason}), and the provider took it"
        if any((call.channel, call.event_id) != (n.channel, n.event_id) for call in n.calls):
            yield f"notification {n.id}, {n.channel} of {n.event_id}: the provider got its key for {n.calls}"
        called, recorded = [call.attempt for call in n.calls], {a.number for a in n.attempts}
        if len(called) != len(set(called)) or not set(called) <= recorded:
            yield f"notification {n.id}: messages of attempts {called}, recorded are {sorted(recorded)}"


def doubles_are_explained(facts: Facts, settings: Settings) -> Iterator[str]:
    """More than one message taken only where an attempt's outcome was unknown, the channel allows it, and the record says so."""
    for n in facts.notifications:
        if n.taken > sum(a.outcome in ("sent", "unknown") for a in n.attempts):
            yield f"notification {n.id}: taken {n.taken} times, recorded are {[a.outcome for a in n.attempts]}"
        if n.taken > 1 and not n.possible_duplicate:
            yield f"notification {n.id}: taken {n.taken} times, and not marked"
        if n.taken > 1 + n.replays and at_most_once(n, settings):
            yield f"notification {n.id}: {n.channel} is at most once, taken {n.taken} times"
        if n.status == "UNKNOWN" and not at_most_once(n, settings):
            yield f"notification {n.id}: {n.channel} is at least once, and UNKNOWN"
        unknown = [a.number for a in n.attempts if a.outcome == "unknown"]
        after = [a for a in n.attempts if unknown and a.number > unknown[0]]
        if any(not a.possible_duplicate for a in after):
            yield f"notification {n.id}: an attempt after {unknown[0]}, of unknown outcome, is not marked"


def tries_keep_to_the_schedule(facts: Facts, settings: Settings) -> Iterator[str]:
    """Never more tries than the schedule has, and none before it is due."""
    for n in facts.notifications:
        policy = settings.channel_policy(_channel(n))
        if not n.replays and n.tries > policy.max_tries:
            yield f"notification {n.id}: {n.tries} tries of {policy.max_tries}"
        for before, after in zip(n.attempts, n.attempts[1:], strict=False):
            least_s = policy.waits_s[min(before.number, policy.max_tries - 1)] * (1 - settings.retry_jitter) - CLOCKS_S
            waited_s = (after.started_at - before.ended_at).total_seconds()
            paused = before.error is not None and "released" in before.error
            if before.outcome == "unavailable" and not paused and n.tries == n.attempt and waited_s < least_s:
                yield f"notification {n.id}: attempt {after.number} came {waited_s:.3f} s after the last, due after {least_s:.3f}"


def nobody_is_told_too_often(facts: Facts, settings: Settings, losses: list[float], slack_s: float) -> Iterator[str]:
    """In any window of t seconds at most 5 + 5t/60 grants, from the last loss of Redis' data on.

    A grant is dated by its commit, which may come up to `slack_s` after the charge.
    """
    granted: dict[tuple[str, int], list[float]] = defaultdict(list)
    for event in facts.events.values():
        if _granted(event):
            at = event.routed_at.timestamp()
            granted[event.user_id, sum(loss < at for loss in losses)].append(at)
    per_s = settings.rate_limit_per_user / settings.rate_limit_window_s
    for (user, _), times in granted.items():
        times.sort()
        for first, start in enumerate(times):
            for last in range(first, len(times)):
                allowed = settings.rate_limit_per_user + per_s * (times[last] - start + slack_s)
                if last - first + 1 > allowed:
                    yield f"{user}: {last - first + 1} grants within {times[last] - start:.1f} s"


def streams_are_clean(facts: Facts, alive: set[int]) -> Iterator[str]:
    """All is acknowledged; nothing is kept that nobody needs; no consumer is left of a process (`alive`: pids) that is gone."""
    for stream in facts.streams:
        if stream.lag is None or stream.length != stream.lag + stream.pending:
            yield f"{stream.stream}: length {stream.length}, lag {stream.lag}, pending {stream.pending}"
        if stream.length:
            yield f"{stream.stream}: {stream.length} entries left"
        gone = [name for name in stream.consumers if int(name.rsplit("-", 2)[1]) not in alive]
        if gone:
            yield f"{stream.stream}: consumers of processes that are gone: {gone}"
    if facts.kept_for_ever:
        yield f"keys without expiry: {facts.kept_for_ever}"


def at_most_once(n: Notification, settings: Settings) -> bool:
    return settings.channel_policy(_channel(n)).crash_policy == "at_most_once"


def _granted(event: Event) -> bool:
    return event.status == "ROUTED" and not event.rate_limited and event.channels_used > 0


def _channel(n: Notification) -> Channel:
    return Channel(n.channel)
