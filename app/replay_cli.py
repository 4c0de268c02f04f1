"""`tidings replay`: says what would be sent again and why it had ended, asks, and puts it on its way. Redis is not needed."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import asyncpg

from app.replay import Plan, Progress, act, plan
from app.replay_options import Named, Order, ReplayError
from app.replay_words import due_words, found_words, plan_words, question
from app.resources import open_resources
from app.settings import Settings
from app.store.batch import FAULTY
from app.store.operate import Operated, OperatedEvent, replay_events, replay_notifications
from app.store.replay import COUNT_WITHIN_S, CountTooSlow, Found, Wanted, find_event, find_notifications

if TYPE_CHECKING:
    from app.store.batch import Pool

Answer = TypeVar("Answer")


def run(settings: Settings, order: Order) -> None:
    """Count, ask, replay, and print each. Raises ReplayError and resources.Unreachable."""
    if not (order.yes or order.dry_run or sys.stdin.isatty()):
        raise ReplayError("there is no terminal to ask on: add --yes to replay, or --dry-run to only count")
    if isinstance(order.what, Wanted):
        _by_filter(settings, order, order.what)
    else:
        _by_name(settings, order, order.what)


def _by_filter(settings: Settings, order: Order, wanted: Wanted) -> None:
    planned = _on_postgresql(settings, lambda pool: plan(pool, wanted))
    _say(plan_words(planned))
    if planned.matching and _agreed(order, question(planned, order.limit, order.rate_per_s)):
        _on_postgresql(settings, lambda pool: _act(pool, planned, order))


async def _act(pool: "Pool", planned: Plan, order: Order) -> None:
    """Ends with a line on how far it came, also where it is stopped."""
    done = Progress(0, None)
    try:
        async with aclosing(act(pool, planned, order.rate_per_s, order.limit)) as running:
            async for progress in running:
                done = progress
    except FAULTY as error:
        raise ReplayError(
            f"PostgreSQL failed when {done.replayed:,} or more were replayed: {_words(error)}; the same command takes the rest"
        ) from None
    except asyncio.CancelledError:
        print(f"stopped when {done.replayed:,} or more were replayed; the same command takes the rest")
        raise
    print(f"replayed {done.replayed:,}{due_words(done.last_due_at, datetime.now(UTC))}")


def _by_name(settings: Settings, order: Order, named: Named) -> None:
    """All that can be replayed of what was named. Raises ReplayError where that is not all."""
    found = _on_postgresql(settings, lambda pool: _find(pool, named))
    _say(found_words(found, named.ids))
    ready = [one.id for one in found if one.replayable]
    if ready and _agreed(order, f"Replay {len(ready):,}?"):
        moved = sum(one.moved for one in _on_postgresql(settings, lambda pool: _move(pool, named, ready)))
        print(f"replayed {moved:,}{', due now' if moved else ''}")
        if moved < len(ready):
            raise ReplayError(f"{len(ready) - moved:,} did not wait for it any more: somebody else was faster")
    refused = max(len(set(named.ids)), len(found)) - len(ready)
    if refused:
        raise ReplayError(f"{refused:,} of those named cannot be replayed")


async def _find(pool: "Pool", named: Named) -> list[Found]:
    if named.event_id is None:
        return await find_notifications(pool, named.ids)
    event = await find_event(pool, named.source, named.event_id)
    if event is None:
        of_source = f" of the source {named.source!r}" if named.source else " without a source (option --source)"
        raise ReplayError(f"there is no event {named.event_id!r}{of_source}")
    return [event]


async def _move(pool: "Pool", named: Named, ids: list[int]) -> Sequence[Operated | OperatedEvent]:
    return await (replay_notifications(pool, ids) if named.event_id is None else replay_events(pool, ids))


def _on_postgresql(settings: Settings, ask: Callable[["Pool"], Awaitable[Answer]]) -> Answer:
    """What `ask` answers, on a connection of its own: none is held while a person thinks."""

    async def asked() -> Answer:
        async with open_resources(settings, "replay", pool_size=1) as resources:
            try:
                return await ask(resources.pool)
            except CountTooSlow:
                raise ReplayError(
                    f"counting took more than {COUNT_WITHIN_S} s, so nothing was done: narrow the filter, best by --user"
                ) from None
            except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
                raise ReplayError("the tables are missing or old: run `tidings schema apply`") from None
            except FAULTY as error:
                raise ReplayError(f"PostgreSQL (setting DATABASE_URL) failed: {_words(error)}") from None

    return asyncio.run(asked())


def _agreed(order: Order, asked: str) -> bool:
    if order.yes or order.dry_run:
        return not order.dry_run
    try:
        agreed = input(f"{asked} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        agreed = False
    if not agreed:
        print("nothing was replayed")
    return agreed


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
