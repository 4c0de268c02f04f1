"""Who may change something: only a page of our own, an operator, and nobody in read-only mode."""

from typing import Any

import pytest
from starlette.requests import Request

from web.access import Access, Role, accessed_by
from web.actions import Act, Refused, admitted, check_site, check_token

TOKEN = "t" * 43
OURS = {
    "a browser of today": {"host": "h:3000", "origin": "http://h:3000", "sec-fetch-site": "same-origin"},
    "an old browser": {"host": "h:3000"},
    "behind a proxy that speaks TLS": {"host": "h", "origin": "https://h"},
    "behind a proxy that changes the host": {"host": "inside:3000", "origin": "https://h", "sec-fetch-site": "same-origin"},
}
THEIRS = {
    "another site": {"host": "h:3000", "sec-fetch-site": "cross-site"},
    "another port of this host": {"host": "h:3000", "sec-fetch-site": "same-site"},
    "another origin": {"host": "h:3000", "origin": "http://evil"},
    "another origin's port": {"host": "h:3000", "origin": "http://h:3001"},
    "a sandboxed frame": {"host": "h:3000", "origin": "null"},
}
OPERATOR = Access("ann", Role.OPERATOR, TOKEN)


def request(body: bytes, kind: str = "application/x-www-form-urlencoded", **headers: str) -> Request:
    """A POST as it arrives, in two parts."""
    named = {"host": "h:3000", "content-type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    parts = [{"type": "http.request", "body": body[:7], "more_body": True}, {"type": "http.request", "body": body[7:]}]

    async def receive() -> Any:
        return parts.pop(0)

    raw = [(name.encode(), value.encode()) for name, value in named.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": raw}, receive)


@pytest.mark.parametrize("name", OURS)
def test_our_own_page_may(name: str) -> None:
    check_site(OURS[name])


@pytest.mark.parametrize("name", THEIRS)
def test_another_site_may_not(name: str) -> None:
    with pytest.raises(Refused, match="another site"):
        check_site(THEIRS[name])


@pytest.mark.parametrize(("held", "sent"), [("", ""), (TOKEN, ""), ("", TOKEN), (TOKEN, "x" * 43), (TOKEN, "ü\udcff")])
def test_without_the_token_nobody_may(held: str, sent: str) -> None:
    with pytest.raises(Refused, match="too old"):
        check_token(held, sent)


async def test_an_act_has_all_fields_and_why() -> None:
    with accessed_by(OPERATOR):
        act = await admitted(request(f"token={TOKEN}&id=1&id=2&id=&why=+a%00b+".encode()))
    assert act.form["id"] == ""
    assert act.all("id") == ["1", "2", ""]
    assert act.why == "a\ufffdb"
    entry = act.entry("cancel", "notifications", 2, channel="SMS")
    assert (entry.who, entry.role, entry.reason, entry.detail) == ("ann", "operator", "a\ufffdb", {"channel": "SMS"})


def test_a_reason_is_bounded() -> None:
    assert len(Act(request(b""), OPERATOR, (("why", "x" * 9000),)).why) == 500


@pytest.mark.parametrize(
    ("who", "status"),
    [
        (Access("ann", Role.OPERATOR, TOKEN, read_only=True), 405),
        (Access("ann", Role.VIEWER, TOKEN), 403),
        (Access("ann", Role.OPERATOR, "another"), 403),
        (Access("", Role.VIEWER), 403),
    ],
    ids=["read-only", "viewer", "another session", "nobody"],
)
async def test_who_may_not(who: Access, status: int) -> None:
    with accessed_by(who), pytest.raises(Refused) as refused:
        await admitted(request(f"token={TOKEN}".encode()))
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"token=" + TOKEN.encode() + b"&x=" + b"y" * 70_000, "application/x-www-form-urlencoded", 413),
        (b"&".join([b"token=" + TOKEN.encode(), *[b"a=b"] * 3000]), "application/x-www-form-urlencoded", 413),
        (b'{"token": 1}', "application/json", 403),
        (b"\xff\xfe%zz&=&", "application/x-www-form-urlencoded", 403),
    ],
    ids=["big", "many", "json", "garbage"],
)
async def test_a_body_of_any_kind(body: bytes, kind: str, status: int) -> None:
    with accessed_by(OPERATOR), pytest.raises(Refused) as refused:
        await admitted(request(body, kind))
    assert refused.value.status == status
