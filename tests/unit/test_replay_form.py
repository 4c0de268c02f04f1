"""Who may replay: only a page of our own. And what is said afterwards."""

import pytest

from web.replay import NotOurs, check_ours, notice
from web.routes import back_to, parse_replay

TOKEN = "t" * 43
OURS = {
    "a browser of today": {"host": "h:3000", "origin": "http://h:3000", "sec-fetch-site": "same-origin"},
    "an old browser": {"host": "h:3000"},
    "behind a proxy that speaks TLS": {"host": "h", "origin": "https://h"},
}
THEIRS = {
    "another site": {"host": "h:3000", "sec-fetch-site": "cross-site"},
    "another port of this host": {"host": "h:3000", "sec-fetch-site": "same-site"},
    "another origin": {"host": "h:3000", "origin": "http://evil"},
    "another origin's port": {"host": "h:3000", "origin": "http://h:3001"},
    "a sandboxed frame": {"host": "h:3000", "origin": "null"},
}


@pytest.mark.parametrize("name", OURS)
def test_our_own_page_may(name: str) -> None:
    check_ours(OURS[name], TOKEN, TOKEN)


@pytest.mark.parametrize("name", THEIRS)
def test_another_site_may_not(name: str) -> None:
    with pytest.raises(NotOurs, match="another site"):
        check_ours(THEIRS[name], TOKEN, TOKEN)


@pytest.mark.parametrize(("cookie", "field"), [("", ""), (TOKEN, ""), ("", TOKEN), (TOKEN, "x" * 43), (TOKEN, "ü\udcff")])
def test_without_the_token_nobody_may(cookie: str, field: str) -> None:
    with pytest.raises(NotOurs, match="too old"):
        check_ours(OURS["a browser of today"], cookie, field)


def test_what_happened_in_one_line() -> None:
    assert notice({"replayed": "notification-7"}) == "Replayed: notification 7 is on its way again."
    assert notice({"not-replayed": "event-7"}).startswith("Nothing was replayed: event 7 ")
    assert notice({"no-such": "event-7"}) == "Nothing was replayed: there is no event 7."


@pytest.mark.parametrize("value", ["", "notification", "notification-", "user-1", "event-1<b>", "event-²", f"event-{'9' * 30}"])
def test_an_address_cannot_make_the_page_say_anything_else(value: str) -> None:
    assert notice({"replayed": value}) == ""


@pytest.mark.parametrize("form", [{}, {"notification": ""}, {"event": "x"}, {"notification": str(2**63)}, {"user": "1"}])
def test_a_form_that_names_no_row(form: dict[str, str]) -> None:
    assert parse_replay(form) is None


def test_back_to_the_list_as_it_was() -> None:
    told = {"replayed": "notification-7"}
    form = {"back": "failures", "status": "FAILED", "reason": "rejected", "before": "9", "next": "//evil"}
    assert back_to(form, told) == "/admin/queues/failures?status=FAILED&reason=rejected&before=9&replayed=notification-7"
    assert back_to({"back": "dead"}, told) == "/admin/queues/dead-letters?replayed=notification-7"
    assert back_to({"back": "https://evil"}, {}) == "/admin/queues/failures"
