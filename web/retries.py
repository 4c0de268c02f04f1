"""The page of retries: what waits for its next try, soonest first, and how many come due when. Pure."""

from dataclasses import dataclass

from app.domain import Channel
from app.settings import Settings
from web import links, sql, words
from web.away import Away
from web.parts import REFRESH_S, Bar, Command, Moment, moment
from web.queries import Listed
from web.retry_queries import CARRIED_ROWS, PARKED_ROWS, RetryRows

WITHIN = (("1 minute", 1), ("10 minutes", 10), ("1 hour", 60))


@dataclass(frozen=True, slots=True)
class RetryLine:
    """One that waits. `tries` is how many of the allowed ones are used; `error` is what the last one came to."""

    due: Moment
    due_words: str
    overdue: bool
    channel: str
    user: str
    user_link: str
    event_id: str
    story_link: str
    event_type: str
    tries: str
    where: str
    error: str


@dataclass(frozen=True, slots=True)
class DueLine:
    """How many of one channel come due; cells in the order of Retries.columns."""

    channel: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Histogram:
    """What of one channel comes due in the next hour, by the minute."""

    channel: str
    columns: tuple[Bar, ...]
    says: str


@dataclass(frozen=True, slots=True)
class Retries:
    """`problem`: why it could not be read; then the rest is empty."""

    title: str
    refresh_s: int | None
    columns: tuple[str, ...]
    due: tuple[DueLine, ...]
    histograms: tuple[Histogram, ...]
    lines: tuple[RetryLine, ...]
    left_out: str
    notes: tuple[str, ...]
    problem: str
    commands: tuple[Command, ...]


def retries(settings: Settings, rows: RetryRows | Away) -> Retries:
    """The page, from its rows or from why there are none."""
    answered = None if isinstance(rows, Away) else rows
    return Retries(
        title="Retries",
        refresh_s=REFRESH_S,
        columns=("due now", *(f"within {name}" for name, _ in WITHIN), "all that wait"),
        due=_due_lines(answered) if answered else (),
        histograms=tuple(_histogram(channel, answered) for channel in answered.places) if answered else (),
        lines=tuple(_line(settings, row, answered) for row in answered.listed) if answered else (),
        left_out=_left_out(answered) if answered else "",
        notes=_notes(answered) if answered else (),
        problem=rows.sentence if isinstance(rows, Away) else "",
        commands=sql.retries(),
    )


def _due_lines(rows: RetryRows) -> tuple[DueLine, ...]:
    lines = [DueLine(channel, _cells(places, channel in rows.capped)) for channel, places in rows.places.items()]
    together = [sum(column) for column in zip(*rows.places.values(), strict=True)]
    return (*lines, DueLine("together", _cells(together, bool(rows.capped))))


def _cells(places: list[int], capped: bool) -> tuple[str, ...]:
    """Each counts those before it, too."""
    numbers = (*(sum(places[: 1 + minutes]) for minutes in (0, *(minutes for _, minutes in WITHIN))), sum(places))
    return tuple(f"{words.number(n)}{' or more' if capped else ''}" for n in numbers)


def _histogram(channel: Channel, rows: RetryRows) -> Histogram:
    """Of the next hour, by the minute; all channels on one scale."""
    most = max((n for places in rows.places.values() for n in places[1:-1]), default=0) or 1
    places = rows.places[channel]
    columns = tuple(
        Bar(f"in {minute} to {minute + 1} min", words.number(n), -(-100 * n // most), "wait")
        for minute, n in enumerate(places[1:-1])
    )
    return Histogram(
        channel,
        columns,
        f"{words.number(sum(places[1:-1]))} in the next hour, at most {words.number(max(places[1:-1]))} in a minute",
    )


def _left_out(rows: RetryRows) -> str:
    more = sum(sum(places) for places in rows.places.values()) - len(rows.listed)
    return f"and {words.number(more)} more, due later" if more > 0 else ""


def _notes(rows: RetryRows) -> tuple[str, ...]:
    if not rows.capped:
        return ()
    names = " and ".join(sorted(rows.capped))
    return (
        f"A big backlog on {names}: looked at the {words.number(PARKED_ROWS)} that are parked and due soonest, and at the "
        f"{words.number(CARRIED_ROWS)} on the stream that were published first.",
    )


def _line(settings: Settings, listed: Listed, rows: RetryRows) -> RetryLine:
    n = listed.notification
    due = moment(n.due_at, rows.now)
    wait_s = (n.due_at - rows.now).total_seconds()
    return RetryLine(
        due=due,
        due_words=f"in {words.duration(wait_s)}" if wait_s > 0 else f"due for {words.duration(-wait_s)}",
        overdue=wait_s <= 0,
        channel=n.channel,
        user=n.user_id,
        user_link=links.user(n.user_id),
        event_id=listed.event_id,
        story_link=links.story(n.event_pk),
        event_type=listed.event_type,
        tries=_tries(n.tries, n.attempt, n.replays, settings, n.channel),
        where="parked" if n.published_at is None else "on its stream",
        error=n.error or "",
    )


def _tries(tries: int, attempts: int, replays: int, settings: Settings, channel: str) -> str:
    """ "2 of 7"; where it was replayed, the attempts before count no more."""
    allowed = f" of {settings.channel_policy(Channel(channel)).max_tries}" if channel in set(Channel) else ""
    return f"{tries}{allowed}{f', replayed: {attempts} in all' if replays else ''}"
