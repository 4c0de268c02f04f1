"""Sessions, the throttle, and the ways in: pure, with the clock as an argument."""

from typing import Any

import pytest

from app.settings import Settings, SettingsError, load_settings
from tests.unit.ready_made import HOSTILE
from tests.unit.test_pages import Document
from web import links
from web.access import Role
from web.render import html
from web.session import Lifetime, Session, Signer, alive, new_session, seen
from web.sign_in_page import sign_in_page
from web.throttle import FORGOTTEN_AFTER_S, Throttle
from web.ways_in import OpenToAll, allowed_hosts, by_proxy, clean_name, refuse_if_open, role_by_password

LIFETIME = Lifetime(idle_s=60, whole_s=600)
PASSWORDS = {"dashboard_password": "the operators'", "dashboard_viewer_password": "the viewers'"}


def settings(**other: Any) -> Settings:
    return load_settings(_env_file=None, **other)


def test_a_cookie_holds_a_session_and_only_ours_counts() -> None:
    session, signer = new_session("Ann \u202eÄ", Role.VIEWER, 1000.5), Signer("secret")
    cookie = signer.cookie(session)
    assert cookie.isascii()
    assert signer.session(cookie) == session
    assert Signer("another").session(cookie) is None
    body, _, signature = cookie.rpartition(".")  # not its last character: that one has bits that count for nothing
    assert signer.session(f"{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}") is None


@pytest.mark.parametrize("cookie", ["", "x", ".", "a.b.c", "\u0665.x", "A" * 10_000, "eyJ.eyJ", "\udcff.x"])
def test_no_cookie_breaks_it(cookie: str) -> None:
    assert Signer("secret").session(cookie) is None


def test_what_we_signed_and_is_no_session_is_none() -> None:
    signer = Signer("secret")
    for value in ([], [1], {"a": 1}, ["i", "n", "admin", "t", 1, 2, True], None, "x" * 7):
        assert signer.session(str(signer._serializer.dumps(value))) is None


def test_a_session_ends_when_it_is_idle_and_when_it_is_old() -> None:
    session = new_session("ann", Role.OPERATOR, 1000)
    assert alive(session, LIFETIME, 1059)
    assert not alive(session, LIFETIME, 1060)
    for now_s in range(1030, 1600, 30):
        session = seen(session, now_s)
    assert alive(session, LIFETIME, 1599)
    assert not alive(seen(session, 1600), LIFETIME, 1600), "used all the time, and over even so"


def test_a_new_session_has_nothing_of_another() -> None:
    one, two = (new_session("ann", Role.OPERATOR, 1000) for _ in range(2))
    assert one.id != two.id
    assert one.token != two.token


def test_a_cookie_is_not_written_at_every_request() -> None:
    session = new_session("ann", Role.OPERATOR, 1000)
    assert seen(session, 1059) is session
    assert seen(session, 1060).seen_s == 1060


def test_wrong_passwords_are_slowed_down_per_address() -> None:
    throttle = Throttle(wrong_max=3)
    for now_s in (0, 10, 20):
        assert throttle.wait_s("10.0.0.1", now_s) == 0
        throttle.wrong("10.0.0.1", now_s)
    assert throttle.wait_s("10.0.0.1", 30) == FORGOTTEN_AFTER_S - 30
    assert throttle.wait_s("10.0.0.2", 30) == 0
    assert throttle.wait_s("10.0.0.1", FORGOTTEN_AFTER_S) == 0, "one more, and then one each time that an old one is forgotten"
    throttle.wrong("10.0.0.1", FORGOTTEN_AFTER_S)
    assert throttle.wait_s("10.0.0.1", FORGOTTEN_AFTER_S) == 10
    throttle.right("10.0.0.1")
    assert throttle.wait_s("10.0.0.1", FORGOTTEN_AFTER_S) == 0


def test_a_network_of_addresses_is_one_and_memory_is_bounded() -> None:
    throttle = Throttle(wrong_max=1, addresses_max=100)
    throttle.wrong("2001:db8:1:2::1", 0)
    assert throttle.wait_s("2001:db8:1:2:ffff::9", 1) > 0
    assert throttle.wait_s("2001:db8:1:3::1", 1) == 0
    throttle.wrong("::ffff:10.0.0.1", 0)
    assert throttle.wait_s("10.0.0.1", 1) > 0
    for number in range(1000):
        throttle.wrong(f"10.1.{number // 256}.{number % 256}", 2)
    assert len(throttle._wrong) == 100
    assert throttle.wait_s("not an address", 0) == 0


@pytest.mark.parametrize(
    ("given", "role"),
    [
        ("the operators'", Role.OPERATOR),
        ("the viewers'", Role.VIEWER),
        ("", None),
        ("the operators", None),
        ("\udcff", None),
        ("x" * 9999, None),
    ],
)
def test_the_password_decides_the_role(given: str, role: Role | None) -> None:
    assert role_by_password(settings(**PASSWORDS), given) is role


def test_without_a_password_the_empty_one_opens_nothing() -> None:
    assert role_by_password(settings(), "") is None
    assert role_by_password(settings(dashboard_viewer_password="the viewers'"), "") is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.9"])
def test_on_loopback_it_may_be_open(host: str) -> None:
    refuse_if_open(settings(dashboard_host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "dashboard.example", ""])
def test_elsewhere_it_needs_a_sign_in(host: str) -> None:
    with pytest.raises(OpenToAll, match="set DASHBOARD_PASSWORD"):
        refuse_if_open(settings(dashboard_host=host))
    for way in (
        {"dashboard_password": "12345678"},
        {"dashboard_viewer_password": "12345678"},
        {"dashboard_proxy_header": "X-User"},
    ):
        refuse_if_open(settings(dashboard_host=host, **way))


@pytest.mark.parametrize(
    "wrong",
    [
        {"dashboard_password": "short"},
        {"dashboard_password": "the same one", "dashboard_viewer_password": "the same one"},
        {"dashboard_secret": "short"},
        {"dashboard_proxy_header": "X User:"},
        {"dashboard_trusted_proxies": "10.0.0.0/8,proxy.example"},
        {"dashboard_hosts": "*"},
    ],
)
def test_a_wrong_setting_is_one_line_and_shows_no_secret(wrong: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as error:
        settings(**wrong)
    assert "\n" not in str(error.value)
    assert "DASHBOARD" in str(error.value)
    assert "short" not in str(error.value)
    assert "the same one" not in str(error.value)


def test_secrets_are_not_in_the_settings_repr() -> None:
    shown = repr(settings(**PASSWORDS, dashboard_secret="a secret of 24 letters.."))
    assert "the operators'" not in shown
    assert "the viewers'" not in shown
    assert "a secret" not in shown


def test_by_which_names_it_may_be_called() -> None:
    assert "evil.example" not in allowed_hosts(settings())
    assert allowed_hosts(settings(dashboard_password="12345678")) == ["*"], "a page of evil.example has no session"
    assert "*" not in allowed_hosts(settings(dashboard_proxy_header="X-User")), "but could send a header"
    assert "d.example" in allowed_hosts(settings(dashboard_proxy_header="X-User", dashboard_hosts="d.example"))
    assert allowed_hosts(settings(dashboard_host="0.0.0.0", dashboard_proxy_header="X-User")) == ["*"]


@pytest.mark.parametrize(
    ("headers", "other", "who"),
    [
        ({"X-User": "ann"}, {}, ("ann", Role.VIEWER)),
        ({"X-User": "ann"}, {"dashboard_proxy_role": "operator"}, ("ann", Role.OPERATOR)),
        ({"X-User": "ann", "X-Role": "staff, Operator"}, {"dashboard_proxy_role_header": "X-Role"}, ("ann", Role.OPERATOR)),
        ({"X-User": "ann", "X-Role": "admin"}, {"dashboard_proxy_role_header": "X-Role"}, ("ann", Role.VIEWER)),
        (
            {"X-User": "ann"},
            {"dashboard_proxy_role_header": "X-Role", "dashboard_proxy_role": "operator"},
            ("ann", Role.VIEWER),
        ),
        ({"X-User": " \u200b\x07 "}, {}, None),
        ({}, {}, None),
    ],
)
def test_whom_the_proxy_names(headers: dict[str, str], other: dict[str, str], who: tuple[str, Role] | None) -> None:
    assert by_proxy(settings(dashboard_proxy_header="X-User", **other), headers) == who


def test_a_name_is_one_short_line() -> None:
    assert clean_name("  Ann\n\u202e O'Neill  ") == "Ann O'Neill"
    assert len(clean_name("x" * 500)) == 80


@pytest.mark.parametrize("path", ["/admin/queues", "/admin/queues?x=1", "/admin/queues/failures?status=FAILED&reason=ä"])
def test_back_to_a_page_of_ours(path: str) -> None:
    assert links.own_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/admin/queues\\..\\evil",
        "/admin/queuesevil",
        "/admin/queues@evil.example",
        "javascript:alert(1)",
        "/admin/queues/\r\nset-cookie: x=1",
        "/admin/queues/" + "x" * 3000,
        "/static/x",
        "/admin/queues/sign-out",
        "/admin/queues/sign-in?next=/admin/queues",
    ],
)
def test_and_to_no_other(path: str) -> None:
    assert links.own_path(path) == "/admin/queues"


def test_the_sign_in_page_takes_hostile_text() -> None:
    document = Document(html(sign_in_page(links.own_path("/admin/queues?x=" + HOSTILE), HOSTILE, HOSTILE)))
    assert [src for src in document.attributes("script", "src") if not src.startswith("/static/")] == []
    assert HOSTILE in document.attributes("input", "value")
    assert document.attributes("form", "action") == ["/admin/queues/sign-in"]
    assert not [name for _, attrs in document.tags for name in attrs if name.startswith("on") or name == "style"]


def test_a_session_says_nothing_of_its_password() -> None:
    assert "password" not in {name.lower() for name in Session.__slots__}
