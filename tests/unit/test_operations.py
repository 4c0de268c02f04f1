"""What may be done to many notifications: to which, how it is asked before, and how its progress is told."""

from dataclasses import replace
from typing import Any

import pytest

from app.domain import Channel, Reason, Status
from app.store.audit import Entry
from tests.unit import ready_made as made
from tests.unit.ready_made import HOSTILE, NOW, OPERATOR, SETTINGS, TOKEN, VIEWER
from tests.unit.test_listing import page_of
from tests.unit.test_pages import NO_POSTGRESQL, Document, render
from web.away import POSTGRESQL, Away
from web.bulk import _as_of, _order, _rate
from web.confirm import confirm, job_page, jobs_page
from web.filters import Filter, Several
from web.jobs import Job
from web.operations import Operation, Order, read_order
from web.search_queries import Counted, Group

FAILED = Group("FAILED", "EMAIL", "rejected", 1200, 0)
UNKNOWN = Group("UNKNOWN", "SMS", "no_answer", 34, 34)


def order(operation: Operation = Operation.REPLAY, **wanted: Any) -> Order:
    return Order(operation, Filter(**{"status": Several.BAD, **wanted}))


def asked(counted: Counted | Away, of: Order | None = None, fault: str = "") -> Document:
    return render(confirm(SETTINGS, of or order(), counted, fault))


def hidden(document: Document) -> list[tuple[str, str]]:
    inputs = [attrs for tag, attrs in document.tags if tag == "input" and attrs.get("type") == "hidden"]
    return [(str(attrs["name"]), str(attrs["value"])) for attrs in inputs]


def job(**other: Any) -> Job:
    entry = Entry("ann", "operator", "replay notifications", "FAILED notifications", reason="the provider is back")
    known = {"order": order(), "as_of": NOW, "expected": 1000, "at_least": False, "entry": entry, "rate_per_s": 100}
    return Job(**{**known, "made_at": made.ago(5), **other})


@pytest.mark.parametrize(
    ("do", "wanted", "status"),
    [
        ("replay-all", Filter(), Several.BAD),
        ("replay-all", Filter(Status.UNKNOWN), Status.UNKNOWN),
        ("cancel-all", Filter(), Status.PENDING),
        ("cancel-all", Filter(Several.OPEN), Status.PENDING),
        ("discard-all", Filter(reason="dead_letter"), Status.FAILED),
        ("replay-selected", Filter(Status.SENT, ids=(7,)), Several.BAD),
        ("cancel-selected", Filter(ids=(7,)), Status.PENDING),
    ],
)
def test_an_operation_takes_only_what_it_may(do: str, wanted: Filter, status: str) -> None:
    found = read_order(do, wanted)
    assert found is not None
    assert found.wanted.status == status


@pytest.mark.parametrize(
    ("do", "wanted"),
    [
        ("replay-all", Filter(Status.SENT)),
        ("replay-all", Filter(Several.OPEN)),
        ("cancel-all", Filter(Status.PROCESSING)),
        ("cancel-all", Filter(Status.FAILED)),
        ("discard-all", Filter(Status.FAILED, reason="rejected")),
        ("discard-all", Filter(Status.UNKNOWN)),
        ("replay-selected", Filter()),
        ("delete-all", Filter()),
        ("replay", Filter()),
        ("", Filter(ids=(7,))),
        ("replay-all-of-it", Filter()),
    ],
)
def test_and_nothing_else(do: str, wanted: Filter) -> None:
    assert read_order(do, wanted) is None


def test_all_that_match_leaves_the_boxes_out_and_a_selection_the_filter() -> None:
    wanted = Filter(user="ann", channel=Channel.SMS, ids=(7, 8), before=99)
    all_of_them = Filter(Several.BAD, Channel.SMS, "ann", left_out=Reason.DISCARDED)
    assert read_order("replay-all", wanted) == Order(Operation.REPLAY, all_of_them)
    assert read_order("replay-selected", wanted) == Order(Operation.REPLAY, Filter(Several.BAD, ids=(7, 8)))
    discard = read_order("discard-all", Filter())
    assert discard is not None
    assert discard.wanted == Filter(Status.FAILED, reason=Reason.DEAD_LETTER)


def test_a_filter_that_is_not_understood_is_not_acted_on() -> None:
    assert "Not understood: channel “FAX”" in str(_order({"do": "replay-all", "channel": "FAX"}, []))
    assert "Nothing was chosen" in str(_order({"do": "replay-selected"}, ["x", ""]))


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "0.01", "nan", "inf", "1e9", "9" * 5000])
def test_a_rate_that_is_none(text: str) -> None:
    assert _rate({"rate": text}) is None
    assert _rate({"rate": "2.5"}) == 2.5
    assert _rate({}) == 100


def test_a_moment_that_is_none() -> None:
    assert _as_of({}) is _as_of({"as_of": "<b>"}) is None


def test_a_list_offers_what_can_be_done() -> None:
    page = page_of(rows=made.listed(made.notification(Status.FAILED, id=71), made.notification(Status.SENT, id=70)))
    document = render(page)
    assert [a["value"] for tag, a in document.tags if tag == "input" and a.get("name") == "id"] == ["71"]
    assert [(a["name"], a["value"]) for tag, a in document.tags if tag == "button" and "value" in a] == [
        ("do", "replay-selected"),
        ("do", "replay-all"),
        ("do", "cancel-all"),
    ]
    assert "/admin/queues/notifications/act?do=replay-selected&id=71" in document.attributes("a", "href")
    sent = page_of(Filter(Status.SENT), made.listed(made.notification(Status.SENT)))
    assert (sent.list.selected, sent.list.all) == ((), ())
    waiting = page_of(Filter(Status.PENDING, user="ann"), made.listed(made.notification(Status.PENDING)))
    assert [b.text for b in (*waiting.list.selected, *waiting.list.all)] == ["Cancel selected…", "Cancel all that match…"]


def test_a_viewer_is_offered_nothing() -> None:
    document = render(page_of(rows=made.listed(made.notification(Status.FAILED))), VIEWER)
    assert "checkbox" not in document.attributes("input", "type")
    assert "do" not in document.attributes("button", "name")
    assert "act?do" not in " ".join(document.attributes("a", "href"))


def test_what_is_asked_before() -> None:
    document = asked(Counted(NOW, (UNKNOWN, FAILED)), order(channel=Channel.EMAIL))
    assert "Replay 1,234 notifications?" in document.text
    assert "FAILED or UNKNOWN notifications on EMAIL" in document.text
    assert "FAILED The provider refused it for good, and may again EMAIL 1,200 1,200 UNKNOWN" in document.text
    assert "34 of them may have been sent before: the person may get it twice" in document.text
    assert hidden(document) == [
        ("token", TOKEN),
        ("do", "replay-all"),
        ("as_of", "2026-11-22T03:00:00Z"),
        ("counted", "1234"),
        ("status", "FAILED or UNKNOWN"),
        ("channel", "EMAIL"),
    ]
    assert {"why", "rate"} <= set(document.attributes("input", "name"))


def test_an_unfinished_count_says_so() -> None:
    text = asked(Counted(NOW, (UNKNOWN,), more=True, to=made.ago(3600))).text
    assert "Replay at least 34 notifications?" in text
    assert "Counted back to 2026-11-22 02:00:00Z; there may be more, and they are taken, too." in text
    assert "At least 34 of them may have been sent before" in text
    assert "Replay them all" in text


def test_a_selection_says_how_many_can_be_taken() -> None:
    document = asked(Counted(NOW, (Group("FAILED", "SMS", "expired", 1, 0),)), order(ids=(7, 8)))
    assert "Replay 1 notification?" in document.text
    assert "1 of the 2 chosen ones can be taken." in document.text
    assert "What is past its expiresAt will end as expired once more." in document.text
    assert [value for name, value in hidden(document) if name == "id"] == ["7", "8"]


def test_cancelling_asks_no_rate_and_warns_of_nothing() -> None:
    document = asked(
        Counted(NOW, (Group("PENDING", "SMS", None, 5, 2),)), Order(Operation.CANCEL, Filter(Status.PENDING, user="ann"))
    )
    assert "Cancel 5 notifications?" in document.text
    assert "rate" not in document.attributes("input", "name")
    assert "twice" not in document.text


def test_where_nothing_matches_there_is_no_form() -> None:
    document = asked(Counted(NOW, ()))
    assert "there is nothing to replay" in document.text
    assert document.attributes("button", "class") == ["quiet", "quiet"], "those of every page"
    assert "PostgreSQL cannot be reached." in asked(NO_POSTGRESQL).text


def test_a_viewer_cannot_begin() -> None:
    document = render(confirm(SETTINGS, order(), Counted(NOW, (FAILED,))), VIEWER)
    assert "why" not in document.attributes("input", "name")


def test_a_job_tells_how_far_it_is() -> None:
    waits = job_page(job(), NOW)
    assert (waits.state.text, waits.share, waits.refresh_s) == ("waits for the one before", 0, 1)
    some = job_page(job(begun=True, seen=500, moved=498, last_due_at=made.ago(-4)), NOW)
    assert (some.state.text, some.share) == ("under way", 50)
    text = render(some).text
    assert "498 notifications are on the way again." in text
    assert "the last of them is due in 4 s" in text
    assert "Why the provider is back" in text
    assert "2: they had changed meanwhile" in text
    more = job_page(job(begun=True, seen=5000, moved=5000, at_least=True), NOW)
    assert more.share == 99
    done = job_page(job(begun=True, seen=1, moved=1, expected=1, ended_at=NOW), NOW)
    assert (done.sentence, done.share, done.refresh_s) == ("1 notification is on the way again", 100, None)


def test_a_job_that_stopped_says_what_to_do() -> None:
    page = job_page(job(begun=True, seen=500, moved=500, ended_at=NOW, trouble="PostgreSQL cannot be reached."), NOW)
    assert (
        "Stopped: PostgreSQL cannot be reached. What is told here is done; the same operation again takes the rest."
        in page.trouble
    )
    assert page.share == 50


def test_all_jobs() -> None:
    document = render(jobs_page([job(begun=True), job(begun=True, ended_at=NOW, moved=1000)], NOW))
    assert "under way Replay FAILED or UNKNOWN notifications ann 0 5 s ago" in document.text
    assert "done Replay FAILED or UNKNOWN notifications ann 1,000" in document.text
    assert "None yet." in render(jobs_page([], NOW)).text


def test_hostile_text_is_shown_and_never_markup() -> None:
    told = job(entry=replace(job().entry, who=HOSTILE, reason=HOSTILE), order=order(error=HOSTILE), trouble=HOSTILE)
    hostile = Counted(NOW, (Group(HOSTILE, HOSTILE, HOSTILE, 1, 1),))
    for document in (
        asked(hostile, order(error=HOSTILE), HOSTILE),
        asked(Away(POSTGRESQL, HOSTILE)),
        render(job_page(told, NOW), OPERATOR),
        render(jobs_page([told], NOW)),
    ):
        assert document.attributes("img", "src") == ["/static/icon.svg"]
        assert "<script>alert(1)</script>" in document.text
        links = document.attributes("a", "href") + document.attributes("form", "action")
        assert [link for link in links if not link.startswith(("/admin/queues", "#main"))] == []
