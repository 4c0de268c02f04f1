"""The pages that move, with ready-made data: cards, charts and streams; and the messages that keep them as they are."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.types import Message

from app.domain import Channel
from app.streams import DEAD, EVENTS, channel_stream
from tests.unit import ready_made as made
from tests.unit.ready_made import NOW, SETTINGS
from tests.unit.test_pages import Document, page_of, render
from web.away import POSTGRESQL, REDIS, Away
from web.backlog_queries import Backlog
from web.cards import Card
from web.charts import charts
from web.live import Events, encoders, entry_id, span_of
from web.overview import overview
from web.rate_queries import SPANS, RateRows
from web.render import html
from web.stream_queries import Entry, Held, StreamRows
from web.streams import known_stream, stream_page, streams

MAIL = channel_stream(Channel.EMAIL)
BUSY = made.streams(email={"length": 12, "lag": 2, "pending": 10, "oldest_s": 3.2, "oldest_unread_s": 0.1})


def card(title: str, **parts: Any) -> Card:
    return next(c for c in page_of(**parts).now.cards if c.title == title)


def texts(of: Any) -> dict[str, str]:
    return {fact.label: fact.text for fact in of}


def rows(**other: Any) -> StreamRows:
    known = {
        "now": NOW, "stats": BUSY[1], "entries": (), "deliveries": (), "first_page": True, "next_after": None
    }  # fmt: skip
    return StreamRows(**{**known, **other})


# ---- the overview


def test_a_card_says_how_fast_and_how_far() -> None:
    counted = RateRows(15.0, {("EMAIL", "accepted"): 186, ("EMAIL", "sent"): 150, ("EMAIL", "retried"): 45})
    mail = card("EMAIL", streams=BUSY, rates=counted, backlog=made.backlog(email=Backlog(3, 7, 2, "busy", False, 1)))
    assert texts(mail.rates) == {"in": "12.4", "sent": "10.0", "retried": "3.0", "failed": "0"}
    assert texts(mail.facts) == {
        "oldest": "3.2 s", "to be read": "2", "in hand": "10", "consumers": "1",
        "being sent": "3", "wait for a retry": "7", "parked": "2", "dead letters": "1",
    }  # fmt: skip
    assert (mail.badge.text, mail.tone) == ("working", "mute")


def test_every_number_of_a_card_has_its_command() -> None:
    for one in page_of(streams=BUSY).now.cards:
        assert all(fact.command for fact in (*one.rates, *one.facts, *one.latency))


def test_latencies_of_a_card() -> None:
    assert texts(card("SMS", latencies={"SMS": {36: 90, 48: 10}}).latency) == {"p50": "474 ms", "p95": "3.8 s", "p99": "4.0 s"}
    assert texts(card("SMS").latency) == {"p50": "–", "p95": "–", "p99": "–"}


def test_a_card_in_trouble_says_so_in_words_and_colour() -> None:
    late = made.streams(email={"length": 9, "lag": 9, "oldest_s": 40.0, "oldest_unread_s": 40.0})
    mail = card("EMAIL", streams=late, backlog=made.backlog(email=Backlog(cause="answered 429")))
    assert (mail.badge.text, mail.badge.tone, mail.tone) == ("40 s behind", "warn", "warn")
    text = render(page_of(streams=late, backlog=made.backlog(email=Backlog(cause="answered 429")))).text
    assert "EMAIL is 40 s behind, 9 to be read: attempts fail with “answered 429”." in text


def test_more_than_was_looked_at_is_said() -> None:
    assert texts(card("PUSH", backlog=made.backlog(push=Backlog(2000, 10, capped=True))).facts)["being sent"] == "2,000 or more"


def test_what_postgresql_cannot_say_is_unknown_not_zero() -> None:
    away = Away(POSTGRESQL, "PostgreSQL took too long over a query.")
    mail = card("EMAIL", rates=away, backlog=away, latencies=away)
    assert set(texts(mail.rates).values()) == {"unknown"}
    assert texts(mail.facts)["being sent"] == "unknown"
    assert "took too long" in render(page_of(rates=away)).text


def test_charts_are_there_without_javascript() -> None:
    document = Document(html(overview(SETTINGS, made.snapshot(), SPANS[1], charts(made.chart_rows(7, 1)))))
    assert document.attributes("svg", "data-chart") == ["events", "EMAIL", "SMS", "PUSH", "latency"]
    assert len(document.attributes("polyline", "points")) == 2 + 3 * 6 + 3
    assert all(json.loads(values)["curves"] for values in document.attributes("svg", "data-values"))
    assert [a["href"] for t, a in document.tags if t == "a" and a.get("aria-current") == "true"] == ["/admin/queues?range=1+h"]


def test_charts_that_cannot_be_read_are_named() -> None:
    page = overview(SETTINGS, made.snapshot(), charts=Away(POSTGRESQL, "PostgreSQL took too long over a query."))
    assert "No charts: PostgreSQL took too long over a query." in render(page).text


# ---- streams


def test_the_streams_page_shows_each_number_with_its_command() -> None:
    document = render(streams(SETTINGS, made.snapshot(streams=BUSY)))
    assert {
        "redis-cli -u redis://localhost:6379 XLEN 'tidings:{0}:email'",
        "redis-cli -u redis://localhost:6379 XINFO GROUPS 'tidings:{0}:email'",
        "redis-cli -u redis://localhost:6379 XINFO CONSUMERS 'tidings:{0}:email' tidings",
        "redis-cli -u redis://localhost:6379 XRANGE 'tidings:{0}:email' - + COUNT 1",
    } <= set(document.attributes("td", "title"))
    assert "EMAIL EMAIL notifications, until they are sent working 12 2 10 3.2 s 100 ms 1" in document.text


def test_consumers_by_host_and_pid_and_the_silent_first() -> None:
    crowd = (made.consumer("a-host-12-ab"), made.consumer("b-7-cd", pending=3, idle_s=300), made.consumer("odd"))
    part = streams(SETTINGS, made.snapshot(streams=made.streams(sms={"consumers": crowd}))).part
    first, *_ = part.consumers
    assert (first.host, first.pid, first.badge.text, first.asked) == ("b", "7", "silent", "5 min ago")
    assert {(c.host, c.pid) for c in part.consumers} == {("a-host", "12"), ("b", "7"), ("host", "1"), ("", "")}


def test_a_thousand_consumers_are_cut() -> None:
    crowd = tuple(made.consumer(f"host-{n}-x") for n in range(1000))
    page = streams(SETTINGS, made.snapshot(streams=made.streams(sms={"consumers": crowd})))
    assert len(page.part.consumers) + page.part.consumers_left_out == 1000 + 4
    assert f"and {page.part.consumers_left_out} more" in render(page).text


def test_no_streams_where_redis_is_away() -> None:
    assert "work waits in PostgreSQL" in render(streams(SETTINGS, made.snapshot(streams=Away(REDIS, "Redis is away.")))).text


def test_the_entries_of_a_stream() -> None:
    fields = ((b"notification", b"7"), (b"event_id", b"evt-1"))
    entries = (
        Entry("1795300000000-0", 1_795_300_000_000, fields, Held("host-1-ab", 12.0, 3), False),
        Entry("1795300000001-0", 1_795_300_000_001, fields, Held("host-1-ab", 12.0, 0), False),
        Entry("1795300000002-0", 1_795_300_000_002, fields, None, True),
        Entry("1795300000003-0", 1_795_300_000_003, fields, None, False),
    )
    page = stream_page(SETTINGS, made.snapshot(), rows(entries=entries, next_after="1795300000003-0"), MAIL, False)
    assert [e.badge.text for e in page.entries] == ["pending", "waits for a retry", "to be read", "forgotten"]
    assert page.entries[0].held == "by host-1-ab, idle for 12 s, delivered 3 times"
    assert page.more == "/admin/queues/streams/email?after=1795300000003-0"
    document = render(page)
    assert "/admin/queues/search?q=evt-1" in document.attributes("a", "href")
    assert "XPENDING 'tidings:{0}:email' tidings - + 500" in document.text


def test_delivery_counts_are_drawn_and_bounded() -> None:
    page = stream_page(SETTINGS, made.snapshot(), rows(deliveries=(1,) * 300 + (0,) * 150 + (2,) * 49 + (40,)), MAIL, False)
    assert [(bar.label, bar.value) for bar in page.deliveries] == [
        ("handled, waits for a retry", "150"), ("1 time", "300"), ("2 times", "49"), ("9 times or more", "1")
    ]  # fmt: skip
    assert page.deliveries_note == "Of the 500 oldest pending entries; 10 are pending."


def test_an_older_page_of_a_stream_stands_still() -> None:
    page = stream_page(SETTINGS, made.snapshot(), rows(first_page=False), EVENTS, True)
    assert (page.refresh_s, page.back) == (None, "/admin/queues/streams/events?order=newest")
    assert "No more entries." in render(page).text


def test_a_channel_s_stream_leads_an_operator_to_its_pause() -> None:
    link = "/admin/queues/engine#channels"
    mail = stream_page(SETTINGS, made.snapshot(), rows(), MAIL, False)
    assert link in render(mail).attributes("a", "href")
    assert link not in render(mail, made.VIEWER).attributes("a", "href")
    assert stream_page(SETTINGS, made.snapshot(), rows(), EVENTS, False).pause_link is None


def test_the_dead_stream_has_no_group() -> None:
    page = stream_page(SETTINGS, made.snapshot(), rows(stats=made.stream(DEAD, group=False, consumers=())), DEAD, False)
    assert not [c for c in page.commands if "XINFO" in c.text or "XPENDING" in c.text]
    assert "Empty: all that was put here is done." in render(page).text


def test_what_is_asked_for() -> None:
    assert [known_stream(name) for name in ("events", "email", "dead", "bucket", "")] == [EVENTS, MAIL, DEAD, None, None]
    good = ["1-0", "1-9223372036854775807", "9223372036854775807-1"]
    assert [entry_id(text) for text in good] == good
    bad = ["0-0", "9223372036854775808-1", "1-9223372036854775808", "²-0", "-", "1", "1-0 ", "1-0\n", "(1-0"]
    assert [entry_id(text) for text in bad] == [None] * len(bad)
    assert [span_of(text).name for text in ("6 h", "", "x")] == ["6 h", "15 min", "15 min"]


# ---- messages


async def test_who_takes_nothing_is_let_go_without_a_word() -> None:
    ended: list[str] = []

    async def told() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"event: tick\ndata: x\n\n"
        finally:
            ended.append("told")

    async def stuck(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async with asyncio.timeout(5):
        await Events(told(), send_timeout=0.05)({"type": "http", "method": "GET", "headers": []}, receive, stuck)
    assert ended == ["told"]


def test_a_message_says_how_it_is_and_has_the_parts_of_its_page() -> None:
    seen = made.snapshot(streams=BUSY)
    told = {topic: json.loads(encode(seen).split(b"data: ")[1]) for topic, encode in encoders(SETTINGS).items()}
    assert {topic: set(message["parts"]) for topic, message in told.items()} == {
        "health": set(), "overview": {"now", "lately"}, "streams": {"streams"}
    }  # fmt: skip
    assert all((m["level"], m["headline"]) == ("busy", "Working: 10 entries in hand, 2 to be read") for m in told.values())
    assert "data-keep" in told["overview"]["parts"]["now"], "the charts are not drawn anew"
    assert "polyline" not in told["overview"]["parts"]["now"]


def test_one_message_is_one_event_however_hostile() -> None:
    message = encoders(SETTINGS)["overview"](made.snapshot(streams=Away(REDIS, "a\n\nevent: x\r\ndata: y\r\r")))
    assert message.count(b"\n") == 3
    assert b"\r" not in message
