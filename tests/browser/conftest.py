"""A real house (API, consumers, dashboard, each a process of its own) and a real browser, which fails a page that complains.

Chromium is the system's (Debian: apt-get install chromium fonts-dejavu-core). Without one the tests are skipped, but not in CI.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import uvicorn
from playwright.async_api import Browser, Page, async_playwright, expect

from app import local
from app.listen import listen
from app.process import free_port
from app.resources import open_engine, open_redis
from app.settings import load_settings
from tests.browser.house import TIMES, House, build_house
from tests.conftest import TEMPLATE, Servers
from web.live import new_collector
from web.routes import build_app

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WITHIN_MS = 20_000
# The browser says so itself where an answer is a 4xx or 5xx, which a test may have asked for.
EXPECTED = ("Failed to load resource: the server responded with a status of",)
Visit = Callable[..., AbstractAsyncContextManager[Page]]
Another = Callable[..., AbstractAsyncContextManager[str]]

expect.set_options(timeout=WITHIN_MS)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the system's browser."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None and os.environ.get("CI"):
        pytest.fail("no browser: apt-get install chromium fonts-dejavu-core")
    if found is None:
        pytest.skip("no browser is installed (apt-get install chromium fonts-dejavu-core)")
    return found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        args = ["--disable-dev-shm-usage", "--disable-gpu"]
        launched = await playwright.chromium.launch(executable_path=chromium, args=args)
        yield launched
        await launched.close()


@pytest.fixture(scope="package")
def house_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("house")


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def house(
    chromium: str, servers: Servers, cluster: "asyncpg.Connection[asyncpg.Record]", house_folder: Path
) -> AsyncIterator[House]:
    """One for all tests of this folder: each uses users and events of its own. It has a Valkey of its own: its consumers read."""
    await cluster.execute(f"create database browser template {TEMPLATE} strategy wal_log")
    with ExitStack() as started:
        valkey = local.start_valkey(house_folder / "valkey", 0)
        started.callback(valkey.stop)
        urls = {"redis_url": valkey.url, "database_url": servers.postgres_url + "browser"}
        async with build_house(load_settings(_env_file=None, **urls, **TIMES), house_folder, started) as built:
            yield built
    await cluster.execute("drop database browser with (force)")


@pytest.fixture
def visit(browser: Browser, house: House) -> Visit:
    """`async with visit("/admin/queues", color_scheme="dark") as page`: what the page complains of fails the test."""

    @asynccontextmanager
    async def visiting(path: str = "", web: str = "", **context: Any) -> AsyncIterator[Page]:
        complaints: list[str] = []
        known = {"base_url": web or house.web, "timezone_id": "Europe/Berlin", "reduced_motion": "reduce"}  # motion costs a core
        opened = await browser.new_context(**{**known, **context})
        opened.set_default_timeout(WITHIN_MS)
        page = await opened.new_page()
        page.on("pageerror", lambda error: complaints.append(f"exception: {error}"))
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        await page.goto(f"/admin/queues{path}")
        yield page
        await opened.close()
        assert [said for said in complaints if not said.startswith(EXPECTED)] == []

    return visiting


@pytest.fixture
def another(house: House) -> Another:
    """`async with another(dashboard_read_only=True) as web`: the address of a dashboard of the same house with other settings."""

    @asynccontextmanager
    async def serving(**settings: Any) -> AsyncIterator[str]:
        changed = load_settings(_env_file=None, **{**house.settings.model_dump(), **settings, "dashboard_port": free_port(0)})
        listener = listen(changed.dashboard_host, changed.dashboard_port, "DASHBOARD")
        redis = open_redis(changed)
        async with open_engine(changed, "web") as engine:
            collector = new_collector(changed, engine, redis)
            server = uvicorn.Server(
                uvicorn.Config(
                    build_app(changed, engine, redis, collector), log_config=None, lifespan="off", timeout_graceful_shutdown=2
                )
            )
            serve = asyncio.ensure_future(server.serve(sockets=[listener]))
            yield f"http://127.0.0.1:{changed.dashboard_port}"
            collector.close()
            server.should_exit = True
            await serve
        await redis.aclose()

    return serving
