"""The list of notifications with ready-made data: its filter, its lines, what it leaves out, and where to go on."""

from typing import Any

import pytest

from app.domain import Channel, Status
from tests.unit import ready_made as made
from tests.unit.ready_made import HOSTILE, NOW, SETTINGS
from tests.unit.test_pages import NO_POSTGRESQL, Document, render
from web.away import POSTGRESQL, Away
from web.filters import Asked, Filter, read_filter
from web.listing import ListPage, listing
from web.queries import Listed, ListRows, Searched


def page_of(wanted: Filter | None = None, rows: ListRows | Away | None = None, **typed: str) -> ListPage:
    return listing(SETTINGS, Asked(wanted or Filter()), typed, rows or made.listed())


def hostile_pages() -> list[Any]:
    bad = made.notification(Status.FAILED, user_id=HOSTILE, reason=HOSTILE, error=HOSTILE, channel=HOSTILE)
    rows = ListRows(NOW, [Listed(bad, HOSTILE, HOSTILE)])
    texts = dict.fromkeys(("user", "event", "type", "provider", "error", "reason"), HOSTILE)
    typed = dict.fromkeys(("since", "until", "status", "channel"), HOSTILE)
    return [
        listing(SETTINGS, Asked(Filter(**texts), read_filter(typed, NOW).faults), typed, rows),  # type: ignore[arg-type]
        page_of(rows=Away(POSTGRESQL, HOSTILE)),
    ]


@pytest.mark.parametrize("page", hostile_pages())
def test_hostile_text_is_shown_and_never_markup(page: Any) -> None:
    document = render(page)
    assert document.attributes("img", "src") == ["/static/icon.svg"]
    assert "<script>alert(1)</script>" in document.text
    assert not [name for _, attrs in document.tags for name in attrs if name.startswith("on") or name == "style"]
    links = document.attributes("a", "href") + document.attributes("form", "action")
    assert [link for link in links if not link.startswith(("/admin/queues", "#main"))] == []


def fields(document: Document) -> dict[str, str]:
    return {str(a["name"]): str(a.get("value") or "") for tag, a in document.tags if tag == "input" and "name" in a}


def test_a_list_keeps_its_filter_while_paging() -> None:
    rows = made.listed(made.notification(Status.FAILED, "SMS", reason="rejected"), next_before=70, next_after=80)
    page = page_of(Filter(Status.FAILED, Channel.SMS, "user 1&2", error="no such", before=99), rows)
    query = "status=FAILED&channel=SMS&user=user+1%262&error=no+such"
    assert page.older == f"/admin/queues/notifications?{query}&before=70"
    assert page.newer == f"/admin/queues/notifications?{query}&after=80"
    assert page.newest == f"/admin/queues/notifications?{query}"
    document = render(page)
    assert fields(document)["user"] == "user 1&2"
    assert fields(document)["error"] == "no such"
    assert [attrs.get("selected", "no") for tag, attrs in document.tags if tag == "option"].count(None) == 2
    assert "data-refresh-s" not in dict(document.tags)["main"], "an older page stays as it is while it is read"


def test_the_newest_page_is_live() -> None:
    assert dict(render(page_of(rows=made.listed(made.notification()))).tags)["main"]["data-refresh-s"] == "5"


def test_times_stay_as_they_were_typed() -> None:
    asked = read_filter({"since": "2h"}, NOW)
    document = render(listing(SETTINGS, asked, {"since": "2h"}, made.listed()))
    assert fields(document)["since"] == "2h"


def test_a_list_says_how_far_it_looked() -> None:
    rows = made.listed(next_before=5, searched=Searched(240_000, made.ago(7200)))
    document = render(page_of(Filter(type="RARE"), rows))
    assert "looked back to 2026-" in document.text
    assert "through 240,000 notifications" in document.text
    assert "None on this page." in document.text
    assert "Look further back →" in document.text


def test_what_was_not_understood_is_said() -> None:
    asked = read_filter({"channel": "FAX", "since": "yesterday"}, NOW)
    text = render(listing(SETTINGS, asked, {}, made.listed())).text
    assert "Not understood, so not used: channel “FAX”: there is no such channel ." in text
    assert "since “yesterday”: write a time ago such as 30m, 2h or 7d" in text


def test_rarer_filters_are_open_where_one_is_set() -> None:
    for wanted, is_open in ((Filter(user="ann"), False), (Filter(provider="webhook"), True), (Filter(reason="odd"), True)):
        document = render(page_of(wanted))
        further = next(attrs for tag, attrs in document.tags if tag == "details" and attrs.get("data-key") == "further")
        assert ("open" in further) is is_open


def test_a_reason_of_nobody_stays_what_is_filtered_by() -> None:
    assert [choice.value for choice in page_of(Filter(reason="odd")).reasons if choice.chosen] == ["odd"]


def test_an_empty_house_says_what_to_expect() -> None:
    assert "They appear here as soon as an event is posted" in render(page_of()).text
    assert "No such notifications." in render(page_of(Filter(user="nobody"))).text


def test_a_list_of_one_user_leads_to_the_user_and_tells_the_sql() -> None:
    page = page_of(Filter(Status.PENDING, user="o'neil"))
    assert page.user_link == "/admin/queues/user?id=o%27neil"
    assert "where user_id = 'o''neil' and leads) and not done and status = 'PENDING' order by id desc" in render(page).text


def test_postgresql_away() -> None:
    assert "PostgreSQL cannot be reached." in render(page_of(rows=NO_POSTGRESQL)).text
