"""`tidings pause` and `tidings resume`: what they print, and what is then so; without Redis."""

import asyncio
import getpass

import pytest

from app.domain import Channel
from app.hold_cli import HoldError, pause, resume
from app.resources import Resources, Unreachable
from app.settings import Settings
from app.store.hold import read_holds
from tests.integration.api import closed_port


@pytest.fixture
def ann(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")


@pytest.mark.usefixtures("ann")
async def test_pause_and_resume(resources: Resources) -> None:
    settings = resources.settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{closed_port()}"})

    async def run(act: object, *args: str) -> str:
        return await asyncio.to_thread(act, settings, *args)  # type: ignore[arg-type]

    assert (await run(resume, "EMAIL", "")).startswith("EMAIL was not paused by hand")
    assert (await run(pause, "email", "maintenance")).startswith("EMAIL is paused: ")
    assert [held.words for held in (await read_holds(resources.pool)).values()] == ["ann: maintenance"]
    assert await run(pause, "EMAIL", "again") == "EMAIL was paused already, for 0 s, by ann: maintenance"
    assert await run(resume, "EMAIL", "done") == "EMAIL goes on"
    assert await read_holds(resources.pool) == {}
    rows = await resources.pool.fetch("select who, role, action, target, reason from audit order by id")
    assert [tuple(row) for row in rows] == [
        ("ann", "command line", "pause", "EMAIL", "maintenance"),
        ("ann", "command line", "resume", "EMAIL", "done"),
    ]


def test_no_such_channel(settings: Settings) -> None:
    with pytest.raises(HoldError, match="there is no channel 'FAX': it is one of EMAIL, SMS, PUSH"):
        pause(settings, "FAX", "")


async def test_what_cannot_be_recorded_is_not_done(resources: Resources) -> None:
    await resources.pool.execute("drop table audit")
    with pytest.raises(HoldError, match="nothing was changed"):
        await asyncio.to_thread(pause, resources.settings, Channel.EMAIL, "")
    assert await read_holds(resources.pool) == {}


def test_postgresql_away(settings: Settings) -> None:
    gone = settings.model_copy(update={"database_url": f"postgresql://postgres@127.0.0.1:{closed_port()}/tidings"})
    with pytest.raises(Unreachable, match="DATABASE_URL"):
        pause(gone, "EMAIL", "")
