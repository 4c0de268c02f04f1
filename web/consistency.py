"""The page "Does it add up?": per stream what is owed beside what is carried, the difference in words, and what is wrong."""

from collections.abc import Iterator
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.consistency import Book, Facts, check, judge
from app.doctor.finding import Finding, Level
from app.logs import hide_password
from app.settings import Settings
from web.away import FAILURES, POSTGRESQL, REDIS, Away, how_it_failed
from web.health import stream_name
from web.parts import Badge, Command, Moment, moment
from web.words import capital, duration, number, plural

LIMIT_S = 8.0  # for all of it; half of it at most is the pause between the two looks
TONES = {Level.OK: "ok", Level.WARN: "warn", Level.FAIL: "bad"}
HEADLINES = {Level.OK: "It adds up", Level.WARN: "Not everything adds up", Level.FAIL: "It does not add up"}
COLOURS = {Level.OK: "ok", Level.WARN: "warn", Level.FAIL: "down"}  # of the headline


@dataclass(frozen=True, slots=True)
class BookLine:
    """One stream: rows in PostgreSQL, then entries in Redis, then what lies between them."""

    name: str
    key: str
    owed: str
    parked: str
    in_flight: str
    carried: str
    unread: str
    in_hand: str
    between: str


@dataclass(frozen=True, slots=True)
class FindingLine:
    badge: Badge
    what: str
    says: str
    mend: str


@dataclass(frozen=True, slots=True)
class Consistency:
    """`problem`: why it could not be compared; then the rest is empty. It costs seconds, so it is not asked again by itself."""

    title: str
    refresh_s: int | None
    headline: str
    colour: str
    made: Moment | None
    notes: tuple[str, ...]
    lines: tuple[BookLine, ...]
    findings: tuple[FindingLine, ...]
    problem: str
    commands: tuple[Command, ...]


async def compare(settings: Settings, redis: Redis) -> Facts | Away:
    """The facts, or Away where a server cannot be asked."""
    try:
        return await check(settings, redis, LIMIT_S)
    except FAILURES as error:
        server = REDIS if isinstance(error, RedisError) else POSTGRESQL
        return Away(server, f"{server} {how_it_failed(error)}.")


def consistency(settings: Settings, facts: Facts | Away) -> Consistency:
    """The page, from the facts or from why there are none. Pure."""
    answered = None if isinstance(facts, Away) else facts
    found = judge(settings, answered) if answered else []
    worst = next((level for level in (Level.FAIL, Level.WARN) if any(f.level is level for f in found)), Level.OK)
    return Consistency(
        title="Does it add up?",
        refresh_s=None,
        headline=HEADLINES[worst],
        colour=COLOURS[worst],
        made=moment(answered.now, answered.now) if answered else None,
        notes=tuple(_notes(answered)) if answered else (),
        lines=tuple(_line(book) for book in answered.books) if answered else (),
        findings=tuple(finding_line(f) for f in sorted(found, key=lambda f: list(TONES).index(f.level), reverse=True)),
        problem=facts.sentence if isinstance(facts, Away) else "",
        commands=(Command("the same in a terminal", "tidings doctor --deep"),),
    )


def between(book: Book) -> str:
    """Why there are more, or fewer, entries than published rows."""
    parts = list(_parts(book))
    if parts:
        return capital("; ".join(parts))
    if book.carried.compared < book.carried.length:
        return f"Only the oldest {number(book.carried.compared)} entries were compared"
    if book.carried.length == book.owed.published:
        return (
            "Each published row has its entry" if book.owed.published else "Nothing is owed on the stream, and it carries nothing"
        )
    return "The difference is work that moved while this was read"


def _parts(book: Book) -> Iterator[str]:
    carried = book.carried
    counted = (
        (len(book.lost.ids) + len(book.hidden.ids), "row without an entry", "rows without an entry"),
        (carried.final, "entry of a finished row", "entries of finished rows"),
        (carried.parked, "entry of a parked row", "entries of parked rows"),
        (carried.doubled, "entry of a row that has another one", "entries of rows that have another one"),
        (len(book.strangers.ids), "entry without a row", "entries without a row"),
        (len(book.forgotten.ids), "entry that its group forgot", "entries that their group forgot"),
        (len(book.emptied.ids), "pending entry that lost its content", "pending entries that lost their content"),
    )
    for n, one, many in counted:
        if n:
            yield plural(n, one, many)


def _line(book: Book) -> BookLine:
    owed, carried = book.owed, book.carried
    return BookLine(
        name=stream_name(book.stream),
        key=book.stream,
        owed=f"{number(owed.all)}{' or more' if owed.capped else ''}",
        parked=number(owed.parked),
        in_flight=number(owed.in_flight),
        carried=number(carried.length),
        unread="unknown" if carried.lag is None else number(carried.lag),
        in_hand=number(carried.pending),
        between=between(book),
    )


def finding_line(found: Finding) -> FindingLine:
    """What the doctor found, as a row of a table."""
    what = found.what.removeprefix("check ")
    return FindingLine(Badge(found.level.lower(), TONES[found.level]), what, hide_password(found.says), found.mend or "")


def _notes(facts: Facts) -> Iterator[str]:
    if facts.cut:
        yield f"The time for it ({duration(LIMIT_S)}) was over before all was compared: what was not looked at is not judged."
    if facts.waited_s:
        yield f"Something did not fit at first sight, and was looked at again {duration(facts.waited_s)} later."
