"""Every page in a real browser: light on a wide screen, dark on a phone, and without JavaScript. A screenshot of each is kept."""

from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Page, expect
from starlette.routing import Route

from app.settings import load_settings
from tests.browser.conftest import Visit
from tests.browser.house import SHOTS, House
from tests.conftest import wait_until
from web.routes import build_app

pytestmark = pytest.mark.timeout(120)  # the first test waits for all processes to start
WIDE: dict[str, Any] = {"color_scheme": "light", "viewport": {"width": 1360, "height": 900}}
PHONE: dict[str, Any] = {
    "color_scheme": "dark", "viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True
}  # fmt: skip
# Every page by the route it is of, with an address to look at; {names} are filled in from what is in the house.
PAGES = {
    "": ["", "?range=6+h"],
    "/streams": ["/streams"],
    "/streams/{name}": ["/streams/email", "/streams/dead"],
    "/notifications": ["/notifications", "/notifications?status=FAILED&user=nobody&since=1h"],
    "/notifications/act": ["/notifications/act?do=replay&status=FAILED"],
    "/jobs": ["/jobs"],
    "/people": ["/people"],
    "/user": ["/user?id=user_123", "/user?id=nobody"],
    "/retries": ["/retries"],
    "/failures": ["/failures"],
    "/dead-letters": ["/dead-letters"],
    "/dead-letters/{kind}/{id}": ["/dead-letters/event/{seed-import-1}"],
    "/engine": ["/engine"],
    "/consistency": ["/consistency"],
    "/audit": ["/audit"],
    "/events/{event_pk}": ["/events/{seed-invoice-1}", "/events/{seed-report-1}", "/events/{hello-1}"],
    "/mailbox": ["/mailbox", "/mailbox?user=nobody"],
    "/faults": ["/faults"],
    "/search": ["/search?q=nothing-is-called-so"],
}
# Shown by test_actions.py (they need something that happened before), no page, or no page of their own.
ELSEWHERE = {"/jobs/{job_id}", "/sign-in", "/live", "/rates"}


async def at(house: House, address: str) -> str:
    """The address with the ids of this house."""
    before, brace, rest = address.partition("{")
    name, _, after = rest.partition("}")
    return f"{before}{await house.event_pk(name)}{after}" if brace else address


def file_name(address: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in address.strip("/")) or "overview"


async def grave(page: Page) -> list[str]:
    """What axe finds that keeps people out."""
    found = (await Axe().run(page, options={"resultTypes": ["violations"]})).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {node['html'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:3]
    ]


async def look_at(page: Page, name: str) -> None:
    """The page is one, fits, is open to all, and its picture is kept."""
    await expect(page.locator("h1").first).to_be_visible()
    assert await page.locator("h1").count() == 1
    await wait_until(lambda: page.evaluate("document.documentElement.scrollWidth <= innerWidth"))  # else it scrolls sideways
    assert await grave(page) == []
    SHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SHOTS / f"{name}.png", full_page=True, animations="disabled")


@pytest.mark.parametrize("address", [address for addresses in PAGES.values() for address in addresses])
async def test_every_page_looks_well(visit: Visit, house: House, address: str) -> None:
    """One load for both looks: what changes them is the style alone."""
    async with visit(await at(house, address), **WIDE) as page:
        await look_at(page, f"{file_name(address)}-light-wide")
        if address in (first for first, *_ in PAGES.values()):
            await page.set_viewport_size(PHONE["viewport"])
            await page.emulate_media(color_scheme="dark")
            await look_at(page, f"{file_name(address)}-dark-phone")


async def test_every_page_has_its_content_without_javascript(visit: Visit, house: House) -> None:
    async with visit(java_script_enabled=False, **WIDE) as page:
        for address in (addresses[0] for addresses in PAGES.values()):
            await page.goto(f"/admin/queues{await at(house, address)}")
            assert await page.locator("h1").first.inner_text(), address
            assert len(await page.locator("main").inner_text()) > 20, address


def test_no_page_is_forgotten() -> None:
    """Each GET route of the dashboard is looked at."""
    prefix = "/admin/queues"
    paths = {path.removeprefix(prefix) for path in page_paths() if path.startswith(prefix)}
    assert paths - PAGES.keys() - ELSEWHERE == set()


def page_paths() -> set[str]:
    app: Any = build_app(load_settings(_env_file=None), None, None, None)  # type: ignore[arg-type]
    while not hasattr(app, "routes"):  # what is around the routes, layer by layer
        app = next(inner for name in ("app", "_app", "_behind") if (inner := getattr(app, name, None)) is not None)
    return {r.path for r in app.routes if isinstance(r, Route) and "GET" in (r.methods or ())}
