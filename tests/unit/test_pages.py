"""Every page, rendered with ready-made data: nothing, the usual, very much, and what an attacker would send."""

from dataclasses import fields, is_dataclass
from html.parser import HTMLParser
from typing import Any

import pytest

from app.domain import Channel, Status
from app.store.hold import Hold
from app.streams import DEAD, EVENTS
from tests.unit import ready_made as made
from tests.unit.ready_made import HOSTILE, LIMIT, NOW, SETTINGS
from web import pages
from web.access import Access, accessed_by
from web.away import POSTGRESQL, REDIS, Away
from web.backlog_queries import Backlog
from web.charts import charts
from web.counts import Precision
from web.overview import Overview, overview
from web.parts import Bar, bar_rows
from web.render import _environment, html
from web.story import story
from web.stream_queries import Entry, Held, StreamRows
from web.streams import stream_page, streams

NO_POSTGRESQL = Away(POSTGRESQL, "PostgreSQL cannot be reached.")
NO_REDIS = Away(REDIS, "Redis cannot be reached.")
VOID = {"meta", "link", "input", "img", "br"}


class Document(HTMLParser):
    """Reads a page strictly: every tag closed in order. `text` is what is seen, `tags` what there is, with attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.pairs: list[tuple[str, dict[str, str | None], str]] = []  # of each tag what is seen up to the next one
        self._open: list[str] = []
        self.feed(page)
        assert self._open == [], f"not closed: {self._open}"

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.pairs.append((tag, dict(attrs), ""))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.pairs:
            tag, attrs, text = self.pairs[-1]
            self.pairs[-1] = (tag, attrs, (text + data).strip())

    def attributes(self, tag: str, name: str) -> list[str]:
        return [str(attrs[name]) for found, attrs in self.tags if found == tag and name in attrs]


def render(page: Any, who: Access = made.OPERATOR) -> Document:
    """As `who` sees it."""
    with accessed_by(who):
        return Document(html(page))


def page_of(**parts: Any) -> Overview:
    """The overview where all is well and empty, but for `parts`."""
    return overview(SETTINGS, made.snapshot(**parts), charts=charts(made.chart_rows()))


def hostile_entries() -> StreamRows:
    """A stream into which somebody else wrote."""
    text = HOSTILE.encode()
    held = Held(HOSTILE, 5.0, 9)
    fields = ((text, text), (b"event_id", text), (b"\xff\xfe", b"\xff" * 900))
    entry = Entry("99999999999999999-0", 99_999_999_999_999_999, fields * 9, held, False)
    consumers = (made.consumer(HOSTILE), made.consumer("a-b"), made.consumer(""))
    return StreamRows(NOW, made.stream(EVENTS, consumers=consumers), (entry,), (9, 9, 0, 77), True, "1-1")


def hostile_pages() -> list[Any]:
    """Every page with markup wherever a client or a provider can put text."""
    text = dict.fromkeys(("event_id", "type", "user_id", "source", "reason", "error"), HOSTILE)
    decided = {HOSTILE: {"use": False, "reason": HOSTILE}, "EMAIL": {"use": True, "reason": HOSTILE}}
    event = made.event(**text, payload={HOSTILE: [HOSTILE]}, decisions=decided)
    failed = made.notification(Status.FAILED, user_id=HOSTILE, reason=HOSTILE, error=HOSTILE, claimed_by=HOSTILE)
    tried = made.attempt(outcome="rejected", error=HOSTILE, provider=HOSTILE, consumer=HOSTILE, receipt=HOSTILE)
    rows = made.listed(failed)
    rows.listed[0] = rows.listed[0]._replace(event_id=HOSTILE, event_type=HOSTILE)
    late = made.streams(email={"length": 9, "lag": 9, "oldest_unread_s": 99.0, "oldest_s": 99.0})
    crowd = made.streams(email={"consumers": (made.consumer(HOSTILE),)})
    return [
        page_of(streams=crowd, newest=rows, failed=made.events(event)),
        page_of(streams=late, backlog=made.backlog(email=Backlog(cause=HOSTILE))),
        streams(SETTINGS, made.snapshot(streams=crowd)),
        streams(SETTINGS, made.snapshot(streams=Away(REDIS, HOSTILE))),
        stream_page(SETTINGS, made.snapshot(streams=crowd), hostile_entries(), EVENTS, False),
        stream_page(SETTINGS, made.snapshot(), Away(REDIS, HOSTILE), DEAD, True),
        page_of(streams=made.streams(), pauses={Channel.EMAIL: [made.pause(HOSTILE)]}),
        page_of(streams=Away(REDIS, HOSTILE), owed=Away(POSTGRESQL, HOSTILE)),
        story(SETTINGS, made.story_rows(event, [failed], [tried])),
        story(SETTINGS, made.story_rows(made.claimed(decisions={HOSTILE: {"use": True}}, claimed_by=HOSTILE, payload=HOSTILE))),
        pages.found(HOSTILE, made.events(event), True, LIMIT),
        pages.cannot_read(Away(POSTGRESQL, HOSTILE)),
    ]


@pytest.mark.parametrize("page", hostile_pages(), ids=lambda page: type(page).__name__)
def test_hostile_text_is_shown_and_never_markup(page: Any) -> None:
    document = render(page)
    assert all(src.startswith("/static/") for src in document.attributes("script", "src"))
    assert document.attributes("img", "src") == ["/static/icon.svg"]
    assert "<script>alert(1)</script>" in document.text
    assert "{{ 7*7 }}" in document.text
    assert not [name for _, attrs in document.tags for name in attrs if name.startswith("on") or name == "style"]


@pytest.mark.parametrize("page", hostile_pages(), ids=lambda page: type(page).__name__)
def test_links_lead_nowhere_else(page: Any) -> None:
    document = render(page)
    links = document.attributes("a", "href") + document.attributes("form", "action")
    assert [link for link in links if not link.startswith(("/admin/queues", "#main"))] == []


def test_records_are_plain() -> None:
    def plain(value: Any) -> bool:
        if is_dataclass(value):
            return all(plain(getattr(value, f.name)) for f in fields(value))
        return all(map(plain, value)) if isinstance(value, tuple) else isinstance(value, str | int | None)

    assert all(plain(page) for page in hostile_pages())


def test_an_empty_house_says_what_to_do() -> None:
    document = render(page_of(streams=made.streams(**{n: {"consumers": ()} for n in ("events", "email", "sms", "push", "dead")})))
    assert "Every stream: no consumer is connected. Nothing waits yet." in document.text
    assert "tidings send posts a sample event" in document.text
    assert "tidings consumers starts them" in document.text


def test_the_overview_shows_each_number_with_the_command_that_gives_it() -> None:
    busy = made.streams(email={"length": 12, "lag": 2, "pending": 10, "oldest_s": 3.2, "oldest_unread_s": 0.1})
    document = render(page_of(streams=busy, newest=made.listed(made.notification()), counts=made.counts(3)))
    assert {
        "redis-cli -u redis://localhost:6379 XINFO GROUPS 'tidings:{0}:email'",
        "redis-cli -u redis://localhost:6379 XINFO CONSUMERS 'tidings:{0}:email' tidings",
        "redis-cli -u redis://localhost:6379 XRANGE 'tidings:{0}:email' - + COUNT 1",
    } <= set(document.attributes("div", "title"))
    assert "Working: 10 entries in hand, 2 to be read" in document.text
    assert "3 SENT" in document.text
    assert "evt-123 ORDER_PLACED" in document.text


def test_a_paused_channel_says_since_when_why_and_what_waits() -> None:
    waiting = made.streams(email={"length": 12_345, "lag": 12_345, "oldest_unread_s": 200.0, "oldest_s": 200.0})
    document = render(page_of(streams=waiting, pauses={Channel.EMAIL: [made.pause(since_s=200)]}))
    sentence = "EMAIL paused 3 min ago: answered 401: no such token; a probe every 4.0 s, 12,345 wait."
    assert sentence in document.text
    assert "EMAIL paused" in document.text, "on its card"
    assert "3 min 20 s behind" not in document.text, "the pause is the reason"


def test_a_channel_that_is_paused_by_hand_says_by_whom() -> None:
    """Also where its provider does not answer: that is not what it waits for."""
    waiting = made.streams(email={"length": 12_345, "lag": 12_345, "oldest_unread_s": 200.0, "oldest_s": 200.0})
    holds = {Channel.EMAIL: Hold("ann", f"moved {HOSTILE}", 200)}
    document = render(page_of(streams=waiting, holds=holds, pauses={Channel.EMAIL: [made.pause()]}))
    assert "EMAIL paused 3 min ago by ann: moved " in document.text
    assert "`tidings resume EMAIL` ends it, 12,345 wait" in document.text
    assert "probe" not in document.text.partition("As of")[0]
    assert "EMAIL paused" in document.text, "on its card"


def test_a_channel_that_some_consumers_have_paused() -> None:
    two = made.streams(sms={"consumers": (made.consumer("a"), made.consumer("b"))})
    document = render(page_of(streams=two, pauses={Channel.SMS: [made.pause("busy", since_s=5)]}))
    assert "SMS paused by 1 of 2 consumers 5 s ago: busy; a probe" in document.text
    assert "wait." not in document.text


def test_a_lag_that_cannot_be_known_is_not_shown_as_zero() -> None:
    page = page_of(streams=made.streams(email={"lag": None, "length": 3, "pending": 5}))
    [email] = [card for card in page.now.cards if card.title == "EMAIL"]
    assert {fact.label: fact.text for fact in email.facts}["to be read"] == "unknown"


def test_much_of_everything_is_cut_to_what_can_be_read() -> None:
    crowd = tuple(made.consumer(f"host-{n}", pending=n) for n in range(1000))
    page = page_of(
        streams=made.streams(email={"length": 10**9, "lag": 10**9 - 7, "pending": 7, "oldest_s": 1e7, "consumers": crowd}),
        counts=made.counts(3_400_000, Precision.ABOUT),
        newest=made.listed(*(made.notification(id=n, error="x" * 2000) for n in range(25))),
    )
    document = render(page)
    assert "999,999,993" in document.text
    assert "about 3.4 million" in document.text
    assert len(html(page)) < 150_000


def test_without_redis_the_rest_is_shown() -> None:
    document = render(page_of(streams=NO_REDIS, newest=made.listed(made.notification())))
    assert "Redis cannot be reached. Nothing is lost, work waits in PostgreSQL." in document.text
    assert "evt-123" in document.text
    assert "to be read" not in document.text


def test_without_postgresql_the_streams_are_shown() -> None:
    asked = ("owed", "rates", "backlog", "latencies", "counts", "newest", "failed")
    document = render(page_of(**dict.fromkeys(asked, NO_POSTGRESQL)))
    assert "PostgreSQL cannot be reached. New events are refused until it is back; nothing accepted is lost." in document.text
    assert "tidings:{0}:sms" in "".join(document.attributes("a", "title"))
    assert "Newest notifications" not in document.text


def test_a_part_that_could_not_be_read_is_named() -> None:
    slow = Away(POSTGRESQL, "PostgreSQL took too long over a query.")
    document = render(page_of(counts=slow, failed=slow))
    assert document.text.count("Not everything could be read: PostgreSQL took too long over a query.") == 1
    assert "All caught up" in document.text


def test_a_possible_duplicate_is_marked() -> None:
    assert "maybe twice" in render(page_of(newest=made.listed(made.notification(possible_duplicate=True)))).text


def test_a_page_without_javascript_reloads_itself() -> None:
    assert '<noscript><meta http-equiv="refresh" content="15"></noscript>' in html(page_of())
    assert "http-equiv" not in html(pages.refused(404))


@pytest.mark.parametrize(
    "page", [pages.refused(404), pages.refused(405), pages.broken(), pages.found("x", made.events(), False, LIMIT)]
)
def test_every_other_page_is_a_page(page: Any) -> None:
    assert page.sentence in render(page).text


def test_the_current_page_is_marked_in_the_navigation() -> None:
    document = render(page_of())
    assert [attrs["href"] for tag, attrs in document.tags if tag == "a" and attrs.get("aria-current") == "page"] == [
        "/admin/queues"
    ]


def test_shared_pieces_take_hostile_text() -> None:
    rows = [*bar_rows([(HOSTILE, 3), ("none", 0), ("few", 1)]), Bar(HOSTILE, HOSTILE, 100, "bad", "/admin/queues")]
    template = (
        "{% from 'macros.html' import bars, columns, tile, confirm %}{{ bars(rows, text) }}{{ columns(rows, text, text, text) }}"
        "{{ tile(text, text, 'bad', '/admin/queues', text) }}{{ tile(text, text) }}"
        "{% call confirm('c', text, text, '/admin/queues', text, 'danger') %}<p>{{ text }}</p>{% endcall %}"
    )
    document = Document(_environment.from_string(template).render(rows=rows, text=HOSTILE))
    assert document.attributes("rect", "width")[1:6:2] == ["100", "0", "33"], "a track, then the bar"
    assert "script" not in dict(document.tags)
    assert not [name for _, attrs in document.tags for name in attrs if name.startswith("on") or name == "style"]
