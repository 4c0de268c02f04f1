"""Ready-made data for pages: empty, typical, huge and hostile. Rows as the database would give them, at one fixed moment."""

from datetime import UTC, datetime, timedelta
from typing import Any

from app.domain import Channel, EventStatus, Status
from app.models import Attempt, Event, Notification
from app.pauses import Pause
from app.settings import load_settings
from app.stream_stats import STREAMS, ConsumerStats, StreamStats
from app.streams import EVENTS, channel_stream
from app.tally import Kind
from web.access import Access, Role
from web.backlog_queries import Backlog
from web.charts import points_of
from web.counts import Count, CountRows, Owed, OwedRows, Precision
from web.lookups import EventRows, StoryRows
from web.queries import Listed, ListRows
from web.rate_queries import SPANS, ChartRows, RateRows
from web.snapshot import Lately, Now, Snapshot

NOW = datetime(2026, 11, 22, 3, 0, 0, tzinfo=UTC)
SETTINGS = load_settings(_env_file=None)
LIMIT = "rate limited: more than 5 events in 60 s"
TOKEN = "t" * 43
OPERATOR, VIEWER = Access("ann", Role.OPERATOR, TOKEN), Access("vic", Role.VIEWER, TOKEN)
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\u202e{{ 7*7 }}"


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def event(**other: Any) -> Event:
    """A routed event of user_123, accepted 100 s ago."""
    known = {
        "id": 7, "source": "", "event_id": "evt-123", "type": "ORDER_PLACED", "user_id": "user_123",
        "payload": {"orderAmount": 250}, "occurred_at": ago(101), "status": EventStatus.ROUTED.value,
        "decisions": decisions(EMAIL="default", SMS="default", PUSH="default"),
        "due_at": ago(100), "published_at": ago(100), "created_at": ago(100), "updated_at": ago(99.98),
    }  # fmt: skip
    return Event(**{**known, **other})


def claimed(held_s: float = 27, **other: Any) -> Event:
    """The event while it is sent at once: claimed 3 s ago, 97 s after it was accepted; a negative `held_s`: its hold is over."""
    known = {"status": EventStatus.NEW.value, "claimed_by": "host-9-ff", "claimed_at": ago(3), "lease_until": ago(-held_s)}
    return event(**{**known, "first_id": 70, "updated_at": ago(3), **other})


def decisions(**reasons: str) -> dict[str, Any]:
    """What route stores: used for `default` and `opted_in`, otherwise not."""
    return {channel: {"use": reason in ("default", "opted_in"), "reason": reason} for channel, reason in reasons.items()}


def notification(status: Status = Status.SENT, channel: str = "EMAIL", **other: Any) -> Notification:
    """The event's notification on one channel, made 99.98 s ago."""
    known = {
        "id": 70, "event_pk": 7, "channel": channel, "user_id": "user_123", "status": status.value, "attempt": 1, "tries": 1,
        "due_at": ago(99.98), "published_at": ago(99.98), "created_at": ago(99.98), "updated_at": ago(99),
    }  # fmt: skip
    return Notification(**{**known, **other})


def attempt(number: int = 1, outcome: str = "sent", started: float = 99.8, took: float = 0.5, **other: Any) -> Attempt:
    """An attempt at the notification, started so many seconds ago."""
    known = {
        "notification_id": 70, "number": number, "provider": "simulated", "consumer": "host-1-ab", "outcome": outcome,
        "started_at": ago(started), "ended_at": ago(started - took),
    }  # fmt: skip
    return Attempt(**{**known, **other})


def story_rows(of: Event, notifications: list[Notification] | None = None, attempts: list[Attempt] | None = None) -> StoryRows:
    return StoryRows(NOW, of, notifications or [], attempts or [])


def consumer(name: str = "host-1-ab", pending: int = 0, idle_s: float = 0.2) -> ConsumerStats:
    return ConsumerStats(name, pending, idle_s, idle_s)


def stream(name: str, **other: Any) -> StreamStats:
    """A stream with nothing in it and one live consumer."""
    known: dict[str, Any] = {
        "length": 0, "lag": 0, "pending": 0, "oldest_s": None, "oldest_unread_s": None, "group": True, "consumers": (consumer(),)
    }  # fmt: skip
    return StreamStats(stream=name, **{**known, **other})


def streams(**changed: dict[str, Any]) -> list[StreamStats]:
    """All streams, read up; `changed` by the last part of the name."""
    return [stream(name, **changed.get(name.rpartition(":")[2], {})) for name in STREAMS]


def pause(reason: str = "answered 401: no such token", consumer: str = "host-1-ab", since_s: float = 200) -> Pause:
    """A channel that one consumer has paused."""
    return Pause(consumer, reason, since_s, probe_in_s=1, probe_every_s=4)


def owed(**changed: Owed) -> OwedRows:
    """Nothing owed; `changed` by the last part of the stream's name."""
    names = [EVENTS, *(channel_stream(c) for c in Channel)]
    return OwedRows(NOW, {name: changed.get(name.rpartition(":")[2], Owed(None, None)) for name in names})


def counts(n: int = 0, precision: Precision = Precision.EXACT) -> CountRows:
    return CountRows({s: Count(n, precision) for s in Status}, {s: Count(n, precision) for s in EventStatus})


def listed(*notifications: Notification, **other: Any) -> ListRows:
    return ListRows(NOW, [Listed(n, "evt-123", "ORDER_PLACED") for n in notifications], **other)


def events(*found: Event) -> EventRows:
    return EventRows(NOW, list(found))


def snapshot(**parts: Any) -> Snapshot:
    """One look where all is well and empty, but for `parts`."""
    now: dict[str, Any] = {
        "streams": streams(), "owed": owed(), "pauses": {}, "holds": {}, "rates": RateRows(15.0, {}), "faults": {}
    }  # fmt: skip
    lately: dict[str, Any] = {
        "counts": counts(), "newest": listed(), "failed": events(), "backlog": backlog(), "latencies": {}
    }  # fmt: skip
    return Snapshot(
        Now(**{**now, **{k: v for k, v in parts.items() if k in now}}),
        Lately(NOW, **{**lately, **{k: v for k, v in parts.items() if k in lately}}),
    )


def backlog(**changed: Backlog) -> dict[Channel, Backlog]:
    """Nothing open; `changed` by channel."""
    return {channel: changed.get(channel.lower(), Backlog()) for channel in Channel}


def chart_rows(per_point: int = 0, span: int = 0) -> ChartRows:
    """So many of everything in each point of a span."""
    times = points_of(NOW, SPANS[span])
    every = [("", Kind.ACCEPTED), *((c.value, kind) for c in Channel for kind in Kind)]
    counted: dict[tuple[str, str], dict[datetime, int]] = {(c, str(k)): dict.fromkeys(times, per_point) for c, k in every}
    return ChartRows(NOW, SPANS[span], counted if per_point else {}, {t: {36: per_point} for t in times} if per_point else {})
