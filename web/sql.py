"""The SQL that gives the numbers of a page, as an operator would type it. Only shown, never run here. Pure."""
# ruff: noqa: S608 (text for people)

from app.domain import Channel, EventStatus, Status
from web.backlog_queries import FAILED_ROWS
from web.filters import Filter, iso
from web.parts import Command
from web.queries import PAGE_ROWS, SEARCHED_ROWS

_PARKED = "not done and published_at is null and status = 'PENDING'"
_ON_STREAM = "not done and published_at is not null and status = 'PENDING' and attempt > 0"


def quoted(text: str) -> str:
    """A text as SQL spells it."""
    return "'" + text.replace("'", "''") + "'"


def count_of(status: Status) -> str:
    """How many notifications have this status."""
    return f"select count(*) from notification where {_has(status)}"


def event_count_of(status: EventStatus) -> str:
    """How many events have this status."""
    condition = "not done" if status is EventStatus.NEW else f"final_status = '{status}'"
    return f"select count(*) from event where {condition}"


def rate_of(channel: str, kind: str) -> str:
    """How many a second, in the bucket under way and the one before it."""
    since = "date_bin('10 s', now(), 'epoch') - interval '10 s'"
    return (
        f"select sum(n) / extract(epoch from now() - ({since})) from tally "
        f"where width_s = 10 and channel = '{channel}' and kind = '{kind}' and started_at >= {since}"
    )


def latencies(channel: Channel, seconds: int) -> str:
    """How many were sent by bin of the time it took: a bin ends at 2 ^ (bin / 4) ms."""
    return (
        f"select 2 ^ (bin / 4.0) as up_to_ms, sum(n) from tally where width_s = 10 and channel = '{channel}' and kind = 'sent' "
        f"and bin >= 0 and started_at > now() - interval '{seconds} s' group by 1 order by 1"
    )


def in_flight(channel: Channel) -> str:
    return f"{_count_open(channel)} and status = 'PROCESSING'"


def retrying(channel: Channel) -> str:
    return f"{_count_open(channel)} and status = 'PENDING' and attempt > 0"


def parked(channel: Channel) -> str:
    """Parked before the first try: not due yet."""
    return f"{_count_open(channel)} and status = 'PENDING' and attempt = 0 and published_at is null"


def dead(channel: Channel) -> str:
    return f"select count(*) from ({_newest('notification', Status.FAILED, FAILED_ROWS)}) n where {_is_dead(channel)}"


def listing(wanted: Filter) -> tuple[Command, ...]:
    """A filtered list of notifications."""
    event = "(select e.{} from event e where e.id = event_pk) = {}"
    told = [
        _theirs(wanted.user) if wanted.user is not None else "",
        _has_one_of(wanted.statuses),
        f"channel = '{wanted.channel}'" if wanted.channel is not None else "",
        event.format("event_id", quoted(wanted.event)) if wanted.event is not None else "",
        event.format("type", quoted(wanted.type)) if wanted.type is not None else "",
        f"exists (select from attempt where notification_id = id and provider = {quoted(wanted.provider)})"
        if wanted.provider is not None
        else "",
        f"reason = {quoted(wanted.reason)}" if wanted.reason is not None else "",
        f"strpos(lower(error), lower({quoted(wanted.error)})) > 0" if wanted.error is not None else "",
        f"created_at >= '{iso(wanted.since)}'" if wanted.since is not None else "",
        f"created_at < '{iso(wanted.until)}'" if wanted.until is not None else "",
        f"id < {wanted.before}" if wanted.before is not None else "",
        f"id > {wanted.after}" if wanted.after is not None else "",
    ]
    conditions = " and ".join(part for part in told if part)
    where = f" where {conditions}" if conditions else ""
    order = "id desc" if wanted.after is None else "id"
    return (Command("this list", f"select * from notification{where} order by {order} limit {PAGE_ROWS}"),)


def mailbox() -> tuple[Command, ...]:
    """What the simulated providers took."""
    newest = "select * from attempt order by notification_id desc, number desc limit 2000"
    last = "n.id = a.notification_id and n.attempt = a.number and n.status = 'SENT' and a.provider = 'simulated'"
    joined = f"join notification n on {last} join event e on e.id = n.event_pk"
    columns = "n.id, n.channel, n.user_id, a.ended_at, e.type, e.payload"
    return (Command("what is shown", f"select {columns} from ({newest}) a {joined} order by n.id desc limit 30"),)


def story(event_pk: int) -> tuple[Command, ...]:
    """One event, its notifications, and their attempts."""
    attempts = "select a.* from attempt a join notification n on n.id = a.notification_id"
    return (
        Command("the event", f"select * from event where id = {event_pk}"),
        Command("its notifications", f"select * from notification where event_pk = {event_pk}"),
        Command("their attempts", f"{attempts} where n.event_pk = {event_pk} order by a.started_at"),
    )


def retries() -> tuple[Command, ...]:
    """What waits for its next try."""
    within = f"{_PARKED} and due_at <= now() + interval '10 minutes'"
    return (
        Command(
            "parked (waits of a reclaim window or more), due within 10 minutes",
            f"select channel, count(*) from notification where {within} group by channel",
        ),
        Command(
            "shorter waits stay pending on their stream",
            f"select channel, count(*) from notification where {_ON_STREAM} group by channel",
        ),
        Command(
            "parked on one channel, soonest first",
            f"select id, due_at, tries, error from notification where {_PARKED} and channel = 'EMAIL' order by due_at limit 50",
        ),
    )


def failures(newest: int) -> tuple[Command, ...]:
    """FAILED and UNKNOWN, of each the `newest` so many."""
    return tuple(
        Command(
            f"{status} by reason",
            f"select reason, channel, count(*) from ({_newest('notification', status, newest)}) newest group by 1, 2",
        )
        for status in (Status.FAILED, Status.UNKNOWN)
    )


def dead_letters(newest: int) -> tuple[Command, ...]:
    """Dead letters among the `newest` so many that FAILED."""
    return tuple(
        Command(
            f"{table}s, by what was recorded",
            f"select error, count(*) from ({_newest(table, Status.FAILED, newest)}) as n where reason = 'dead_letter' group by 1",
        )
        for table in ("event", "notification")
    )


def user(user_id: str) -> tuple[Command, ...]:
    """What the database knows of one user."""
    is_theirs = f"user_id = {quoted(user_id)}"
    return (
        Command("preference", f"select * from preference where {is_theirs}"),
        Command("notifications", f"select * from notification where {_theirs(user_id)} order by id desc limit {PAGE_ROWS}"),
        Command(
            f"events, among the newest {SEARCHED_ROWS:,}",
            f"select * from (select * from event order by id desc limit {SEARCHED_ROWS}) newest where {is_theirs} limit 10",
        ),
    )


def audit(who: str | None, action: str | None) -> tuple[Command, ...]:
    """The log of actions."""
    told = [f"{column} = {quoted(text)}" for column, text in (("who", who), ("action", action)) if text is not None]
    where = f" where {' and '.join(told)}" if told else ""
    return (Command("this list", f"select * from audit{where} order by id desc limit {PAGE_ROWS}"),)


def _theirs(user_id: str) -> str:
    """By the one of each event that is in the index of its user."""
    return f"event_pk in (select event_pk from notification where user_id = {quoted(user_id)} and leads)"


def _count_open(channel: Channel) -> str:
    return f"select count(*) from notification where not done and channel = '{channel}'"


def _is_dead(channel: Channel) -> str:
    return f"reason = 'dead_letter' and channel = '{channel}'"


def _has(status: Status) -> str:
    return f"final_status = '{status}'" if status.final else f"not done and status = '{status}'"


def _has_one_of(statuses: tuple[Status, ...]) -> str:
    told = " or ".join(_has(status) for status in statuses)
    return f"({told})" if len(statuses) > 1 else told


def _newest(table: str, status: str, most: int) -> str:
    return f"select * from {table} where final_status = '{status}' order by id desc limit {most}"
