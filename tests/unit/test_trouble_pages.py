"""The pages of an operator's bad day, with ready-made data: retries, failures, dead letters, one user."""

from dataclasses import replace
from typing import Any

import pytest

from app.domain import Channel, EventStatus, Status
from app.models import Preference
from tests.unit import ready_made as made
from tests.unit.ready_made import HOSTILE, NOW, SETTINGS, TOKEN
from tests.unit.test_pages import NO_POSTGRESQL, NO_REDIS, Document, render
from web.access import Access
from web.allowance import Allowance
from web.failure_queries import DeadEntries, DeadGroup, DeadRows, FailureFilter, FailureGroup, FailureRows
from web.failures import DOUBLE, dead_letters, failures
from web.lookups import UserRows
from web.queries import Listed
from web.retries import retries
from web.retry_queries import Due, RetryRows
from web.user import user_page

NONE_DUE = {c: Due() for c in Channel}
NO_FAILURES = FailureRows(NOW, [], [])
NO_DEAD = DeadRows(NOW, [], [], [])
NO_ENTRIES = DeadEntries(0, [])


def listed(*args: Any, **other: Any) -> Listed:
    return Listed(made.notification(*args, **other), "evt-123", "ORDER_PLACED")


def failures_page(rows: Any, wanted: FailureFilter | None = None, notice: str = "") -> Any:
    return failures(SETTINGS, wanted or FailureFilter(), rows, notice)


def dead_page(rows: Any = NO_DEAD, entries: Any = NO_ENTRIES) -> Any:
    return dead_letters(SETTINGS, rows, entries, "")


def hidden(document: Document) -> dict[str, str]:
    """The hidden fields of the first form that replays."""
    return {str(a["name"]): str(a["value"]) for tag, a in document.tags if tag == "input" and a.get("type") == "hidden"}


def buttons(document: Document) -> list[tuple[str, str]]:
    return [(str(a["name"]), str(a["value"])) for tag, a in document.tags if tag == "button" and "name" in a]


def hostile_pages() -> list[Any]:
    text = dict.fromkeys(("event_id", "type", "user_id", "source", "reason", "error"), HOSTILE)
    bad = made.notification(Status.FAILED, user_id=HOSTILE, reason=HOSTILE, error=HOSTILE)
    row = Listed(bad, HOSTILE, HOSTILE)
    event = made.event(**text, status=EventStatus.FAILED.value)
    raw = HOSTILE.encode()
    return [
        retries(SETTINGS, RetryRows(NOW, [row], NONE_DUE)),
        failures_page(FailureRows(NOW, [FailureGroup("FAILED", HOSTILE, HOSTILE, 1, NOW)], [row]), FailureFilter(reason=HOSTILE)),
        dead_page(DeadRows(NOW, [DeadGroup("event", HOSTILE, 1)], [event], [row]), DeadEntries(1, [(raw, {raw: raw})])),
        user_page(SETTINGS, HOSTILE, UserRows(NOW, None, [event]), made.listed(bad), Allowance(5, 5)),
    ]


@pytest.mark.parametrize("page", hostile_pages(), ids=lambda page: type(page).__name__)
def test_hostile_text_is_shown_and_never_markup(page: Any) -> None:
    document = render(page)
    assert all(src.startswith("/static/") for src in document.attributes("script", "src"))
    assert document.attributes("img", "src") == ["/static/icon.svg"]
    assert "<script>alert(1)</script>" in document.text
    assert "{{ 7*7 }}" in document.text
    assert not [name for _, attrs in document.tags for name in attrs if name.startswith("on") or name == "style"]
    addresses = document.attributes("a", "href") + document.attributes("form", "action")
    assert [a for a in addresses if a and not a.startswith(("/admin/queues", "#main"))] == []


def test_retries_say_until_when_how_often_and_why() -> None:
    waits = listed(Status.PENDING, tries=2, attempt=2, due_at=made.ago(-200), published_at=None, error="the provider is busy")
    late = listed(Status.PENDING, channel="SMS", tries=1, attempt=4, replays=1, due_at=made.ago(5))
    due = {**NONE_DUE, Channel.EMAIL: Due(0, (0, 1, 1), 1), Channel.SMS: Due(1, (1, 1, 1), 1)}
    document = render(retries(SETTINGS, RetryRows(NOW, [late, waits], due)))
    assert "due for 5.0 s" in document.text
    assert "1 of 5, replayed: 4 in all" in document.text
    assert "in 3 min 20 s" in document.text
    assert "2 of 7 the provider is busy parked" in document.text
    assert "together 1 1 2 2 2" in document.text
    assert "due_at <= now() + interval '10 minutes'" in document.text


def test_no_retries() -> None:
    assert "Nothing waits for another try." in render(retries(SETTINGS, RetryRows(NOW, [], NONE_DUE))).text


def test_retries_say_what_was_not_looked_at() -> None:
    due = {**NONE_DUE, Channel.EMAIL: Due(0, (9, 5000, 5000), 5000)}
    text = render(retries(SETTINGS, RetryRows(NOW, [listed(Status.PENDING)], due, frozenset({Channel.EMAIL})))).text
    assert "EMAIL 0 or more 9 or more 5,000 or more" in text
    assert "A big backlog on EMAIL: looked at the 5,000 that are parked and due soonest" in text
    assert "and 4,999 more, due later" in text


def test_each_failure_has_its_way_back() -> None:
    rows = FailureRows(NOW, [], [listed(Status.FAILED, id=71, reason="rejected"), listed(Status.FAILED, id=70, reason="crashed")])
    document = render(failures_page(rows, FailureFilter(Status.FAILED, before=99)))
    assert buttons(document) == [("notification", "71"), ("notification", "70")]
    assert hidden(document) == {"token": TOKEN, "back": "failures", "status": "FAILED", "before": "99"}
    forms = [attrs for tag, attrs in document.tags if tag == "form" and attrs.get("method") == "post"]
    assert {form["action"] for form in forms} == {"/admin/queues/replay"}
    assert DOUBLE not in document.text


@pytest.mark.parametrize("who", [made.VIEWER, replace(made.OPERATOR, read_only=True)], ids=["a viewer", "read-only"])
def test_who_may_not_act_sees_no_button(who: Access) -> None:
    event = made.event(id=8, status=EventStatus.FAILED.value, reason="dead_letter")
    for page in (
        failures_page(FailureRows(NOW, [], [listed(Status.FAILED, reason="rejected")])),
        dead_page(DeadRows(NOW, [], [event], [listed(Status.FAILED, reason="dead_letter")])),
    ):
        document = render(page, who)
        assert "evt-123" in document.text
        assert buttons(document) == []
        assert "post" not in document.attributes("form", "method")


def test_unknown_is_warned_about_in_words() -> None:
    document = render(failures_page(FailureRows(NOW, [], [listed(Status.UNKNOWN, reason="no_answer")])))
    assert DOUBLE in document.text
    assert "Send again, maybe twice" in document.text


def test_failures_are_counted_by_reason_over_all_channels() -> None:
    groups = [
        FailureGroup("FAILED", "rejected", "SMS", 3, made.ago(60)),
        FailureGroup("UNKNOWN", "no_answer", "SMS", 2, made.ago(5)),
        FailureGroup("FAILED", "rejected", "EMAIL", 1, made.ago(9)),
    ]
    page = failures_page(FailureRows(NOW, groups, [], capped=True), FailureFilter(Status.FAILED, "rejected"))
    assert [(g.count, g.channels, g.chosen) for g in page.groups] == [("4", "SMS 3, EMAIL 1", True), ("2", "SMS 2", False)]
    assert page.groups[0].link == "/admin/queues/failures?status=FAILED&reason=rejected"
    text = render(page).text
    assert "9 s ago" in text
    assert "Looked at the newest 5,000 of each status; there are more." in text
    assert "None here." in text


def test_nothing_failed() -> None:
    document = render(failures_page(NO_FAILURES, notice="Replayed: notification 7 is on its way again."))
    assert "Nothing has failed." in document.text
    assert "Replayed: notification 7 is on its way again." in document.text
    assert "/admin/queues/failures" in document.attributes("a", "href"), "to load it again, without that line"


def test_a_page_with_buttons_stands_still() -> None:
    for page in (failures_page(NO_FAILURES), dead_page()):
        assert "data-refresh-s" not in dict(render(page).tags)["main"]


def test_dead_letters_of_both_kinds() -> None:
    event = made.event(id=8, status=EventStatus.FAILED.value, reason="dead_letter", error="delivered 8 times")
    rows = DeadRows(NOW, [DeadGroup("event", "delivered 8 times", 1)], [event], [listed(Status.FAILED, reason="dead_letter")])
    fields = {
        b"garbage": b"\xff\x00",
        b"reason": b"no such row",
        b"stream": b"tidings:{0}:sms",
        b"entry": b"1-0",
        b"deliveries": b"3",
    }
    document = render(dead_page(rows, DeadEntries(12_345, [(b"2-0", fields)])))
    assert buttons(document) == [("event", "8"), ("notification", "70")]
    assert hidden(document)["back"] == "dead"
    assert "event delivered 8 times 1" in document.text
    assert "Entries that no row explains (12,345)" in document.text
    assert "no such row tidings:{0}:sms 1-0 3 garbage \\xff\\u0000 2-0" in document.text
    assert "redis-cli -u redis://localhost:6379 XREVRANGE 'tidings:{0}:dead' + - COUNT 50" in document.text


def test_an_entry_of_any_size_is_cut() -> None:
    fields = {str(n).encode(): b"x" * 10_000 for n in range(100)}
    [entry] = dead_page(entries=DeadEntries(1, [(b"1-0", fields)])).entries
    assert (len(entry.fields), entry.fields_left_out) == (20, 80)
    assert max(len(value) for _, value in entry.fields) < 310


def test_no_dead_letters() -> None:
    assert render(dead_page()).text.count("None.") == 2


def test_one_server_away_leaves_the_other_half() -> None:
    assert "Entries that no row explains (0)" in render(dead_page(NO_POSTGRESQL)).text
    assert "Given up" in render(dead_page(entries=NO_REDIS)).text
    for page in (retries(SETTINGS, NO_POSTGRESQL), failures_page(NO_POSTGRESQL)):
        assert "PostgreSQL cannot be reached." in render(page).text


def test_a_user_in_words() -> None:
    out = Preference(user_id="o'neil", email_opt_in=True, sms_opt_in=False, push_opt_in=False)
    silent = made.event(decisions=made.decisions(EMAIL="not_requested", SMS="opted_out", PUSH="opted_out"))
    rows = made.listed(made.notification(), next_before=70)
    left = Allowance(2, 5, next_s=8.2, full_s=32.2)
    text = render(user_page(SETTINGS, "o'neil", UserRows(NOW, out, [silent]), rows, left)).text
    assert "This user has opted out of SMS and PUSH." in text
    assert "EMAIL not used, the event asked for other channels; SMS not used, the user opted out" in text
    assert "2 of 5 tokens left: the next comes in 8.2 s, all are back in 32 s (limit: 5 events in 1 min)." in text
    assert "select * from preference where user_id = 'o''neil'" in text
    assert "ZMSCORE 'tidings:{0}:bucket:o'\"'\"'neil' full_at reserved" in text
    assert "All of them" in text


def test_a_user_nobody_knows() -> None:
    text = render(user_page(SETTINGS, "nobody", UserRows(NOW, None, []), made.listed(), Allowance(5, 5))).text
    assert "Nothing is known of this user" in text
    assert "All 5 tokens are left" in text


def test_a_user_without_redis() -> None:
    text = render(user_page(SETTINGS, "ann", UserRows(NOW, None, []), made.listed(made.notification()), NO_REDIS)).text
    assert "Not everything could be read: Redis cannot be reached." in text
    assert "evt-123" in text
