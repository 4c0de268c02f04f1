"""Puts into words what does not add up, and the command that mends it. Pure."""

import shlex
from collections.abc import Iterator
from dataclasses import replace

from app.consistency.facts import NONE, Book, Carried, Facts, Suspects, counted
from app.consistency.records import SHOWN_IDS, history, keys
from app.doctor.finding import Finding, Level, fail, ok, warn
from app.settings import Settings
from app.streams import EVENTS, GROUP

TIME = "check time"


def name_of(stream: str) -> str:
    """What a finding about a stream is called: "check email"."""
    return f"check {stream.rpartition(':')[2]}"


def judge(settings: Settings, facts: Facts) -> list[Finding]:
    """One line for each stream that adds up, one for each thing that does not; then history, and keys."""
    found = [finding for book in facts.books for finding in _stream(settings, book, facts.waited_s)]
    found += [*history(settings, facts.history), *keys(settings, facts.kept)]
    if facts.cut:
        found.append(ok(TIME, "the time was over before everything was compared: what is not named was not looked at"))
    return found


def _stream(settings: Settings, book: Book, waited_s: float) -> Iterator[Finding]:
    if book.paused:
        book = replace(book, lease_over=NONE, unread=NONE, idle=NONE)
    faults = [*_rows(settings, book, waited_s), *_entries(settings, book)]
    if all(fault.level is Level.OK for fault in faults):
        yield ok(name_of(book.stream), summary(book))
    yield from faults


def summary(book: Book) -> str:
    """What is owed and what is carried, in one sentence: a reader may add it up."""
    owed, carried = book.owed, book.carried
    rows = f"{owed.all:,}{' or more' if owed.capped else ''} owed"
    if owed.all:
        at_once = f", {owed.at_once:,} sent at once" if owed.at_once else ""
        rows += f" ({owed.published:,} published, {owed.parked:,} parked{at_once}; {owed.in_flight:,} in mid-send)"
    entries = f"{carried.length:,} entries carried"
    if carried.length:
        unread = "an unknown number" if carried.lag is None else f"{carried.lag:,}"
        entries += f" ({unread} unread, {carried.pending:,} in hand or waiting for a retry)"
    paused = "; paused: its provider does not answer, or somebody paused it by hand" if book.paused else ""
    return f"{rows}, {entries}{_partly(carried)}{paused}"


def _partly(carried: Carried) -> str:
    return f"; only the oldest {carried.compared:,} were compared" if carried.compared < carried.length else ""


def _rows(settings: Settings, book: Book, waited_s: float) -> Iterator[Finding]:
    """Rows that are not where they should be."""
    what, run, within_s = name_of(book.stream), _consumers(book.stream), settings.relay_sweep_s
    had_time = waited_s > within_s  # the relay, between the two looks
    if book.lost:
        says, late_s = f"{_things(book, book.lost)} owed and on no stream{_such_as(book.lost)}", book.lost.worst_s
        if late_s > settings.reclaim_after_s + within_s and had_time:
            yield fail(what, f"{says}; the relay should have published that {_s(late_s)} ago: does no relay run?", run)
        else:
            yield warn(what, f"{says}; the relay publishes again, 500 rows every {_s(within_s)} or faster")
    if book.hidden:
        says = f"{_things(book, book.hidden)} owed and on no stream{_such_as(book.hidden)}"
        yield warn(what, f"{says}; the relay publishes again what is due, once the older entries are done")
    if book.parked_late:
        says = (
            f"{_things(book, book.parked_late)} parked{_such_as(book.parked_late)}, due for up to {_s(book.parked_late.worst_s)}"
        )
        yield _fail_if(had_time, what, f"{says}; the relay publishes within {_s(within_s)}: does no relay run?", run)
    if book.lease_over:
        says = f"{_things(book, book.lease_over)} in mid-send with a consumer that is gone{_such_as(book.lease_over)}"
        yield fail(what, f"{says}; the lease is over for up to {_s(book.lease_over.worst_s)}, and nobody takes over", run)
    if book.unread:
        says = f"{_things(book, book.unread)} due for up to {_s(book.unread.worst_s)} and unread{_such_as(book.unread)}"
        yield warn(what, f"{says}; nobody reads on", run)


def _entries(settings: Settings, book: Book) -> Iterator[Finding]:
    """Entries that are not as they should be."""
    what, stream = name_of(book.stream), shlex.quote(book.stream)
    if book.strangers:
        says = f"{book.strangers.count('entry has', 'entries have')} no row{_such_as(book.strangers)}; when read: a dead letter"
        yield warn(what, says, f"tidings redis XRANGE {stream} {book.strangers.ids[0]} + COUNT 10")
    if book.forgotten:
        says = f"{book.forgotten.count('entry is', 'entries are')} neither pending nor unread (XGROUP DELCONSUMER?)"
        then = f"; the relay removes such within {_s(settings.relay_sweep_s)} and publishes again; if this stays, no relay runs"
        yield warn(what, f"{says}{_such_as(book.forgotten)}{then}", "tidings consumers")
    if book.emptied:
        says = f"{book.emptied.count('pending entry has', 'pending entries have')} lost the content{_such_as(book.emptied)}"
        then = f"a consumer drops such within {_s(settings.reclaim_after_s)}, and the relay publishes again"
        yield warn(what, f"{says}: somebody trimmed; {then}")
    if book.idle:
        yield _idle(settings, book)
    if book.silent:
        says = f"{book.silent.count('entry was', 'entries were')} delivered up to {book.silent.worst_s:.0f} times without an end"
        then = f"each is handled alone, and after {settings.max_deliveries} times a dead letter"
        yield warn(what, f"{says}{_such_as(book.silent)}: {then}", f"tidings redis XPENDING {stream} {GROUP} - + 10")
    yield from _sums(book)
    yield from _harmless(book)


def _sums(book: Book) -> Iterator[Finding]:
    """The group's own numbers, where nothing found above explains them."""
    what, carried = name_of(book.stream), book.carried
    if carried.difference and not (book.forgotten or book.emptied):
        says = f"{carried.lag or 0:,} unread and {carried.pending:,} pending do not add up to {carried.length:,} on the stream"
        mend = f"tidings redis XINFO GROUPS {shlex.quote(book.stream)}"
        yield warn(what, f"{says}: it was trimmed, or entries were deleted by hand", mend)
    if not carried.group and carried.length:
        says = f"its group is missing, so that all it carries ({carried.length:,}) is unread: a consumer makes it again"
        yield warn(what, says, _consumers(book.stream))


def _idle(settings: Settings, book: Book) -> Finding:
    says = f"pending entries of {_names(book.idle)} are untouched for up to {_s(book.idle.worst_s)}"
    says += f"; after {_s(settings.reclaim_after_s)} a consumer takes them over"
    certain = book.idle.worst_s > 2 * settings.reclaim_after_s
    return _fail_if(certain, name_of(book.stream), says, _consumers(book.stream))


def _harmless(book: Book) -> Iterator[Finding]:
    """What looks odd and is not."""
    what, carried = name_of(book.stream), book.carried
    if leftover := carried.final + carried.parked:
        says = f"{counted(leftover, 'entry belongs', 'entries belong')} to rows that are final ({carried.final:,}) or parked"
        yield ok(what, f"{says} ({carried.parked:,}): harmless, acknowledged when read")
    if carried.doubled:
        says = f"{counted(carried.doubled, 'entry belongs', 'entries belong')} to a row that has another one"
        yield ok(what, f"{says}: harmless, one claim at a time is open")


def _fail_if(certain: bool, what: str, says: str, mend: str) -> Finding:
    return fail(what, says, mend) if certain else warn(what, says, mend)


def _consumers(stream: str) -> str:
    return "tidings consumers" if stream == EVENTS else f"tidings consumers --channels {stream.rpartition(':')[2].upper()}"


def _things(book: Book, of: Suspects) -> str:
    return of.count("event is", "events are") if book.stream == EVENTS else of.count("notification is", "notifications are")


def _such_as(suspects: Suspects) -> str:
    return f" (such as {', '.join(suspects.ids[:SHOWN_IDS])})"


def _names(suspects: Suspects) -> str:
    more = len(suspects.ids) - SHOWN_IDS
    return ", ".join(suspects.ids[:SHOWN_IDS]) + (f" and {more} more" if more > 0 else "")


def _s(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:,.0f} s"
