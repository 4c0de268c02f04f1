"""Who comes in, as what, and what they may do: through the whole dashboard, as a browser or a proxy would ask."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2
import pytest
from starlette.datastructures import MutableHeaders
from starlette.routing import Route
from structlog.testing import capture_logs

from app.process import free_port
from app.resources import Resources, open_engine, open_redis
from app.settings import Settings
from tests.integration.test_web import BASE
from tests.processes import environment, process
from web.access import Role
from web.gate import Gate
from web.proxied import FROM_PROXY
from web.routes import build_app
from web.session import new_session
from web.sessions import Sessions
from web.throttle import WRONG_MAX

Make = Callable[..., Settings]
OPERATORS, VIEWERS = "the operators'", "the viewers'"
PASSWORDS = {"dashboard_password": OPERATORS, "dashboard_viewer_password": VIEWERS}
PROXY = {"dashboard_proxy_header": "X-User", "dashboard_proxy_role_header": "X-Role"}
SIGN_IN = f"{BASE}/sign-in"


@asynccontextmanager
async def dashboard(settings: Settings) -> AsyncIterator[Callable[..., httpx2.AsyncClient]]:
    """Browsers of one dashboard, each with cookies of its own; `host` is where a browser's requests come from."""
    redis = open_redis(settings)
    async with open_engine(settings, "web") as engine:
        app = build_app(settings, engine, redis)

        def browser(host: str = "10.0.0.1", base_url: str = "http://d.example", **headers: str) -> httpx2.AsyncClient:
            transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False, client=(host, 1234))
            return httpx2.AsyncClient(transport=transport, base_url=base_url, headers=headers)

        yield browser
    await redis.aclose()


@pytest.fixture
async def browser(make_settings: Make) -> AsyncIterator[Callable[..., httpx2.AsyncClient]]:
    async with dashboard(make_settings(**PASSWORDS, dashboard_host="0.0.0.0")) as browsers:
        yield browsers


async def sign_in(client: httpx2.AsyncClient, password: str = OPERATORS, name: str = "ann", **other: str) -> httpx2.Response:
    return await client.post(SIGN_IN, data={"name": name, "password": password, **other})


async def token(client: httpx2.AsyncClient) -> str:
    found = re.search(r'name="token" value="([^"]+)"', (await client.get(BASE)).text)
    assert found
    return found[1]


def cookie_of(answer: httpx2.Response) -> set[str]:
    [line] = answer.headers.get_list("set-cookie")
    return set(line.split("; "))


def write_routes() -> list[str]:
    """The paths of every route that takes a POST, but for sign-in and sign-out."""
    with patch("web.routes.Starlette") as made:
        build_app(Settings.model_construct(), None, None)  # type: ignore[arg-type]
    paths = [
        r.path for r in made.call_args.kwargs["routes"] if isinstance(r, Route) and r.methods and not r.methods <= {"GET", "HEAD"}
    ]
    return sorted(re.sub(r"{[^}]*}", "1", path) for path in paths if path not in (SIGN_IN, f"{BASE}/sign-out"))


WRITES = write_routes()


def test_there_are_write_routes() -> None:
    assert f"{BASE}/notifications/act" in WRITES


async def test_nobody_sees_anything_without_a_session(browser: Callable[..., httpx2.AsyncClient]) -> None:
    async with browser() as client:
        answer = await client.get(f"{BASE}/failures?status=FAILED")
        assert (answer.status_code, answer.headers["location"]) == (
            303,
            f"{SIGN_IN}?next=%2Fadmin%2Fqueues%2Ffailures%3Fstatus%3DFAILED",
        )
        assert answer.content == b""
        script = await client.get(BASE, headers={"sec-fetch-mode": "cors"})
        assert (script.status_code, script.headers["www-authenticate"]) == (401, "Cookie")
        assert (await client.post(f"{BASE}/notifications/act")).status_code == 401
        assert (await client.get(f"{BASE}/no-such-page", headers={"sec-fetch-mode": "cors"})).status_code == 401
        assert (await client.get(SIGN_IN)).status_code == 200
        assert (await client.get("/static/style.css")).status_code == 200
        assert (await client.get("/")).status_code == 307


def test_all_but_the_files_beside_the_pages_is_behind_the_gate() -> None:
    with patch("web.routes.Starlette") as made:
        build_app(Settings.model_construct(), None, None)  # type: ignore[arg-type]
    outside = [r.path for r in made.call_args.kwargs["routes"] if not r.path.startswith(BASE)]
    assert outside == ["/", "/static"], "the first leads to the overview"


async def test_events_end_with_their_session(make_settings: Make) -> None:
    settings = make_settings(**PASSWORDS)
    sessions, told = Sessions(settings), list[bytes]()
    session = new_session("ann", Role.OPERATOR, sessions.now(), signed_in=True)
    cookies = MutableHeaders()
    sessions.hand_out(cookies, session, secure=False)

    async def events(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for event in (b"one", b"two", b"three"):
            await send({"type": "http.response.body", "body": event, "more_body": True})
            if event == b"one":
                sessions.end(session)

    async def send(message: Any) -> None:
        told.append(message.get("body", b"start") if message.get("more_body", True) else b"end")

    cookie = cookies["set-cookie"].partition(";")[0].encode()
    scope = {"type": "http", "path": BASE, "headers": [(b"cookie", cookie)], "scheme": "http", FROM_PROXY: False}
    await Gate(events, settings, sessions)(scope, None, send)  # type: ignore[arg-type]
    assert told == [b"start", b"one", b"end"]


async def test_sign_in_and_out(browser: Callable[..., httpx2.AsyncClient]) -> None:
    async with browser() as client:
        answer = await sign_in(client, next=f"{BASE}/failures")
        assert (answer.status_code, answer.headers["location"]) == (303, f"{BASE}/failures")
        assert {"HttpOnly", "SameSite=lax", f"Path={BASE}"} <= cookie_of(answer)
        assert "Secure" not in cookie_of(answer)
        page = (await client.get(BASE)).text
        assert "<bdi>ann</bdi>" in page
        kept = dict(client.cookies)
        answer = await client.post(f"{BASE}/sign-out", data={"token": await token(client)})
        assert (answer.status_code, answer.headers["location"]) == (303, SIGN_IN)
        assert "Max-Age=0" in cookie_of(answer)
        assert (await client.get(BASE)).status_code == 303
        client.cookies.update(kept)
        assert (await client.get(BASE)).status_code == 303, "a copy of the cookie counts no more"


async def test_nobody_is_signed_out_by_another_site(browser: Callable[..., httpx2.AsyncClient]) -> None:
    async with browser() as client:
        await sign_in(client)
        held = await token(client)
        assert (await client.post(f"{BASE}/sign-out")).status_code == 403
        for headers in ({"origin": "http://evil"}, {"sec-fetch-site": "cross-site"}):
            assert (await client.post(f"{BASE}/sign-out", data={"token": held}, headers=headers)).status_code == 403
        assert (await client.get(BASE)).status_code == 200
        assert (await client.get(f"{BASE}/sign-out")).status_code == 405


async def test_nobody_is_signed_in_by_another_site(browser: Callable[..., httpx2.AsyncClient]) -> None:
    async with browser(origin="http://evil") as client:
        answer = await sign_in(client)
        assert (answer.status_code, answer.headers.get_list("set-cookie")) == (403, [])


async def test_over_tls_the_cookie_is_secure(browser: Callable[..., httpx2.AsyncClient]) -> None:
    async with browser(base_url="https://d.example") as client:
        assert "Secure" in cookie_of(await sign_in(client))
    async with browser(host="127.0.0.1", **{"x-forwarded-proto": "https", "x-forwarded-for": "9.9.9.9"}) as client:
        assert "Secure" in cookie_of(await sign_in(client))
    async with browser(host="10.0.0.1", **{"x-forwarded-proto": "https"}) as client:
        assert "Secure" not in cookie_of(await sign_in(client)), "only a trusted proxy is believed"


async def test_a_planted_session_is_worth_nothing_after_sign_in(browser: Callable[..., httpx2.AsyncClient]) -> None:
    """Fixation: somebody signs in as a viewer, and plants that cookie in the operator's browser."""
    async with browser() as attacker, browser() as victim:
        await sign_in(attacker, VIEWERS, "eve")
        planted = dict(attacker.cookies)
        victim.cookies.update(planted)
        answer = await sign_in(victim)
        [(name, value)] = planted.items()
        fresh = next(part for part in cookie_of(answer) if part.startswith(name)).partition("=")[2]
        assert fresh != value
        assert (await attacker.get(BASE)).status_code == 303, "the planted one is over"
        victim.cookies.clear()
        victim.cookies.set(name, fresh)
        assert "<bdi>ann</bdi>" in (await victim.get(BASE)).text


@pytest.mark.parametrize("path", ["https://evil.example/", "//evil.example", "/\\evil.example", f"{BASE}/\r\nx: y"])
async def test_sign_in_leads_to_no_other_site(browser: Callable[..., httpx2.AsyncClient], path: str) -> None:
    async with browser() as client:
        shown = await client.get(SIGN_IN, params={"next": path})
        assert f'name="next" value="{BASE}"' in shown.text
        assert (await sign_in(client, next=path)).headers["location"] == BASE
        again = await client.get(SIGN_IN, params={"next": path})
        assert (again.status_code, again.headers["location"]) == (303, BASE)


async def test_a_wrong_password(browser: Callable[..., httpx2.AsyncClient]) -> None:
    async with browser() as client:
        with capture_logs() as logs:
            answer = await sign_in(client, "a wrong one", "<b>ann</b>")
        assert (answer.status_code, answer.headers.get_list("set-cookie")) == (403, [])
        assert "&lt;b&gt;ann&lt;/b&gt;" in answer.text
        assert "a wrong one" not in answer.text
        assert logs == [{"address": "10.0.0.1", "event": "sign-in refused", "log_level": "warning"}]
        assert (await sign_in(client, name=" \u200b ")).status_code == 422


async def test_who_guesses_is_slowed_down_alone(browser: Callable[..., httpx2.AsyncClient]) -> None:
    async with browser() as guesser, browser(host="10.0.0.2") as other:
        for _ in range(WRONG_MAX):
            assert (await sign_in(guesser, "a wrong one")).status_code == 403
        answer = await sign_in(guesser)
        assert answer.status_code == 429, "even the right one"
        assert 0 < int(answer.headers["retry-after"]) <= 600
        assert (await sign_in(other)).status_code == 303


async def test_a_viewer_does_not_guess_on(browser: Callable[..., httpx2.AsyncClient]) -> None:
    async with browser("10.0.0.66") as viewer:
        for _ in range(WRONG_MAX - 1):
            await sign_in(viewer, "a wrong one")
        assert (await sign_in(viewer, VIEWERS)).status_code == 303
        await sign_in(viewer, "a wrong one")
        assert (await sign_in(viewer, OPERATORS)).status_code == 429


async def test_behind_a_proxy_each_person_has_an_address(browser: Callable[..., httpx2.AsyncClient]) -> None:
    def through(address: str) -> dict[str, str]:
        return {"x-forwarded-for": f"1.1.1.1, {address}"}  # the first is what the person claims

    async with browser(host="127.0.0.1") as proxy:
        for _ in range(WRONG_MAX):
            await proxy.post(SIGN_IN, data={"name": "eve", "password": "a wrong one"}, headers=through("9.9.9.9"))
        right = {"name": "ann", "password": OPERATORS}
        assert (await proxy.post(SIGN_IN, data=right, headers=through("9.9.9.9"))).status_code == 429
        assert (await proxy.post(SIGN_IN, data=right, headers=through("9.9.9.8"))).status_code == 303


@pytest.mark.parametrize("body", [b"", b"\xff=%ff", b"name=" + b"x" * 9000, b"&" * 5000, b"{}"])
async def test_a_sign_in_of_any_kind_is_no_traceback(browser: Callable[..., httpx2.AsyncClient], body: bytes) -> None:
    async with browser() as client:
        answer = await client.post(SIGN_IN, content=body, headers={"content-type": "application/x-www-form-urlencoded"})
        assert answer.status_code in (403, 413, 422)
        assert "Traceback" not in answer.text


@pytest.mark.parametrize("path", WRITES)
async def test_every_write_route_is_guarded(browser: Callable[..., httpx2.AsyncClient], path: str) -> None:
    async with browser() as operator, browser() as viewer:
        await sign_in(operator)
        await sign_in(viewer, VIEWERS, "vic")
        held = await token(operator)
        for data, headers in (
            ({}, {}),
            ({"token": "x" * 43}, {}),
            ({"token": await token(viewer)}, {}),
            ({"token": held}, {"origin": "http://evil.example"}),
            ({"token": held}, {"sec-fetch-site": "cross-site"}),
            ({"token": held}, {"sec-fetch-site": "same-site"}),
        ):
            assert (await operator.post(path, data=data, headers=headers)).status_code == 403, (data, headers)
        assert (await viewer.post(path, data={"token": await token(viewer)})).status_code == 403
        assert (await operator.post(path, data={"token": held})).status_code != 403, "with its own token it is let through"


async def test_no_write_route_is_left_in_read_only_mode(make_settings: Make) -> None:
    async with dashboard(make_settings(**PASSWORDS, dashboard_read_only=True)) as browsers, browsers() as client:
        assert (await sign_in(client)).status_code == 303, "to look"
        held = await token(client)
        answers = {path: (await client.post(path, data={"token": held})).status_code for path in WRITES}
        assert answers == dict.fromkeys(WRITES, 405)
        page = (await client.get(BASE)).text
        assert set(re.findall(r'method="post" action="([^"]*)"', page)) == {f"{BASE}/sign-out"}
        assert "read-only" in page


async def test_a_changed_password_ends_the_sessions_it_opened(make_settings: Make) -> None:
    same = {"dashboard_secret": "a secret of the tests", "dashboard_host": "0.0.0.0"}
    async with dashboard(make_settings(**same, **PASSWORDS)) as browsers, browsers() as client:
        await sign_in(client)
        kept = dict(client.cookies)
    for password, status in ((OPERATORS, 200), ("another one", 303)):
        settings = make_settings(**same, **{**PASSWORDS, "dashboard_password": password})
        async with dashboard(settings) as browsers, browsers() as client:
            client.cookies.update(kept)
            assert (await client.get(BASE)).status_code == status


async def test_a_proxy_signs_people_in(make_settings: Make) -> None:
    async with dashboard(make_settings(**PROXY, dashboard_host="0.0.0.0", dashboard_trusted_proxies="10.9.0.0/16")) as browsers:
        async with browsers(host="10.9.0.1", **{"X-User": "ann", "X-Role": "operator"}) as client:
            page = await client.get(BASE)
            assert "<bdi>ann</bdi>" in page.text
            assert "Sign out" not in page.text, "that is the proxy's"
            assert (await client.get(SIGN_IN)).headers["location"] == BASE
            await client.get(f"{BASE}/audit")
            before = dict(client.cookies)
            await client.get(BASE)
            assert dict(client.cookies) == before, "one session, and its token, as long as it is the same person"
            client.headers["X-User"] = "bob"
            assert "<bdi>bob</bdi>" in (await client.get(BASE)).text
            assert dict(client.cookies) != before
            del client.headers["X-User"]
            assert (await client.get(BASE)).status_code == 403, "the cookie alone is not the proxy's word"
        async with browsers(host="10.8.0.1", **{"X-User": "eve", "X-Role": "operator"}) as client:
            assert (await client.get(BASE)).status_code == 403, "anybody can send a header"
            assert (await client.post(SIGN_IN, data={"name": "eve", "password": ""})).status_code == 403


async def test_a_password_beside_a_proxy(make_settings: Make) -> None:
    settings = make_settings(**PROXY, **PASSWORDS, dashboard_host="0.0.0.0", dashboard_trusted_proxies="10.9.0.1")
    async with dashboard(settings) as browsers:
        async with browsers(host="10.9.0.1", **{"X-User": "ann", "X-Role": "operator"}) as client:
            assert (await client.get(BASE)).status_code == 200
            del client.headers["X-User"]
            assert (await client.get(BASE)).status_code == 303, "who was the proxy's signs in here"
        async with browsers() as client:
            await sign_in(client)
            assert (await client.get(BASE)).status_code == 200


async def test_on_loopback_a_header_from_a_page_elsewhere_is_not_believed(make_settings: Make) -> None:
    """DNS rebinding: the name of a page elsewhere was made to point here, so its scripts may send any header."""
    async with (
        dashboard(make_settings(**PROXY)) as browsers,
        browsers(host="127.0.0.1", base_url="http://evil.example:3000", **{"X-User": "eve", "X-Role": "operator"}) as client,
    ):
        assert (await client.get(BASE)).status_code == 400


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_it_does_not_start_open_to_all(settings: Settings, tmp_path: Path, host: str) -> None:
    env = environment(settings, dashboard_host=host, dashboard_port=free_port(0))
    with process(["web"], env, tmp_path) as child:
        assert child.wait(20) == 1
    [line] = (tmp_path / "web.log").read_text().splitlines()
    assert line.startswith(f"tidings web: DASHBOARD_HOST is {host!r}, which others can reach: set DASHBOARD_PASSWORD")


async def test_it_is_healthy_with_a_password(settings: Settings, tmp_path: Path, wait_until: Any, resources: Resources) -> None:
    from app.health import Unhealthy, check

    port = free_port(0)
    mine = settings.model_copy(update={**PASSWORDS, "dashboard_port": port})

    def healthy() -> bool:
        try:
            return "answered" in check(mine, "web")
        except Unhealthy:
            return False

    with process(["web"], environment(mine), tmp_path):
        await wait_until(healthy, within_s=20)
