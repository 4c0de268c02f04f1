"""What several pages are made of: a moment, a coloured status, one line of a list. Plain records, built by pure functions."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from app.domain import EventStatus, Outcome, Status
from app.models import Event
from app.settings import Settings
from web import links, words
from web.queries import Listed

REFRESH_S = 5

# Status -> the colour class of its badge; the badge always has the word, too.
_TONES: dict[str, str] = {
    Status.PENDING: "wait",
    Status.PROCESSING: "busy",
    Status.SENT: "ok",
    Status.FAILED: "bad",
    Status.UNKNOWN: "warn",
    Status.CANCELLED: "mute",
    EventStatus.NEW: "wait",
    EventStatus.ROUTED: "ok",
}
# What one call came to, as a colour class and as a sign that needs no colour.
OUTCOME_TONES: dict[str, str] = {
    Outcome.SENT: "ok",
    Outcome.REJECTED: "bad",
    Outcome.UNAVAILABLE: "wait",
    Outcome.UNKNOWN: "warn",
}
OUTCOME_SIGNS: dict[str, str] = {Outcome.SENT: "✓", Outcome.REJECTED: "✕", Outcome.UNAVAILABLE: "↻", Outcome.UNKNOWN: "?"}


@dataclass(frozen=True, slots=True)
class Moment:
    """A time for `<time>`: for machines, as a person reads UTC, and relative to when the page was made."""

    iso: str
    utc: str
    ago: str


@dataclass(frozen=True, slots=True)
class Command:
    """What an operator types to get a number of this page: SQL, or a line for the shell."""

    what: str
    text: str


@dataclass(frozen=True, slots=True)
class Badge:
    """A status in its colour."""

    text: str
    tone: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart: `share` is its length in percent of the longest, `tone` its colour class."""

    label: str
    value: str
    share: int
    tone: str = "busy"
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One notification in a list."""

    id: int
    created: Moment
    user: str
    user_link: str
    event_id: str
    story_link: str
    event_type: str
    channel: str
    badge: Badge
    attempts: int
    possible_duplicate: bool
    why: str


@dataclass(frozen=True, slots=True)
class EventLine:
    """One event in a list; `why` says what was decided, or why it failed. `id` is the row's."""

    id: int
    event_id: str
    source: str
    story_link: str
    event_type: str
    user: str
    user_link: str
    created: Moment
    badge: Badge
    why: str


def limit_words(settings: Settings) -> str:
    """The rate limit as a sentence."""
    return words.rate_limit(settings.rate_limit_per_user, settings.rate_limit_window_s)


def moment(then: datetime, now: datetime) -> Moment:
    """`then` as seen from `now`; both with a time zone."""
    utc = then.astimezone(UTC)
    iso = utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Moment(iso, f"{utc:%Y-%m-%d %H:%M:%S}Z", words.ago(then, now))


def badge(status: str) -> Badge:
    """A status this page does not know is shown without colour."""
    return Badge(status, _TONES.get(status, "mute"))


def bar_rows(counts: Iterable[tuple[str, int]], tone: str = "busy") -> tuple[Bar, ...]:
    """A bar for each label and its number, in their order; whatever is not 0 can be seen."""
    pairs = list(counts)
    most = max((n for _, n in pairs), default=0)
    return tuple(Bar(label, words.number(n), max(1, round(100 * n / most)) if n else 0, tone) for label, n in pairs)


def line(listed: Listed, now: datetime, limit: str) -> Line:
    """`limit` is the sentence of the rate limit."""
    n = listed.notification
    return Line(
        id=n.id,
        created=moment(n.created_at, now),
        user=n.user_id,
        user_link=links.user(n.user_id),
        event_id=listed.event_id,
        story_link=links.story(n.event_pk),
        event_type=listed.event_type,
        channel=n.channel,
        badge=badge(n.status),
        attempts=n.attempt,
        possible_duplicate=n.possible_duplicate,
        why=words.why(n.reason, n.error, limit),
    )


def event_line(event: Event, now: datetime, limit: str) -> EventLine:
    """`limit` is the sentence of the rate limit."""
    return EventLine(
        id=event.id,
        event_id=event.event_id,
        source=event.source,
        story_link=links.story(event.id),
        event_type=event.type,
        user=event.user_id,
        user_link=links.user(event.user_id),
        created=moment(event.created_at, now),
        badge=badge(event.status),
        why=words.why(event.reason, event.error, limit) or words.decisions(event.decisions, limit),
    )
