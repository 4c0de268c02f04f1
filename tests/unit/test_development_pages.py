"""The mailbox and the fault panel with ready-made data: nothing, the usual, very much, and what an attacker would send."""

import json
from typing import Any

import pytest

from app.domain import Channel
from app.faults import AMOUNTS, Fault, Kind, fault_of
from app.settings import load_settings
from tests.unit import ready_made as made
from tests.unit.ready_made import HOSTILE, NOW, SETTINGS, TOKEN, ago
from tests.unit.test_pages import NO_POSTGRESQL, NO_REDIS, render
from web.development import notice, parse_fault, parse_mail
from web.fault_words import fault_sentences, what
from web.faults import fault_panel
from web.mailbox import mailbox
from web.mailbox_queries import PAYLOAD_CHARS, Called, CallRows, MailFilter, MailRows, Sent
from web.overview import overview

SLOW = {Channel.EMAIL: Fault(Kind.SLOW, 10, 840)}


def sent(channel: str = "EMAIL", **other: Any) -> Sent:
    known = {
        "id": 70, "event_pk": 7, "event_id": "evt-123", "event_type": "ORDER_PLACED", "user_id": "user_123", "channel": channel,
        "address": None, "attempt": 1, "possible_duplicate": False, "started_at": ago(12.5), "ended_at": ago(12),
        "payload": '{"orderAmount": 250}',
    }  # fmt: skip
    return Sent(**{**known, **other})


def box(*mails: Sent, wanted: MailFilter | None = None, faults: Any = None, **other: Any) -> Any:
    rows = MailRows(NOW, list(mails), **{"next_before": None, "waiting": {}, **other})
    return mailbox(SETTINGS, wanted or MailFilter(), rows, faults or {}, NOW)


def called(channel: str = "EMAIL", outcome: str | None = "sent", started: float = 3, took: float = 0.5, **other: Any) -> Called:
    ended = None if outcome is None else ago(started - took)
    return Called(channel, 7, other.get("number", 1), "simulated", ago(started), ended, outcome, other.get("error"))


def panel(*calls: Called, faults: Any = None, pauses: Any = None, told: str = "", settings: Any = SETTINGS) -> Any:
    return fault_panel(settings, NOW, faults or {}, CallRows(NOW, list(calls)), pauses or {}, told)


def hostile_pages() -> list[Any]:
    text = dict.fromkeys(("event_id", "event_type", "user_id", "address"), HOSTILE)
    payload = json.dumps({HOSTILE: [HOSTILE], "message": HOSTILE})
    return [
        box(*(sent(c, payload=payload, id=n, **text) for n, c in enumerate(Channel)), wanted=MailFilter(user=HOSTILE)),
        panel(called(outcome="rejected", error=HOSTILE), pauses={Channel.EMAIL: HOSTILE}),
    ]


@pytest.mark.parametrize("page", hostile_pages(), ids=lambda page: type(page).__name__)
def test_hostile_text_is_shown_and_never_markup(page: Any) -> None:
    document = render(page)
    assert {src for _, a in document.tags if (src := a.get("src"))} <= {
        "/static/icon.svg", *document.attributes("script", "src")
    }  # fmt: skip
    assert all(src.startswith("/static/") for src in document.attributes("script", "src"))
    assert "<script>alert(1)</script>" in document.text
    assert "\u202e" not in document.text.replace(HOSTILE, "") or type(page).__name__ != "Mailbox"
    assert not [name for _, attrs in document.tags for name in attrs if name.startswith("on") or name == "style"]
    addresses = document.attributes("a", "href") + document.attributes("form", "action")
    assert [a for a in addresses if a and not a.startswith(("/admin/queues", "#main"))] == []


def test_an_empty_mailbox_says_what_to_type() -> None:
    text = render(box()).text
    assert "Nothing was sent yet" in text
    assert 'curl -i http://127.0.0.1:3001/api/events -H \'content-type: application/json\' -d \'{"eventId": "try-030000"' in text
    assert "Nothing like this was sent" in render(box(wanted=MailFilter(user="ann"))).text


def test_each_channel_looks_as_a_person_sees_it() -> None:
    page = box(sent(), sent("SMS", id=71, address="+49 170 5"), sent("PUSH", id=72))
    text = render(page).text
    assert "Order placed 12 s ago 2026-11-22 02:59:48Z From Tidings (simulated) To user_123" in text
    assert "Order amount: 250 evt-123 · took 500 ms" in text
    assert "to +49 170 5 Order placed: order amount 250" in text
    assert "Order placed Order amount 250 12 s ago to user_123" in text
    assert list(page.all_links) == [f"/admin/queues/mailbox?channel={c}" for c in Channel]


def test_what_was_sent_last_comes_first_and_retries_and_doubles_show() -> None:
    page = box(sent(id=9), sent(id=8, attempt=3, possible_duplicate=True, ended_at=ago(1)))
    assert [mail.id for mail in page.mails] == [8, 9]
    text = render(page).text
    assert "attempt 3, took 12 s maybe twice" in text
    assert text.count("maybe twice") == 1


def test_what_is_on_its_way_and_the_faults_are_told() -> None:
    text = render(box(faults=SLOW, waiting={"SMS": 2, "EMAIL": 1000})).text
    assert "On the way, or waiting for another try: 1,000 or more EMAIL, 2 SMS." in text
    assert (
        "EMAIL is made slow (10 s a call) by the fault panel until 2026-11-22 03:14:00Z (14 min left). Change it" in text
    )  # fmt: skip


def test_a_channel_that_is_real_is_not_shown_and_not_to_be_broken() -> None:
    settings = load_settings(_env_file=None, email_provider="https://user:secret@mail.example")
    told = render(mailbox(settings, MailFilter(), MailRows(NOW, [], None, {}), {}, NOW)).text
    assert "EMAIL: sent for real, by the address in EMAIL_PROVIDER, so not shown here." in told
    page = panel(settings=settings, faults=SLOW)
    assert [bool(p.rows) for p in page.panels] == [False, True, True]
    assert not page.panels[0].fault
    assert "secret" not in told + render(page).text


def test_a_page_of_one_channel_leads_on() -> None:
    page = box(sent(), wanted=MailFilter("ann", Channel.EMAIL, before=99), next_before=70)
    assert page.older == "/admin/queues/mailbox?user=ann&channel=EMAIL&before=70"
    assert page.newest == "/admin/queues/mailbox?user=ann&channel=EMAIL"
    assert (page.all_links, page.refresh_s) == (None, None)


def test_a_huge_payload_is_cut() -> None:
    text = render(box(sent(payload='{"a": "' + "x" * PAYLOAD_CHARS))).text
    assert len(text) < 6_000
    assert "xxx…" in text


def test_without_servers_the_pages_say_so() -> None:
    assert "PostgreSQL cannot be reached." in render(mailbox(SETTINGS, MailFilter(), NO_POSTGRESQL, NO_REDIS, NOW)).text
    page = fault_panel(SETTINGS, NOW, NO_REDIS, NO_POSTGRESQL, {}, "")
    assert page.problems == ("Redis cannot be reached.", "PostgreSQL cannot be reached.")
    render(page)


def test_the_panel_shows_what_is_set_and_what_came_of_it() -> None:
    calls = [called(outcome=None, number=3, started=9), called(outcome="unavailable", error="busy"), called(), called("SMS")]
    document = render(panel(*calls, faults=SLOW, pauses={Channel.EMAIL: "(down): it waits"}, told="EMAIL is made slow"))
    assert "Made slow (10 s a call) until 2026-11-22 03:14:00Z : 14 min left." in document.text
    assert "3 newest calls: 1 not possible just then, 1 sent, 1 under way; half of them took 500 ms or less." in document.text
    assert "Paused (down): it waits ." in document.text
    assert "Attempt 3: under way for 9.0 s" in document.attributes("a", "aria-label")
    assert "Attempt 1, 2 s ago: not possible just then, took 500 ms: busy" in document.attributes("a", "aria-label")
    pressed = [a["value"] for tag, a in document.tags if tag == "button" and a.get("aria-pressed")]
    assert pressed == ["slow:10"]
    assert document.attributes("input", "value").count(TOKEN) == len(Channel)


def test_a_viewer_sees_it_all_and_no_button() -> None:
    document = render(panel(called(), faults=SLOW), made.VIEWER)
    assert "Made slow (10 s a call)" in document.text
    assert "post" not in document.attributes("form", "method")


def test_every_button_is_a_fault_that_there_is() -> None:
    for one in panel().panels:
        for press in (press for row in one.rows for press in row.presses):
            assert parse_fault({"channel": one.channel, "fault": press.value}) is not None
    offered = {press.value.partition(":")[0] for row in panel().panels[0].rows for press in row.presses}
    assert offered == set(Kind)


@pytest.mark.parametrize(
    ("kind", "amount", "known"),
    [
        ("slow", "10", True), ("slow", "0", False), ("slow", "301", False), ("slow", "nan", False), ("slow", "inf", False),
        ("flaky", "100", True), ("flaky", "101", False), ("down", "", True), ("down", "0", True), ("down", "1", False),
        ("busy", "-5", False), ("busy", "x", False), ("", "", False), ("nonsense", "1", False), ("slow", "1_0", True),
    ],
)  # fmt: skip
def test_only_faults_that_there_are(kind: str, amount: str, known: bool) -> None:
    assert (fault_of(kind, amount) is not None) == known


@pytest.mark.parametrize("kind", Kind)
def test_every_fault_has_its_words(kind: Kind) -> None:
    [sentence] = fault_sentences({Channel.SMS: Fault(kind, AMOUNTS[kind][1], 60)}, NOW)
    assert sentence.startswith(f"SMS is made {what(Fault(kind, AMOUNTS[kind][1]))} by the fault panel until")


@pytest.mark.parametrize(
    ("form", "parsed"),
    [
        ({"channel": "SMS", "fault": "none"}, (Channel.SMS, None)),
        ({"channel": "SMS", "fault": "busy:5"}, (Channel.SMS, Fault(Kind.BUSY, 5))),
        ({"channel": "FAX", "fault": "none"}, None),
        ({"channel": "SMS"}, None),
        ({}, None),
    ],
)
def test_a_form_names_a_channel_and_a_fault(form: dict[str, str], parsed: Any) -> None:
    assert parse_fault(form) == parsed


def test_the_overview_says_what_is_broken_on_purpose() -> None:
    document = render(overview(SETTINGS, made.snapshot(faults=SLOW)))
    assert "EMAIL is made slow (10 s a call) by the fault panel, for another 14 min at most." in document.text
    assert "fault set" in document.text
    assert "EMAIL" in render(overview(SETTINGS, made.snapshot(faults=NO_REDIS))).text


def test_a_notice_says_what_a_click_did() -> None:
    assert notice({"channel": "SMS", "set": "none"}) == "SMS is well again: the consumers follow within about a second."
    assert "SMS is made busy (429, Retry-After 5.0 s)" in notice({"channel": "SMS", "set": "busy:5"})
    assert notice({"channel": HOSTILE, "set": HOSTILE}) == ""


def test_what_cannot_be_understood_counts_as_not_asked() -> None:
    assert parse_mail({"channel": "FAX", "user": " \0 ", "before": "-1"}) == MailFilter()
    assert parse_mail({"channel": "SMS", "user": " ann ", "before": "7"}) == MailFilter("ann", Channel.SMS, 7)
