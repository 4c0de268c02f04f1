"""The page of people: who was told something lately, and the way to anybody else. Pure."""

from dataclasses import dataclass

from web import links, words
from web.away import Away
from web.parts import Moment, moment
from web.people_queries import NEWEST_ROWS, People, Person


@dataclass(frozen=True, slots=True)
class PersonLine:
    """One user: how many of the newest notifications were theirs, and what they opted out of."""

    user: str
    link: str
    told: str
    bad: str
    bad_link: str
    out: str
    last: Moment


@dataclass(frozen=True, slots=True)
class PeoplePage:
    """`problem`: why they could not be read."""

    title: str
    refresh_s: int | None
    find: str
    lines: tuple[PersonLine, ...]
    newest: str
    problem: str


def people_page(rows: People | Away) -> PeoplePage:
    """The page, from its rows or from why there are none."""
    read = None if isinstance(rows, Away) else rows
    return PeoplePage(
        title="People",
        refresh_s=None,
        find=links.USER,
        lines=tuple(_line(person, read) for person in read.people) if read else (),
        newest=words.number(NEWEST_ROWS),
        problem=rows.sentence if isinstance(rows, Away) else "",
    )


def _line(person: Person, rows: People) -> PersonLine:
    wants = {"EMAIL": person.email, "SMS": person.sms, "PUSH": person.push}
    return PersonLine(
        user=person.user_id,
        link=links.user(person.user_id),
        told=words.number(person.told),
        bad=words.number(person.bad) if person.bad else "",
        bad_link=links.notifications(user=person.user_id, status="FAILED or UNKNOWN"),
        out=", ".join(channel for channel, wanted in wants.items() if wanted is False),
        last=moment(person.last_at, rows.now),
    )
