"""What the check makes of facts: a table for each thing that may not add up; its last column is the line."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.consistency import Book, Facts, judge
from app.consistency.carried import Group, Pending, Seen, entry_id
from app.consistency.confirm import difference
from app.consistency.facts import Carried, History, Owed, Suspects
from app.consistency.look import Look, Patience
from app.doctor.finding import Level
from app.settings import load_settings
from app.store.consistency import OwedRow, Unsent
from app.streams import EVENTS, Head
from consumers import relay
from tests.unit.test_pages import NO_REDIS, render
from web.consistency import between, consistency

SETTINGS = load_settings(_env_file=None)
PATIENCE = Patience.of(SETTINGS)
NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
MAIL = "tidings:{0}:email"
NOTHING_WRONG = History([], {}, [], [])
GROUP = Group(length=0, lag=0, pending=0, read_to=(10, 0), last=(20, 0), exists=True)


def facts(book: Book | None = None, history: History = NOTHING_WRONG, **other: Any) -> Facts:
    return Facts(NOW, (book or Book(MAIL),), history, **other)


def faults(of: Facts) -> list[str]:
    return [f.line() for f in judge(SETTINGS, of) if f.level is not Level.OK]


def suspects(*ids: object, worst_s: float = 0.0, more: bool = False) -> Suspects:
    return Suspects(tuple(map(str, ids)), worst_s, more)


RUN = r"; mend: tidings consumers --channels EMAIL"
BOOKS: dict[str, tuple[dict[str, Any], float, str]] = {
    "lost, and the relay had its time": (
        {"lost": suspects(7, 8, worst_s=200)},
        3.5,
        r"FAIL  check email  — 2 notifications are owed and on no stream \(such as 7, 8\); the relay should have published "
        rf"that 200 s ago: does no relay run\?{RUN}",
    ),
    "lost, just now": ({"lost": suspects(7, worst_s=50)}, 3.5, r"warn .* the relay publishes again, 500 rows every 3\.0 s .*"),
    "lost, and nobody waited for the relay": (
        {"lost": suspects(7, worst_s=200)},
        1.0,
        r"warn .*the relay publishes again.*",
    ),
    "hidden": ({"hidden": suspects(7)}, 0, r"warn .* what is due, once the older entries are done"),
    "parked": (
        {"parked_late": suspects(7, worst_s=99)},
        3.5,
        rf"FAIL .* 1 notification is parked \(such as 7\), due for up to 99 s; .*{RUN}",
    ),
    "lease over": (
        {"lease_over": suspects(7, worst_s=99)},
        0,
        rf"FAIL .* the lease is over for up to 99 s, and nobody takes over{RUN}",
    ),
    "unread": (
        {"unread": suspects(7, worst_s=99)},
        0,
        rf"warn .* due for up to 99 s and unread .*nobody reads on{RUN}",
    ),
    "strangers": (
        {"strangers": suspects("5-0", "5-1", more=True)},
        0,
        r"warn .* 2 or more entries have no row .*; mend: tidings redis XRANGE 'tidings:\{0\}:email' 5-0 \+ COUNT 10",
    ),
    "forgotten": (
        {"forgotten": suspects("5-0")},
        0,
        r"warn .* 1 entry is neither pending nor unread .*if this stays, no relay.*",
    ),
    "emptied": (
        {"emptied": suspects("5-0")},
        0,
        r"warn .* 1 pending entry has lost the content .*trimmed; a consumer drops.*",
    ),
    "idle": (
        {"idle": suspects("host-1-ab", worst_s=70)},
        0,
        rf"warn .* of host-1-ab are untouched for up to 70 s; after 60 s .*{RUN}",
    ),
    "idle for two windows": ({"idle": suspects("a", worst_s=121)}, 0, rf"FAIL .* pending entries of a are untouched .*{RUN}"),
    "silent": ({"silent": suspects("5-0", worst_s=4)}, 0, r"warn .* delivered up to 4 times without an end .*after 8 times .*"),
    "a sum": (
        {"carried": Carried(length=9, lag=3, pending=4, difference=2, compared=9)},
        0,
        r"warn .* 3 unread and 4 pending do not add up to 9 on the stream: .*; mend: tidings redis XINFO GROUPS .*",
    ),
    "no group": ({"carried": Carried(length=2, lag=2, compared=2, group=False)}, 0, rf"warn .* its group is missing.*{RUN}"),
}


@pytest.mark.parametrize("name", BOOKS)
def test_a_stream_that_does_not_add_up(name: str) -> None:
    changed, waited_s, line = BOOKS[name]
    [says] = faults(facts(Book(MAIL, **changed), waited_s=waited_s))
    assert re.fullmatch(line, says), says


def test_a_paused_channel_is_not_read_on_and_that_is_right() -> None:
    """Its entries wait, on purpose; what the relay does not do is a fault all the same."""
    waits: dict[str, Any] = {kind: suspects(7, worst_s=999) for kind in ("idle", "unread", "lease_over")}
    assert len(faults(facts(Book(MAIL, **waits)))) == 3
    first, *_ = judge(SETTINGS, facts(Book(MAIL, **waits, paused=True)))
    assert first.line().endswith("0 entries carried; paused: its provider does not answer, or somebody paused it by hand")
    assert faults(facts(Book(MAIL, **waits, paused=True))) == []
    assert len(faults(facts(Book(MAIL, lost=suspects(7), paused=True)))) == 1


HISTORIES = {
    "unsent": (
        replace(NOTHING_WRONG, unsent=[Unsent(4, "SMS")]),
        r"FAIL .* SMS of event row 4: .*mend: psql .*insert into notif.*",
    ),
    "orphan": (replace(NOTHING_WRONG, orphans={5: False}), r"FAIL .* without the event \(5\).*notifications/5/cancel"),
    "finished orphan": (replace(NOTHING_WRONG, orphans={5: True}), r"warn .* 1 finished notification without the event.*"),
    "too far": (
        replace(NOTHING_WRONG, too_far=[5, 6]),
        r"warn .* above its own count of attempts \(5, 6\).*select \* from attempt.*",
    ),
    "unproved": (replace(NOTHING_WRONG, unproved=[5] * 100), r"warn .* 100 or more notifications SENT without an attempt.*"),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_records_that_contradict_each_other(name: str) -> None:
    history, line = HISTORIES[name]
    [says] = faults(facts(history=history))
    assert re.fullmatch(line, says), says


def test_what_was_not_found_out_is_neither_well_nor_wrong() -> None:
    found = {f.what: f for f in judge(SETTINGS, facts(history=replace(NOTHING_WRONG, unsent=None), cut=True))}
    assert "check history" not in found
    assert "the time was over" in found["check time"].says


def test_a_key_that_stays() -> None:
    [says] = faults(facts(kept=suspects("tidings:{0}:bucket:a b")))
    assert says.endswith("mend: tidings redis EXPIRE 'tidings:{0}:bucket:a b' 240")


def test_one_line_where_it_adds_up() -> None:
    book = Book(MAIL, Owed(published=5, parked=2, in_flight=4, at_once=3), Carried(length=5, lag=3, pending=2, compared=5))
    first = judge(SETTINGS, facts(book))[0]
    assert first.line() == (
        "ok    check email  — 10 owed (5 published, 2 parked, 3 sent at once; 4 in mid-send), "
        "5 entries carried (3 unread, 2 in hand or waiting for a retry)"
    )


def test_events_in_mid_send_are_on_their_stream() -> None:
    book = Book(EVENTS, Owed(published=5, in_flight=3), Carried(length=5, lag=2, pending=3, compared=5))
    assert "5 owed (5 published, 0 parked; 3 in mid-send), 5 entries carried" in judge(SETTINGS, facts(book))[0].says
    [late] = faults(facts(Book(EVENTS, lease_over=suspects(7, worst_s=99))))
    assert late.startswith("FAIL  check events  — 1 event is in mid-send with a consumer that is gone (such as 7)")
    assert late.endswith("and nobody takes over; mend: tidings consumers")


def test_harmless_things_are_told_beside_it() -> None:
    book = Book(MAIL, carried=Carried(length=6, lag=6, compared=5, doubled=1, final=2, parked=1))
    adds_up, leftover, doubled, *_ = judge(SETTINGS, facts(book))
    assert adds_up.says.endswith("only the oldest 5 were compared")
    assert "final (2) or parked (1): harmless" in leftover.says
    assert doubled.level is Level.OK


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def look(**known: Any) -> Look:
    return Look(MAIL, NOW, GROUP, **known)


def row(published_s: float, due_in_s: float = -100, lease_in_s: float | None = None) -> OwedRow:
    return OwedRow(7, ago(published_s), due_in_s, lease_in_s)


TAKES = [
    ("nothing carried: all that is older than the grace", None, row(31), True),
    ("younger than the grace", None, row(29), False),
    ("before the oldest entry", Seen((9, 0), 1, ago(100)), row(131), True),
    ("it may still be behind the oldest entry", Seen((9, 0), 1, ago(100)), row(129), False),
    ("the oldest entry is not readable", Seen((9, 0), 1, None), row(500), False),
    ("PostgreSQL's clock went back", Seen((9, 0), 1, ago(-5)), row(500), False),
    ("not due", None, row(500, due_in_s=3), False),
    ("under a live lease", None, row(500, lease_in_s=3), False),
]


@pytest.mark.parametrize(("oldest", "owed", "takes"), [t[1:] for t in TAKES], ids=[t[0] for t in TAKES])
def test_what_the_relay_takes(oldest: Seen | None, owed: OwedRow, takes: bool) -> None:
    assert look(oldest=oldest).relay_takes(owed, PATIENCE.grace_s) is takes


def test_the_watermark_is_the_relays_own() -> None:
    for oldest in (None, Seen((9, 0), 1, ago(9)), Seen((9, 0), 1, None), Seen((9, 0), 1, ago(-9))):
        head = Head(b"9-0", oldest.published_at, 0) if oldest else Head(None, None, 0)
        assert look(oldest=oldest).watermark() == relay.watermark(head, NOW)


def test_an_entry_is_forgotten_where_it_was_read_and_is_not_pending() -> None:
    held = {(9, 0): Pending((9, 0), "a", 1, 1)}
    met = look(entries={(8, 0): 1, (9, 0): 2, (11, 0): 3}, pending=held)
    assert met.forgotten == [(8, 0)]
    assert replace(met, cut=True).forgotten == []


def test_a_pending_entry_that_the_walk_did_not_meet_is_empty() -> None:
    held = {one: Pending(one, "a", 1, 1) for one in ((8, 0), (9, 0))}
    assert look(entries={(9, 0): 2}, pending=held).emptied == [(8, 0)]
    assert look(entries={(3, 0): 2}, pending=held, cut=True).emptied == [], "the walk ended before it"


def test_ids_compare_as_numbers() -> None:
    assert entry_id(b"9-10") > entry_id(b"9-9")
    assert entry_id(b"10-0") > entry_id(b"9-9")


def test_a_lag_that_redis_does_not_know_proves_nothing() -> None:
    assert difference(replace(GROUP, length=9, lag=None)) == 0
    assert difference(replace(GROUP, length=9, lag=3, pending=4)) == 2


BETWEEN = [
    (Book(MAIL), "Nothing is owed on the stream, and it carries nothing"),
    (Book(MAIL, Owed(published=5), Carried(length=5, compared=5)), "Each published row has its entry"),
    (Book(MAIL, Owed(published=5), Carried(length=4, compared=4)), "The difference is work that moved while this was read"),
    (Book(MAIL, Owed(published=5), Carried(length=9, compared=4)), "Only the oldest 4 entries were compared"),
    (Book(MAIL, lost=suspects(1), hidden=suspects(2)), "2 rows without an entry"),
    (
        Book(MAIL, carried=Carried(length=3, compared=3, final=1, doubled=2)),
        "1 entry of a finished row; 2 entries of rows that have another one",
    ),
]


@pytest.mark.parametrize(("book", "words"), BETWEEN)
def test_the_difference_in_words(book: Book, words: str) -> None:
    assert between(book) == words


def test_the_page_shows_the_worst_first_and_what_mends_it() -> None:
    book = Book(MAIL, lost=suspects(7, worst_s=200), strangers=suspects("5-0"))
    shown = render(consistency(SETTINGS, facts(book, waited_s=3.5))).text
    assert "It does not add up" in shown
    assert shown.index("does no relay run?") < shown.index("has no row")
    assert "looked at again 3.5 s later" in shown
    assert "mend: tidings consumers --channels EMAIL" in shown


def test_the_page_shows_no_markup_from_outside() -> None:
    hostile = "<script>alert(1)</script>"
    book = Book(MAIL, idle=suspects(hostile, worst_s=70))
    shown = render(consistency(SETTINGS, facts(book, kept=suspects(hostile))))
    assert hostile in shown.text
    assert all(src.startswith("/static/") for src in shown.attributes("script", "src"))


def test_the_page_says_why_it_cannot_compare() -> None:
    assert NO_REDIS.sentence in render(consistency(SETTINGS, NO_REDIS)).text


def test_the_page_says_that_it_was_cut() -> None:
    assert "was over before all was compared" in render(consistency(SETTINGS, facts(cut=True))).text
