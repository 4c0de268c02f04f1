"""One measurement of one subject, on empty tables and an empty Valkey: drain, whole system, accept, latency."""

import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from redis.exceptions import ResponseError

from app.streams import EVENTS, GROUP
from benchmarks import load
from benchmarks.results import Latency, Rate
from benchmarks.servers import Place, Servers, fresh_place
from benchmarks.subject import WITHIN_S, BenchmarkError, Process, Subject
from benchmarks.tidings import Tidings
from benchmarks.usage import Pids, cpu_s, peak_mb
from tests.processes import bare_environment, process

OpenApi: TypeAlias = Callable[[Place], AbstractContextManager[Process]]

CHANNELS = 3
WARM_UP = 1500  # events before the clock starts: a cold V8 is half as fast


@dataclass(frozen=True, slots=True)
class Posts:
    """So many events, as requests on so many connections."""

    events: int
    connections: int
    make: Callable[[Sequence[int]], Sequence[bytes]]


async def drain(
    servers: Servers, subject: Subject, events: int, workers: int = 1, prepare: Callable[[Place], Awaitable[None]] | None = None
) -> Rate:
    """From a full stream to the last row SENT. The workers wait when it fills at once. `prepare` makes what was there before."""
    async with fresh_place(servers, subject.template) as place:
        warm_up = before_clock(events)
        await subject.store(place, warm_up + events)
        if prepare is not None:
            await prepare(place)
        with subject.workers(place, workers) as working:
            await until(lambda: subject.ready(place, workers), f"{subject.name} is not ready")
            await subject.release(place, range(1, warm_up + 1))
            await last_sent(subject, place, warm_up)
            pids = pids_of(servers, working)
            before, began = cpu_s(pids), await subject.release(place, range(warm_up + 1, warm_up + events + 1))
            ended = await last_sent(subject, place, warm_up + events)
            return rate(events, ended - began, before, pids)


async def whole(servers: Servers, subject: Subject, events: int) -> Rate:
    """From the first POST to the last row SENT, with one API process."""
    warm_up = before_clock(events)
    requests = load.posts(range(warm_up, warm_up + events))
    async with fresh_place(servers, subject.template) as place:
        with subject.workers(place, 1) as working, subject.api(place) as api:
            await listening(subject, place, api)
            await load.closed_loop(api.address, load.posts(range(warm_up)))
            await last_sent(subject, place, warm_up)
            pids = pids_of(servers, working, api)
            before, began = cpu_s(pids), time.time()
            with calm():
                await load.closed_loop(api.address, requests)
            ended = await last_sent(subject, place, warm_up + events)
            return rate(events, ended - began, before, pids)


async def accept(servers: Servers, template: str, open_api: OpenApi, kinds: Sequence[Posts]) -> list[Rate]:
    """From the first POST to the last 202, one API process and no worker; one kind of requests after the other."""
    async with fresh_place(servers, template) as place:
        with open_api(place) as api:
            await load.until_listening(api.address)
            await load.closed_loop(api.address, load.posts(range(WARM_UP)))
            first, found = WARM_UP, []
            for kind in kinds:
                found.append(await _accept(servers, api, kind, range(first, first + kind.events)))
                first += kind.events
            return found


async def _accept(servers: Servers, api: Process, kind: Posts, numbers: range) -> Rate:
    requests, pids = kind.make(numbers), pids_of(servers, (), api)
    before, began = cpu_s(pids), time.time()
    with calm():
        await load.closed_loop(api.address, requests, kind.connections)
    return rate(kind.events, time.time() - began, before, pids)


async def latencies(servers: Servers, subject: Subject, offered: Mapping[int, float]) -> dict[int, Latency]:
    """At each rate offered (events/s) for so many seconds, one API and one worker process."""
    found = {}
    async with fresh_place(servers, subject.template) as place:
        with subject.workers(place, 1), subject.api(place) as api:
            await listening(subject, place, api)
            await load.closed_loop(api.address, load.posts(range(WARM_UP)))
            first = WARM_UP
            for per_s, seconds in offered.items():
                await until_idle(subject, place)
                number = round(per_s * seconds)
                with calm():
                    due, answered = await load.open_loop(
                        api.address, load.posts(range(first, first + number)), load.arrivals(per_s, number)
                    )
                await last_sent(subject, place, first + number)
                found[per_s] = await _latency(subject, place, first, due, answered)
                first += number
    return found


async def noop(servers: Servers, command: Sequence[str], entries: int) -> Rate:
    """Entries/s of a process that only reads and acknowledges the events stream, which fills at once."""
    tidings = Tidings()
    async with fresh_place(servers, tidings.template) as place:
        with process([*command, servers.redis_url], bare_environment(), place.folder) as child:
            await until(lambda: waits(place), "the engine is not ready")
            pids = {"consumer": [child.pid], "Valkey": [servers.valkey_pid]}
            before, began = cpu_s(pids), time.time()
            await tidings.publish(place, range(entries), datetime.now(UTC))
            await until(lambda: tidings.idle(place), "the engine does not get done", every_s=0.002)
            return rate(entries, time.time() - began, before, pids)


async def waits(place: Place) -> bool:
    try:
        return bool(await place.redis.xinfo_consumers(EVENTS, GROUP))
    except ResponseError:
        return False


async def _latency(subject: Subject, place: Place, first: int, due: Sequence[float], answered: Sequence[float]) -> Latency:
    rows = {event_id: (called, sent) for event_id, called, sent in await place.database.fetch(subject.latencies)}
    ends = [rows[f"evt-{first + n}"] for n in range(len(due))]
    return Latency(
        [1000 * (at - was_due) for at, was_due in zip(answered, due, strict=True)],
        [1000 * (called - was_due) for (called, _), was_due in zip(ends, due, strict=True)],
        [1000 * (sent - was_due) for (_, sent), was_due in zip(ends, due, strict=True)],
    )


def pids_of(servers: Servers, workers: Sequence[Process], api: Process | None = None) -> Pids:
    """Who is looked at. `load` is this process, which makes the requests."""
    known = {"consumer": [w.pid for w in workers], "Valkey": [servers.valkey_pid], "PostgreSQL": [servers.postgres_pid]}
    return {"API": [api.pid], "load": [os.getpid()], **known} if api else known


def rate(events: int, took_s: float, before: Mapping[str, float], pids: Pids) -> Rate:
    spent = cpu_s(pids)
    return Rate(events / took_s, {name: 1e6 * (spent[name] - was) / events for name, was in before.items()}, peak_mb(pids))


async def listening(subject: Subject, place: Place, api: Process) -> None:
    await until(lambda: subject.ready(place, 1), f"{subject.name} is not ready")
    await load.until_listening(api.address)


async def until_idle(subject: Subject, place: Place) -> None:
    await until(lambda: subject.idle(place), f"{subject.name} does not get done")


async def last_sent(subject: Subject, place: Place, events: int) -> float:
    """When the last row became SENT, once all are."""

    async def all_sent() -> float | None:
        await until_idle(subject, place)
        rows, at = await place.database.fetchrow(subject.sent) or (0, 0.0)
        return at if rows >= CHANNELS * events else None

    return await until(all_sent, f"{subject.name} did not send all of {events} events", every_s=0.05)


async def until(fact: Callable[[], Awaitable[float | bool | None]], problem: str, every_s: float = 0.01) -> float:
    """The first answer that is not false. Raises BenchmarkError."""
    until_s = time.monotonic() + WITHIN_S
    while not (answer := await fact()):
        if time.monotonic() > until_s:
            raise BenchmarkError(f"{problem} within {WITHIN_S} s")
        await asyncio.sleep(every_s)
    return answer


def before_clock(events: int) -> int:
    """How many go before so many."""
    return min(WARM_UP, events)


@contextmanager
def calm() -> Iterator[None]:
    """No collection of garbage in the load meanwhile: the server would seem to wait."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
