"""Puts into words where the newest records contradict each other, and which keys stay for ever. Pure."""

import shlex
from collections.abc import Iterator, Sequence

from app.addresses import api_url
from app.consistency.facts import History, Suspects, counted
from app.doctor.finding import Finding, fail, ok, warn
from app.doctor.gather import for_shell
from app.settings import Settings
from app.store.consistency import NEWEST, SHOWN

HISTORY = "check history"
KEYS = "check keys"
SHOWN_IDS = 5

# Parked and due at once: the relay publishes it. A direct message had an address of its own, which is gone with its row. From
# now on each row of the event leads itself: beside a second one that leads the others would be listed twice, without one never.
OWE_AGAIN = """with told (id, channel) as (values {}),
alone as (update notification set leads = true where event_pk in (select id from told) and not leads)
insert into notification (event_pk, channel, user_id, expires_at, published_at)
select e.id, told.channel, e.user_id, e.expires_at, null from event e join told using (id)
where e.source <> 'tidings:direct' on conflict do nothing"""
ATTEMPTS = "select * from attempt where notification_id in ({}) order by notification_id, number"


def history(settings: Settings, found: History) -> Iterator[Finding]:
    """One line where the newest records agree, else one for each contradiction; none of what was not found out."""
    faults = [*_unsent(settings, found), *_orphans(settings, found), *_attempts(settings, found)]
    if not faults and found.complete:
        yield ok(HISTORY, f"the newest {NEWEST:,} events and notifications agree with each other and with their attempts")
    yield from faults


def keys(settings: Settings, kept: Suspects) -> Iterator[Finding]:
    """`kept`: rate limit keys without expiry."""
    if not kept:
        yield ok(KEYS, "every rate limit key expires")
        return
    keep_s = round(3 * settings.reclaim_after_s + settings.rate_limit_window_s)
    says = f"{kept.count('rate limit key', 'rate limit keys')} without expiry, such as {kept.ids[0]}: in memory for ever"
    yield warn(KEYS, says, f"tidings redis EXPIRE {shlex.quote(kept.ids[0])} {keep_s}")


def _unsent(settings: Settings, found: History) -> Iterator[Finding]:
    if found.unsent:
        first, pairs = found.unsent[0], [f"({u.event_pk}, {_literal(u.channel)})" for u in found.unsent[:SHOWN_IDS]]
        yield fail(
            HISTORY,
            f"{_counted(found.unsent, 'channel', 'channels')} of routed events without its notification, as {first.channel} of "
            f"event row {first.event_pk}: rows were deleted; the command owes them again, where they were not sent before",
            _psql(settings, OWE_AGAIN.format(", ".join(pairs))),
        )


def _orphans(settings: Settings, found: History) -> Iterator[Finding]:
    orphans = found.orphans or {}
    unfinished = [i for i, final in orphans.items() if not final]
    if unfinished:
        says = _counted(unfinished, "unfinished notification", "unfinished notifications")
        urls = " ".join(f"{api_url(settings)}/api/notifications/{i}/cancel" for i in unfinished[:SHOWN_IDS])
        yield fail(HISTORY, f"{says} without the event ({_some(unfinished)}): nobody knows what to send", f"curl -X POST {urls}")
    if len(unfinished) < len(orphans):
        finished = [i for i, final in orphans.items() if final]
        says = _counted(finished, "finished notification", "finished notifications")
        yield warn(HISTORY, f"{says} without the event ({_some(finished)}): somebody deleted it")


def _attempts(settings: Settings, found: History) -> Iterator[Finding]:
    kinds = (
        (found.too_far, "with attempts above its own count of attempts"),
        (found.unproved, "SENT without an attempt that was sent"),
    )
    for ids, how in kinds:
        if ids:
            says = f"{_counted(ids, 'notification', 'notifications')} {how} ({_some(ids)}): somebody changed rows by hand"
            yield warn(HISTORY, says, _psql(settings, ATTEMPTS.format(_some(ids))))


def _counted(found: Sequence[object], one: str, many: str) -> str:
    return counted(len(found), one, many, more=len(found) >= SHOWN)


def _some(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:SHOWN_IDS]))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _psql(settings: Settings, sql: str) -> str:
    return f"psql {for_shell(settings.database_url)} -c {_quoted(' '.join(sql.split()))}"


def _quoted(sql: str) -> str:
    return "'" + sql.replace("'", "'\\''") + "'"
