"""What a form that replays asks for, and what is said afterwards."""

import pytest

from web.replay import notice
from web.routes import back_to, parse_replay


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
