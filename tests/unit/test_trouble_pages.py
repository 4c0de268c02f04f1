"""The pages of an operator's bad day, with ready-made data: retries, failures, dead letters, one user, people."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.domain import Channel, EventStatus, Status
from app.models import Preference
from tests.unit import ready_made as made
from tests.unit.ready_made import HOSTILE, NOW, OPERATOR, SETTINGS, VIEWER
from tests.unit.test_pages import NO_POSTGRESQL, NO_REDIS, Document, render
from web.access import Access
from web.allowance import Allowance
from web.away import Away
from web.dead_edit import Content, Dead, dead_edit, read_content, stored
from web.dead_letters import dead_letters, notice
from web.dead_queries import DeadEntries, DeadGroup, DeadRows
from web.failure_queries import COLUMNS, FailureRows, Kind
from web.failures import DOUBLE, failures, longest_part
from web.filters import Filter
from web.lookups import UserRows
from web.people_page import people_page
from web.people_queries import People, Person
from web.queries import Listed, ListRows
from web.retries import retries
from web.retry_queries import MINUTES, RetryRows
from web.user import user_page

NO_DEAD = DeadRows(NOW, [], [], [])
NO_ENTRIES = DeadEntries(0, [])
READ_ONLY = replace(OPERATOR, read_only=True)


def listed(*args: Any, **other: Any) -> Listed:
    return Listed(made.notification(*args, **other), "evt-123", "ORDER_PLACED")


def places(**counted: int) -> list[int]:
    """How many wait, by the name of the place: `now`, `m0` to `m59`, `later`."""
    names = ["now", *(f"m{minute}" for minute in range(MINUTES)), "later"]
    return [counted.get(name, 0) for name in names]


def waiting(*rows: Listed, capped: frozenset[Channel] = frozenset(), **by_channel: list[int]) -> RetryRows:
    return RetryRows(NOW, list(rows), {c: by_channel.get(c.lower(), places()) for c in Channel}, capped)


def failed(*kinds: Kind, **other: Any) -> FailureRows:
    by_status = {"FAILED": [0] * COLUMNS, "UNKNOWN": [0] * COLUMNS}
    for kind in kinds:
        by_status.setdefault(kind.status, [0] * COLUMNS)[-1] += kind.n
    return FailureRows(NOW, NOW - timedelta(days=1), list(kinds), by_status, **other)


def kind(status: str = "FAILED", reason: str = "rejected", error: str = "no such box", n: int = 3) -> Kind:
    return Kind(status, reason, error, n, made.ago(9), {"SMS": n}, [0] * (COLUMNS - 1) + [n])


def failures_page(rows: FailureRows | Away | None = None, newest: ListRows | Away | None = None) -> Any:
    return failures(SETTINGS, "24h", rows or failed(), newest or made.listed())


def dead_page(rows: Any = NO_DEAD, entries: Any = NO_ENTRIES, says: str = "") -> Any:
    return dead_letters(SETTINGS, rows, entries, says)


def one_user(user: Any, rows: Any, allowance: Any, name: str = "ann", **place: int) -> Any:
    return user_page(SETTINGS, Filter(user=name, **place), user, rows, allowance)  # type: ignore[arg-type]


def dead(notification: Any = None, tried: bool = False, payload: str = '{"n":1}', **event: Any) -> Dead:
    died = {"status": "FAILED", "reason": "dead_letter", "error": "delivered 9 times"}
    return Dead(made.event(**{**died, **event}), notification, payload, tried)


def hidden(document: Document, name: str) -> list[str]:
    """The values of these hidden fields."""
    return [str(a["value"]) for tag, a in document.tags if tag == "input" and a.get("name") == name and a.get("type") == "hidden"]


def buttons(document: Document) -> list[tuple[str, str]]:
    return [(str(a["name"]), str(a["value"])) for tag, a in document.tags if tag == "button" and "name" in a]


def boxes(document: Document, name: str = "id") -> list[str]:
    return [str(a["value"]) for tag, a in document.tags if a.get("type") == "checkbox" and a.get("name") == name]


def hostile_pages() -> list[Any]:
    text = dict.fromkeys(("event_id", "type", "user_id", "source", "reason", "error"), HOSTILE)
    bad = made.notification(Status.FAILED, user_id=HOSTILE, reason=HOSTILE, error=HOSTILE, address=HOSTILE)
    row = Listed(bad, HOSTILE, HOSTILE)
    event = made.event(**text, status=EventStatus.FAILED.value)
    raw = HOSTILE.encode()
    hostile = Kind(HOSTILE, HOSTILE, HOSTILE, 1, NOW, {HOSTILE: 1}, [1] * COLUMNS)
    group = DeadGroup("notification", HOSTILE, 1)
    return [
        retries(SETTINGS, waiting(row)),
        failures_page(failed(hostile), ListRows(NOW, [row])),
        dead_page(DeadRows(NOW, [group], [event], [row]), DeadEntries(1, [(raw, {raw: raw})])),
        dead_edit(SETTINGS, Dead(event, bad, "{}", False), Content(HOSTILE, HOSTILE, HOSTILE), HOSTILE),
        one_user(UserRows(NOW, None, [event]), ListRows(NOW, [row]), Allowance(5, 5), HOSTILE),
        people_page(People(NOW, [Person(HOSTILE, 1, 1, NOW, None, None, False)])),
        people_page(Away("PostgreSQL", HOSTILE)),
    ]


@pytest.mark.parametrize("who", [OPERATOR, VIEWER], ids=lambda who: who.role)
@pytest.mark.parametrize("page", hostile_pages(), ids=lambda page: type(page).__name__)
def test_hostile_text_is_shown_and_never_markup(page: Any, who: Access) -> None:
    document = render(page, who)
    assert all(src.startswith("/static/") for src in document.attributes("script", "src"))
    assert document.attributes("img", "src") == ["/static/icon.svg"]
    assert "<script>alert(1)</script>" in document.text
    assert "{{ 7*7 }}" in document.text
    assert not [name for _, attrs in document.tags for name in attrs if name.startswith("on") or name == "style"]
    addresses = document.attributes("a", "href") + document.attributes("form", "action")
    assert [a for a in addresses if a and not a.startswith(("/admin/queues", "#main"))] == []


@pytest.mark.parametrize("who", [VIEWER, READ_ONLY], ids=["viewer", "read-only"])
@pytest.mark.parametrize("page", hostile_pages(), ids=lambda page: type(page).__name__)
def test_who_may_not_act_sees_no_button(page: Any, who: Access) -> None:
    document = render(page, who)
    assert buttons(document) == []
    assert hidden(document, "token") == []
    assert "checkbox" not in document.attributes("input", "type")


def test_retries_say_until_when_how_often_and_why() -> None:
    waits = listed(Status.PENDING, tries=2, attempt=2, due_at=made.ago(-200), published_at=None, error="the provider is busy")
    late = listed(Status.PENDING, channel="SMS", tries=1, attempt=4, replays=1, due_at=made.ago(5))
    document = render(retries(SETTINGS, waiting(late, waits, email=places(m3=1), sms=places(now=1, later=2))))
    assert "due for 5.0 s" in document.text
    assert "1 of 5, replayed: 4 in all" in document.text
    assert "in 3 min 20 s" in document.text
    assert "2 of 7 the provider is busy parked" in document.text
    assert "EMAIL 0 0 1 1 1" in document.text
    assert "together 1 1 2 2 4" in document.text
    assert "due_at <= now() + interval '10 minutes'" in document.text


def test_the_next_hour_by_the_minute() -> None:
    page = retries(SETTINGS, waiting(email=places(now=9, m0=50, m59=1, later=9), sms=places(m1=100)))
    email, sms, push = page.histograms
    assert [(bar.label, bar.value, bar.share) for bar in email.columns if bar.share] == [
        ("in 0 to 1 min", "50", 50),
        ("in 59 to 60 min", "1", 1),
    ]
    assert len(email.columns) == MINUTES
    assert email.says == "51 in the next hour, at most 50 in a minute"
    assert ([bar.share for bar in sms.columns if bar.share], push.says) == ([100], "0 in the next hour, at most 0 in a minute")
    assert "EMAIL due in the next hour: in 0 to 1 min 50; in 59 to 60 min 1;" in render(page).attributes("svg", "aria-label")[0]


def test_no_retries() -> None:
    assert "Nothing waits for another try." in render(retries(SETTINGS, waiting())).text


def test_retries_say_what_was_not_looked_at() -> None:
    rows = waiting(listed(Status.PENDING), capped=frozenset({Channel.EMAIL}), email=places(m5=100_000))
    text = render(retries(SETTINGS, rows)).text
    assert "EMAIL 0 or more 0 or more 100,000 or more" in text
    assert "A big backlog on EMAIL: looked at the 100,000 that are parked and due soonest" in text
    assert "and 99,999 more, due later" in text


def test_failures_by_kind_lead_to_the_list() -> None:
    page = failures_page(failed(kind(error="550 … box … is quite full", n=1200), kind("UNKNOWN", "no_answer", "")))
    assert page.total == "1,200 FAILED, 3 UNKNOWN"
    assert [(k.count, k.channels, k.link.partition("?")[2]) for k in page.kinds] == [
        ("1,200", "SMS 1,200", "status=FAILED&reason=rejected&error=is+quite+full"),
        ("3", "SMS 3", "status=UNKNOWN&reason=no_answer"),
    ]
    document = render(page)
    assert "the provider refused it for good 550 … box … is quite full" in document.text
    assert "1,200 SMS 1,200 9 s ago" in document.text
    assert "Failures over time: from 2026-11-22 02:30:00Z 1,203; " in document.attributes("svg", "aria-label")
    assert document.attributes("a", "aria-current") == ["page", "true"]


def test_the_same_part_of_errors_is_what_a_list_is_filtered_by() -> None:
    assert longest_part("…") == longest_part("") == ""
    assert longest_part("a … the longest part of all … bc") == "the longest part of all"


def test_each_of_the_newest_failures_can_be_chosen() -> None:
    rows = made.listed(
        made.notification(Status.FAILED, id=71, reason="rejected"), made.notification(Status.UNKNOWN, id=70, reason="no_answer")
    )
    document = render(failures_page(newest=rows))
    assert boxes(document) == ["71", "70"]
    assert buttons(document) == [("do", "replay-selected"), ("do", "replay-all")]
    assert hidden(document, "status") == ["FAILED or UNKNOWN"]
    assert DOUBLE in document.text
    assert DOUBLE not in render(failures_page(newest=made.listed(made.notification(Status.FAILED, reason="x")))).text


def test_nothing_failed() -> None:
    document = render(failures_page())
    assert "Nothing has failed in this time." in document.text
    assert {"/admin/queues/failures?over=1h", "/admin/queues/failures?over=7d"} <= set(document.attributes("a", "href"))


def test_very_many_failures_are_not_all_counted() -> None:
    text = render(failures_page(failed(*[kind(error=str(n)) for n in range(25)], complete_since=made.ago(3600)))).text
    assert "looked at the newest 8,000 of each status, so before 2026-11-22 02:00:00Z not all are counted" in text
    assert "The 25 kinds with the most failures are shown." in text


def test_a_page_to_choose_on_stands_still() -> None:
    for page in (failures_page(), dead_page(), one_user(UserRows(NOW, None, []), made.listed(), Allowance(5, 5))):
        assert "data-refresh-s" not in dict(render(page).tags)["main"]


def test_dead_letters_of_both_kinds() -> None:
    event = made.event(id=8, status=EventStatus.FAILED.value, reason="dead_letter", error="delivered 8 times")
    groups = [DeadGroup("event", "delivered 8 times", 1), DeadGroup("notification", "delivered 9 times", 1)]
    rows = DeadRows(NOW, groups, [event], [listed(Status.FAILED, reason="dead_letter")])
    fields = {
        b"garbage": b"\xff\x00",
        b"reason": b"no such row",
        b"stream": b"tidings:{0}:sms",
        b"entry": b"1-0",
        b"deliveries": b"3",
    }
    document = render(dead_page(rows, DeadEntries(12_345, [(b"2-0", fields)]), "Replayed: 1."))
    assert (boxes(document), boxes(document, "entry"), hidden(document, "up_to")) == (["8", "70"], ["2-0"], ["2-0"])
    assert [value for _, value in buttons(document)] == [
        "replay", "discard", "replay-selected", "discard-selected", "replay-all", "discard-all", "selected", "older"
    ]  # fmt: skip
    links = document.attributes("a", "href")
    assert {"/admin/queues/dead-letters/event/8", "/admin/queues/dead-letters/notification/70"} <= set(links)
    error = "status=FAILED&reason=dead_letter&error=delivered+9+times"
    assert f"/admin/queues/notifications/act?do=discard-all&{error}" in links
    assert "Replayed: 1." in document.text
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
    for page in (retries(SETTINGS, NO_POSTGRESQL), failures_page(NO_POSTGRESQL, NO_POSTGRESQL), people_page(NO_POSTGRESQL)):
        assert "PostgreSQL cannot be reached." in render(page).text


def test_what_was_done_in_one_line() -> None:
    assert notice({"discarded": "1200"}) == "Discarded: 1,200. What was no dead letter any more was left alone."
    assert notice({}) == notice({"replayed": "<b>"}) == notice({"edited": "9" * 30}) == notice({"dropped": "²"}) == ""


def test_a_dead_event_to_edit() -> None:
    document = render(dead_edit(SETTINGS, dead()))
    assert '{ "n": 1 }' in document.text
    assert buttons(document) == [("do", "edit"), ("do", "replay"), ("do", "discard")]
    assert "address" not in document.attributes("input", "name")
    assert "readonly" not in document.attributes("textarea", "class")


def test_a_payload_that_others_were_tried_with_stays() -> None:
    sms = made.notification(Status.FAILED, "SMS", reason="dead_letter", address="+49 1", possible_duplicate=True)
    page = dead_edit(SETTINGS, dead(sms, tried=True))
    document = render(page)
    assert page.title == "Dead letter: SMS notification 70"
    assert "another channel was already tried with it" in document.text
    assert "It may have been sent before" in document.text
    assert [attrs for tag, attrs in document.tags if tag == "textarea" and "readonly" in attrs]
    typed = read_content({"payload": "{}", "type": "X", "address": "+49 2"}, dead(sms, tried=True))
    assert typed == Content("ORDER_PLACED", '{\n  "n": 1\n}', "+49 2")


def test_one_that_is_dead_no_more() -> None:
    document = render(dead_edit(SETTINGS, dead(status="NEW", reason=None, error=None)))
    assert "This is no dead letter (any more)" in document.text
    assert buttons(document) == []


def test_a_huge_payload_stays_on_one_line() -> None:
    huge = '{"a":[' + ",".join(["[]"] * 20_000) + "]}"
    assert stored(dead(payload=huge)).payload == huge
    assert stored(dead(payload='{"a":"ü"}')).payload == '{\n  "a": "ü"\n}'


def test_a_user_in_words() -> None:
    out = Preference(user_id="o'neil", email_opt_in=True, sms_opt_in=False, push_opt_in=False, updated_at=made.ago(60))
    silent = made.event(decisions=made.decisions(EMAIL="not_requested", SMS="opted_out", PUSH="opted_out"))
    rows = made.listed(made.notification(), next_before=70)
    left = Allowance(2, 5, next_s=8.2, full_s=32.2)
    page = one_user(UserRows(NOW, out, [silent]), rows, left, "o'neil")
    document = render(page)
    assert "This user has opted out of SMS and PUSH. changed 1 min ago" in document.text
    wishes = [
        (a["name"], "checked" in a)
        for tag, a in document.tags
        if a.get("type") == "checkbox" and a.get("name") not in ("id", None)
    ]
    assert wishes == [("EMAIL", True), ("SMS", False), ("PUSH", False)]
    assert hidden(document, "id") == ["o'neil"]
    assert "EMAIL not used, the event asked for other channels; SMS not used, the user opted out" in document.text
    assert "2 of 5 tokens left: the next comes in 8.2 s, all are back in 32 s (limit: 5 events in 1 min)." in document.text
    assert "Next token in 8 s 2026-11-22 03:00:08Z All of them in 32 s 2026-11-22 03:00:32Z" in document.text
    assert "select * from preference where user_id = 'o''neil'" in document.text
    assert "ZMSCORE 'tidings:{0}:bucket:o'\"'\"'neil' full_at reserved" in document.text
    assert page.older == "/admin/queues/user?id=o%27neil&before=70"


def test_a_user_nobody_knows() -> None:
    document = render(one_user(UserRows(NOW, None, []), made.listed(), Allowance(5, 5), "nobody"))
    assert "Nothing is known of this user" in document.text
    assert "All 5 tokens are left" in document.text
    assert "No preference stored: every channel is on." in document.text


def test_a_user_with_one_server_away() -> None:
    text = render(one_user(UserRows(NOW, None, []), made.listed(made.notification()), NO_REDIS)).text
    assert "Not everything could be read: Redis cannot be reached." in text
    assert "evt-123" in text
    assert "All 5 tokens are left" in render(one_user(NO_POSTGRESQL, NO_POSTGRESQL, Allowance(5, 5))).text


def test_people() -> None:
    rows = People(
        NOW, [Person("ann", 1200, 3, made.ago(60), True, False, True), Person("bob", 1, 0, made.ago(90), None, None, None)]
    )
    document = render(people_page(rows))
    assert "ann 1,200 3 SMS 1 min ago" in document.text
    assert "/admin/queues/notifications?user=ann&status=FAILED+or+UNKNOWN" in document.attributes("a", "href")
    assert "Nobody was told anything yet." in render(people_page(People(NOW, []))).text
