"""What the simulated providers "sent", and what they answered lately: read only, on indexes that are there anyway, bounded."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, Subquery, Text, and_, cast, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlmodel import col

from app.domain import Channel, Status
from app.models import Attempt, Event, Notification
from app.settings import SIMULATED
from app.store.of_user import along
from web.queries import reading, unfinished

LOOKED_AT = 2_000  # newest calls, or notifications of a user, among which the simulated ones are searched
SHOWN = 30
SHOWN_OF_EACH = 8  # where all channels are shown
PAYLOAD_CHARS = 20_000
WAITING_ROWS = 1_000  # unfinished notifications counted, per channel
CALLS_OF = 300  # newest notifications whose attempts are shown


@dataclass(frozen=True, slots=True)
class MailFilter:
    """What the mailbox shows; `before` is the id that the page before it ended with."""

    user: str | None = None
    channel: Channel | None = None
    before: int | None = None


class Sent(NamedTuple):
    """One message that a simulated provider took. `payload` is JSON text, at most PAYLOAD_CHARS of it and one more."""

    id: int
    event_pk: int
    event_id: str
    event_type: str
    user_id: str
    channel: str
    address: str | None
    attempt: int
    possible_duplicate: bool
    started_at: datetime
    ended_at: datetime
    payload: str


@dataclass(frozen=True, slots=True)
class MailRows:
    """The newest of each channel, or one page of the channel that was asked for; `next_before` None: the last one.

    `waiting`: not sent yet, per channel.
    """

    now: datetime
    sent: list[Sent]
    next_before: int | None
    waiting: dict[str, int]


class Called(NamedTuple):
    """One call to a provider. `ended_at` and `outcome` are None for one that is under way."""

    channel: str
    event_pk: int
    number: int
    provider: str | None
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class CallRows:
    """The calls for the newest CALLS_OF notifications, the newest first."""

    now: datetime
    calls: list[Called]


async def mailbox(engine: AsyncEngine, wanted: MailFilter) -> MailRows:
    """What was sent; the next page of a channel has `before = next_before`."""
    candidates = _candidates(wanted)
    most = SHOWN + 1 if wanted.channel else SHOWN_OF_EACH
    async with reading(engine) as (session, now):
        found: list[Sent] = []
        for channel in (wanted.channel,) if wanted.channel else Channel:
            found += [Sent(*row) for row in await session.execute(_sent(candidates, channel, most))]
        more = None
        if wanted.channel:
            more = found[SHOWN - 1].id if len(found) > SHOWN else await _not_looked_at(session, candidates)
        waiting = dict((await session.execute(_waiting())).all())
    return MailRows(now, found[:SHOWN], more, waiting)


async def calls(engine: AsyncEngine) -> CallRows:
    """What the providers answered lately, and who has not answered yet."""
    newest = select(Notification).order_by(col(Notification.id).desc()).limit(CALLS_OF).subquery()
    n, a = newest.c, Attempt
    ended = select(
        n.channel, n.event_pk, col(a.number), col(a.provider), col(a.started_at), col(a.ended_at), col(a.outcome), col(a.error)
    ).join(newest, col(a.notification_id) == n.id)
    open_ = select(n.channel, n.event_pk, n.attempt, n.claimed_at).where(n.status == Status.PROCESSING)
    async with reading(engine) as (session, now):
        found = [Called(*row) for row in await session.execute(ended)]
        under_way = [Called(*row[:3], None, row[3] or now, None, None, None) for row in await session.execute(open_)]
    return CallRows(now, sorted((*found, *under_way), key=lambda call: call.started_at, reverse=True))


def _candidates(wanted: MailFilter) -> Subquery:
    """`id` and `attempt`: the newest calls, so that no backlog that was never tried is walked through; or those of one user."""
    if wanted.user is not None:
        return along(wanted.user, wanted.before, LOOKED_AT).subquery()
    columns: list[Any] = [col(Attempt.notification_id).label("id"), col(Attempt.number).label("attempt")]
    query: Select[Any] = select(*columns).order_by(*(column.desc() for column in columns)).limit(LOOKED_AT)
    return (query if wanted.before is None else query.where(columns[0] < wanted.before)).subquery()


def _sent(candidates: Subquery, channel: Channel, most: int) -> Select[Any]:
    n, a, e = Notification, Attempt, Event
    last = and_(col(n.id) == candidates.c.id, col(n.attempt) == candidates.c.attempt)
    simulated = and_(col(a.notification_id) == col(n.id), col(a.number) == col(n.attempt), col(a.provider) == SIMULATED)
    columns: list[Any] = [
        col(n.id), col(n.event_pk), col(e.event_id), col(e.type), col(n.user_id), col(n.channel), col(n.address), col(n.attempt),
        col(n.possible_duplicate), col(a.started_at), col(a.ended_at), func.left(cast(col(e.payload), Text), PAYLOAD_CHARS + 1),
    ]  # fmt: skip
    query: Select[Any] = select(*columns)
    return (
        query.select_from(candidates)
        .join(n, last)
        .join(a, simulated)
        .join(e, col(e.id) == col(n.event_pk))
        .where(col(n.final_status) == Status.SENT, col(n.channel) == channel)
        .order_by(col(n.id).desc())
        .limit(most)
    )


async def _not_looked_at(session: AsyncSession, candidates: Subquery) -> int | None:
    """The page is not full: where the search shall go on, None where it has seen all."""
    n, last = (await session.execute(select(func.count(), func.min(candidates.c.id)).select_from(candidates))).one()
    return last if n == LOOKED_AT else None


def _waiting() -> Select[str, int]:
    each = [
        select(col(Notification.channel))
        .where(unfinished(Notification), col(Notification.channel) == channel)
        .order_by(col(Notification.published_at))
        .limit(WAITING_ROWS)
        for channel in Channel
    ]
    open_ = union_all(*(select(one.subquery()) for one in each)).subquery()
    return select(open_.c.channel, func.count()).group_by(open_.c.channel)
