"""One user's page: what they want, what they were told, what was decided, and how much more may be told now. Pure."""

from dataclasses import dataclass

from app.addresses import redis_command
from app.settings import Settings
from web import links, sql, words
from web.allowance import Allowance, allowance_command, allowance_words
from web.away import Away
from web.lookups import UserRows
from web.parts import REFRESH_S, Command, EventLine, Line, event_line, limit_words, line
from web.queries import SEARCHED_ROWS, ListRows


@dataclass(frozen=True, slots=True)
class UserPage:
    """`problems` say what could not be read; `known` False: there is no trace of such a user."""

    title: str
    refresh_s: int | None
    user: str
    preference: str
    allowance: str
    allowance_share: int | None  # tokens left, in hundredths of the capacity
    events: tuple[EventLine, ...]
    lines: tuple[Line, ...]
    more: str | None
    empty: str
    problems: tuple[str, ...]
    commands: tuple[Command, ...]


def user_page(
    settings: Settings, user_id: str, user: UserRows | Away, rows: ListRows | Away, allowance: Allowance | Away
) -> UserPage:
    """Each of the three parts may be missing."""
    about = None if isinstance(user, Away) else user
    listed = None if isinstance(rows, Away) else rows
    left = None if isinstance(allowance, Away) else allowance
    limit = limit_words(settings)
    return UserPage(
        title=user_id,
        refresh_s=REFRESH_S,
        user=user_id,
        preference=words.preference(about.preference) if about else "",
        allowance=allowance_words(left, settings) if left else "",
        allowance_share=100 * left.left // left.capacity if left else None,
        events=tuple(event_line(e, about.now, limit) for e in about.events) if about else (),
        lines=tuple(line(row, listed.now, limit) for row in listed.listed) if listed else (),
        more=links.notifications(user=user_id) if listed and listed.next_before is not None else None,
        empty=_empty(about, listed),
        problems=tuple({away.sentence: None for away in (user, rows, allowance) if isinstance(away, Away)}),
        commands=_commands(settings, user_id),
    )


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
