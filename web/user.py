"""One user's page: what they want, what they were told, what was decided, and how much more may be told now. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.addresses import redis_command
from app.settings import Settings
from web import links, sql, words
from web.allowance import Allowance, allowance_command, allowance_words
from web.away import Away
from web.filters import Filter
from web.listing import Choosing, choosing
from web.lookups import UserRows
from web.parts import Command, EventLine, Moment, event_line, limit_words, line, moment
from web.queries import SEARCHED_ROWS, ListRows

CHANNELS = ("EMAIL", "SMS", "PUSH")  # in the order of preference's columns


@dataclass(frozen=True, slots=True)
class Wish:
    """Whether the user takes one channel."""

    channel: str
    wanted: bool


@dataclass(frozen=True, slots=True)
class UserPage:
    """`problems` say what could not be read. `next_token`, `all_tokens`: when one more is there, and when all are."""

    title: str
    section: str
    refresh_s: int | None
    user: str
    again: str
    notice: str
    preference: str
    preference_changed: Moment | None
    wishes: tuple[Wish, ...]
    save: str
    allowance: str
    allowance_share: int | None  # tokens left, in hundredths of the capacity
    next_token: Moment | None
    all_tokens: Moment | None
    events: tuple[EventLine, ...]
    list: Choosing
    filter_link: str
    older: str | None
    newer: str | None
    newest: str | None
    empty: str
    problems: tuple[str, ...]
    commands: tuple[Command, ...]


def user_page(
    settings: Settings,
    wanted: Filter,
    user: UserRows | Away,
    rows: ListRows | Away,
    allowance: Allowance | Away,
    *,
    saved: bool = False,
) -> UserPage:
    """The page of `wanted.user`. Each of the three parts may be missing."""
    about = None if isinstance(user, Away) else user
    listed = None if isinstance(rows, Away) else rows
    left = None if isinstance(allowance, Away) else allowance
    limit, user_id = limit_words(settings), wanted.user or ""
    stored = about.preference if about else None
    older, newer = (listed.next_before, listed.next_after) if listed else (None, None)
    return UserPage(
        title=user_id,
        section="People",
        refresh_s=None,
        user=user_id,
        again=links.user(user_id),
        notice="Saved. It counts from the next event on that is routed." if saved else "",
        preference=words.preference(stored) if about else "",
        preference_changed=moment(stored.updated_at, about.now) if about and stored and stored.updated_at else None,
        wishes=_wishes(about) if about else (),
        save=links.PREFERENCES,
        allowance=allowance_words(left, settings) if left else "",
        allowance_share=100 * left.left // left.capacity if left else None,
        next_token=_from_now(left.next_s, about.now) if left and about else None,
        all_tokens=_from_now(left.full_s, about.now) if left and about else None,
        events=tuple(event_line(e, about.now, limit) for e in about.events) if about else (),
        list=choosing(wanted, [line(row, listed.now, limit) for row in listed.listed] if listed else ()),
        filter_link=links.notifications(user=user_id),
        older=links.user(user_id, before=older) if older is not None else None,
        newer=links.user(user_id, after=newer) if newer is not None else None,
        newest=links.user(user_id) if wanted.before is not None or wanted.after is not None else None,
        empty=_empty(about, listed),
        problems=tuple({away.sentence: None for away in (user, rows, allowance) if isinstance(away, Away)}),
        commands=_commands(settings, user_id),
    )


def _wishes(about: UserRows) -> tuple[Wish, ...]:
    p = about.preference
    wanted = (p.email_opt_in, p.sms_opt_in, p.push_opt_in) if p else (True, True, True)
    return tuple(Wish(channel, wants) for channel, wants in zip(CHANNELS, wanted, strict=True))


def _from_now(seconds: float, now: datetime) -> Moment | None:
    return moment(now + timedelta(seconds=seconds), now) if seconds else None


def _empty(about: UserRows | None, listed: ListRows | None) -> str:
    if listed is None or listed.listed:
        return ""
    if about is not None and about.preference is None and not about.events:
        newest = words.number(SEARCHED_ROWS)
        return f"Nothing is known of this user: no preference, no notification, no event among the newest {newest}."
    return "This user has been sent nothing yet."


def _commands(settings: Settings, user_id: str) -> tuple[Command, ...]:
    return (
        *sql.user(user_id),
        Command(
            "rate limit: when the bucket is full again, in microseconds since 1970, to be held against TIME",
            allowance_command(redis_command(settings.redis_url), user_id),
        ),
    )
