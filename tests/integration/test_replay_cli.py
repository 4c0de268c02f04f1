"""`tidings replay`: what it prints, when it asks, and what it then does; without Redis."""

import asyncio
import io
from collections.abc import Callable
from typing import Any

import pytest

from app import replay
from app.replay_cli import run
from app.replay_options import Named, Order, ReplayError
from app.resources import Resources
from app.store.replay import Wanted, replay_batch
from tests.integration.api import closed_port
from tests.integration.test_replay import failed, owed
from tests.support import add_events, add_notification, change, event, event_row, notification

Replay = Callable[..., Any]
FAILED = Wanted()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def tidings_replay(resources: Resources, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Replay:
    """`tidings replay`, answered with `typed` on a terminal; the lines it prints."""

    async def replay(what: Named | Wanted, typed: str | None = None, **order: Any) -> list[str]:
        monkeypatch.setattr("sys.stdin", io.StringIO() if typed is None else Terminal(typed))
        away = resources.settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{closed_port()}"})
        given = {"yes": False, "dry_run": False, "limit": None, "rate_per_s": 100, **order}
        await asyncio.to_thread(run, away, Order(what, **given))
        return capsys.readouterr().out.splitlines()

    return replay


async def test_it_says_how_many_and_asks(resources: Resources, tidings_replay: Replay) -> None:
    ids = await failed(resources, 2)
    said = await tidings_replay(FAILED, typed="y\n")
    assert said == [
        "2 FAILED notifications match:",
        "          2  EMAIL  out_of_tries: every allowed try failed",
        "Replay 2, at most 100 per second? [y/N] replayed 2, due now",
    ]
    assert await owed(resources) == ids


@pytest.mark.parametrize("typed", ["", "\n", "n\n", "yep\n"])
async def test_anything_but_yes_is_no(resources: Resources, tidings_replay: Replay, typed: str) -> None:
    await failed(resources, 1)
    assert (await tidings_replay(FAILED, typed=typed))[-1].endswith("[y/N] nothing was replayed")
    assert await owed(resources) == []


async def test_without_a_terminal_it_refuses_in_one_line(resources: Resources, tidings_replay: Replay) -> None:
    await failed(resources, 1)
    with pytest.raises(ReplayError, match=r"^there is no terminal to ask on: add --yes to replay, or --dry-run to only count$"):
        await tidings_replay(FAILED)
    assert await owed(resources) == []


async def test_a_dry_run_only_counts(resources: Resources, tidings_replay: Replay) -> None:
    await failed(resources, 1)
    assert (await tidings_replay(FAILED, dry_run=True, yes=True))[0] == "1 FAILED notification matches:"
    assert await owed(resources) == []


async def test_with_yes_it_does_not_ask(resources: Resources, tidings_replay: Replay) -> None:
    ids = await failed(resources, 3)
    said = await tidings_replay(FAILED, yes=True, limit=2, rate_per_s=0.1)
    assert said[-1].startswith("replayed 2, the last is due in 10 s, at ")
    assert await owed(resources) == ids[:2]


async def test_nothing_that_matches_is_no_question(tidings_replay: Replay) -> None:
    assert await tidings_replay(FAILED, typed="") == ["no FAILED notification matches"]


async def test_a_failure_in_the_middle_says_how_far_it_came(
    resources: Resources, tidings_replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await failed(resources, 4)
    monkeypatch.setattr(replay, "BATCH", 2)

    async def fails_second(*arguments: Any) -> Any:
        if arguments[3]:
            raise ConnectionResetError("cut")
        return await replay_batch(*arguments)

    monkeypatch.setattr(replay, "replay_batch", fails_second)
    with pytest.raises(
        ReplayError, match=r"^PostgreSQL failed when 2 or more were replayed: cut; the same command takes the rest$"
    ):
        await tidings_replay(FAILED, yes=True)
    assert await owed(resources) == ids[:2]


async def test_named_ones_are_replayed_and_the_others_explained(resources: Resources, tidings_replay: Replay) -> None:
    (unknown,) = await failed(resources, 1, status="'UNKNOWN'", reason="crashed")
    pending = await add_notification(resources)
    with pytest.raises(ReplayError, match=r"^2 of those named cannot be replayed$"):
        await tidings_replay(Named((unknown, pending, 999)), yes=True)
    row = await notification(resources, unknown)
    assert (row["status"], row["replays"], row["possible_duplicate"], row["due_in_s"] <= 0) == ("PENDING", 1, True, True)


async def test_an_event_by_its_id(resources: Resources, tidings_replay: Replay) -> None:
    (event_pk,) = await add_events(resources, event("evt-1", source="shop"))
    await change(resources, "event", event_pk, "status = 'FAILED', reason = 'dead_letter'")
    assert await tidings_replay(Named((), "evt-1", "shop"), typed="y\n") == [
        "event: FAILED; dead_letter: its stream entry ended in silence too often",
        "Replay 1? [y/N] replayed 1, due now",
    ]
    assert (await event_row(resources, event_pk))["status"] == "NEW"
    with pytest.raises(ReplayError, match=r"^there is no event 'evt-1' without a source \(option --source\)$"):
        await tidings_replay(Named((), "evt-1"), yes=True)


async def test_failed_events_by_filter(resources: Resources, tidings_replay: Replay) -> None:
    (event_pk,) = await add_events(resources, event())
    await change(resources, "event", event_pk, "status = 'FAILED', reason = 'dead_letter'")
    said = await tidings_replay(Wanted(events=True), yes=True)
    assert said[0] == "1 FAILED event matches:"
    assert (await event_row(resources, event_pk))["status"] == "NEW"


async def test_missing_tables_are_one_line(resources: Resources, tidings_replay: Replay) -> None:
    await resources.pool.execute("alter table notification rename to gone")
    with pytest.raises(ReplayError, match=r"^the tables are missing or old: run `tidings schema apply`$"):
        await tidings_replay(FAILED, yes=True)
