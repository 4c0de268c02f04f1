"""Before something is done to many notifications: how many, and what one should know; then how far it has come. Pure."""

from dataclasses import dataclass
from datetime import datetime

from app.domain import Reason
from app.replay import RATE_MAX, RATE_MIN, RATE_PER_S
from app.replay_words import REASONS
from app.settings import Settings
from web import links, words
from web.away import Away
from web.filters import Filter, filter_words, iso, query_of
from web.jobs import Job
from web.operations import RULES, Operation, Order
from web.parts import Badge, Moment, badge, limit_words, moment
from web.search_queries import COUNT_MAX, Counted, Group

JOB_REFRESH_S = 1
TWICE = "may have been sent before: the person may get it twice, and its record will say so (possible_duplicate)"
RATE = (RATE_MIN, RATE_MAX, RATE_PER_S)


@dataclass(frozen=True, slots=True)
class GroupLine:
    """How many there are of one status and reason, and of which channels."""

    badge: Badge
    why: str
    channels: str
    count: str


@dataclass(frozen=True, slots=True)
class Confirm:
    """What is asked before it is done. `hidden` is what the form sends on; `rate`: least, most, proposed; None: there is none.

    `fault`: what was wrong with the form before; `problem`: why it could not be counted.
    """

    title: str
    section: str
    refresh_s: int | None
    what: str
    groups: tuple[GroupLine, ...]
    notes: tuple[str, ...]
    warning: str
    hidden: tuple[tuple[str, str], ...]
    action: str
    rate: tuple[float, float, float] | None
    do: str
    back: str
    fault: str
    problem: str


@dataclass(frozen=True, slots=True)
class JobPage:
    """One operation, under way or over. `share`: how much is done, in hundredths; None: nobody knows."""

    title: str
    section: str
    refresh_s: int | None
    state: Badge
    sentence: str
    share: int | None
    facts: tuple[tuple[str, str], ...]
    made: Moment
    last_due: Moment | None
    trouble: str
    back: str
    jobs: str


@dataclass(frozen=True, slots=True)
class JobLine:
    link: str
    what: str
    who: str
    state: Badge
    moved: str
    made: Moment


@dataclass(frozen=True, slots=True)
class JobsPage:
    title: str
    section: str
    refresh_s: int | None
    audit: str
    lines: tuple[JobLine, ...]


def confirm(settings: Settings, order: Order, counted: Counted | Away, fault: str = "") -> Confirm:
    """The page, from the count or from why there is none."""
    found = None if isinstance(counted, Away) else counted
    rows = sum(group.rows for group in found.groups) if found else 0
    rule, limit = RULES[order.operation], limit_words(settings)
    many = f"{'at least ' if found and found.more else ''}{words.plural(rows, 'notification')}"
    return Confirm(
        title=f"{rule.verb} {many}?" if rows else f"{rule.verb}: there is nothing to {rule.verb.lower()}",
        section="Notifications",
        refresh_s=None,
        what=words.capital(order_words(order.wanted)),
        groups=_groups(found, order.operation, limit),
        notes=_notes(order, found),
        warning=_warning(order.operation, found),
        hidden=_hidden(order, found) if rows and found else (),
        action=links.ACT,
        rate=RATE if order.operation is Operation.REPLAY else None,
        do=f"{rule.verb} {'them all' if found and found.more else words.number(rows)}",
        back=links.notifications(**query_of(order.wanted)) if not order.wanted.ids else links.NOTIFICATIONS,
        fault=fault,
        problem=counted.sentence if isinstance(counted, Away) else "",
    )


def order_words(wanted: Filter) -> str:
    """What is taken, in words."""
    return f"{words.plural(len(wanted.ids), 'chosen notification')}" if wanted.ids else filter_words(wanted)


def job_page(job: Job, now: datetime) -> JobPage:
    """How far it has come."""
    rule, over = RULES[job.order.operation], job.ended_at is not None
    left = job.seen - job.moved
    facts = {
        "What": words.capital(order_words(job.order.wanted)),
        "By": job.entry.who,
        "Why": job.entry.reason,
        "Counted before": f"{'at least ' if job.at_least else ''}{words.number(job.expected)}",
        "Left alone": f"{words.number(left)}: they had changed meanwhile" if left else "",
    }
    return JobPage(
        title=f"{rule.verb}: {_state(job).text}",
        section="Notifications",
        refresh_s=None if over else JOB_REFRESH_S,
        state=_state(job),
        sentence=f"{words.plural(job.moved, 'notification')} {'is' if job.moved == 1 else 'are'} {rule.done}",
        share=100 if over and not job.trouble else min(99, 100 * job.seen // job.expected) if job.expected else None,
        facts=tuple((name, text) for name, text in facts.items() if text),
        made=moment(job.made_at, now),
        last_due=moment(job.last_due_at, now) if job.last_due_at else None,
        trouble=f"Stopped: {job.trouble} What is told here is done; the same operation again takes the rest."
        if job.trouble
        else "",
        back=links.notifications(**query_of(job.order.wanted)) if not job.order.wanted.ids else links.NOTIFICATIONS,
        jobs=links.JOBS,
    )


def jobs_page(jobs: list[Job], now: datetime) -> JobsPage:
    """The newest first."""
    lines = tuple(
        JobLine(
            links.job(job.id),
            f"{RULES[job.order.operation].verb} {order_words(job.order.wanted)}",
            job.entry.who,
            _state(job),
            words.number(job.moved),
            moment(job.made_at, now),
        )
        for job in jobs
    )
    refresh_s = JOB_REFRESH_S if any(job.ended_at is None for job in jobs) else None
    return JobsPage("Operations", "Notifications", refresh_s, links.AUDIT, lines)


def _state(job: Job) -> Badge:
    if job.trouble:
        return Badge("stopped", "bad")
    if job.ended_at:
        return Badge("done", "ok")
    return Badge("under way", "busy") if job.begun else Badge("waits for the one before", "wait")


def _groups(counted: Counted | None, operation: Operation, limit: str) -> tuple[GroupLine, ...]:
    """The biggest first."""
    by_reason: dict[tuple[str, str | None], list[Group]] = {}
    for group in counted.groups if counted else ():
        by_reason.setdefault((group.status, group.reason), []).append(group)
    lines = sorted(by_reason.values(), key=lambda same: -sum(group.rows for group in same))
    return tuple(_group(same, operation, limit) for same in lines)


def _group(same: list[Group], operation: Operation, limit: str) -> GroupLine:
    status, reason = same[0].status, same[0].reason
    known = REASONS.get(reason or "") if operation is Operation.REPLAY else None
    why = known or (words.reason(reason, limit) if reason else "")
    channels = ", ".join(f"{group.channel} {words.number(group.rows)}" for group in sorted(same, key=lambda g: -g.rows))
    return GroupLine(badge(status), words.capital(why), channels, words.number(sum(group.rows for group in same)))


def _notes(order: Order, counted: Counted | None) -> tuple[str, ...]:
    if counted is None:
        return ()
    notes, rows = [], sum(group.rows for group in counted.groups)
    if order.wanted.ids and rows < len(order.wanted.ids):
        notes.append(f"{words.number(rows)} of the {words.plural(len(order.wanted.ids), 'chosen one')} can be taken.")
    if counted.more:
        to = f"back to {words.utc(counted.to)}" if counted.to else f"to {words.number(COUNT_MAX)}"
        notes.append(f"Counted {to}; there may be more, and they are taken, too.")
    if order.operation is Operation.REPLAY and any(group.reason == Reason.EXPIRED for group in counted.groups):
        notes.append("What is past its expiresAt will end as expired once more.")
    if rows:
        notes.append("What ends after this count is not taken.")
    return tuple(notes)


def _warning(operation: Operation, counted: Counted | None) -> str:
    doubtful = sum(group.doubtful for group in counted.groups) if counted else 0
    if operation is not Operation.REPLAY or not doubtful:
        return ""
    least = "At least " if counted and counted.more else ""
    return f"{least}{words.number(doubtful)} of them {TWICE}."


def _hidden(order: Order, counted: Counted) -> tuple[tuple[str, str], ...]:
    rows = sum(group.rows for group in counted.groups)
    told = {
        "do": f"{order.operation}-{'selected' if order.wanted.ids else 'all'}",
        "as_of": iso(counted.as_of),
        "counted": str(rows),
        **({"more": "1"} if counted.more else {}),
        **({} if order.wanted.ids else {name: str(value) for name, value in query_of(order.wanted).items()}),
    }
    return (*told.items(), *(("id", str(one)) for one in order.wanted.ids))
