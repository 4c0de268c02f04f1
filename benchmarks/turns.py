"""Single turns: who is measured, and how; what is found goes into the results."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from benchmarks import ceilings, flat, load, measure, peer
from benchmarks.bare.subject import Bare
from benchmarks.hot import hot_updates
from benchmarks.http_ceiling import starlette
from benchmarks.load import CONNECTIONS
from benchmarks.measure import OpenApi, Posts
from benchmarks.peer_subject import Peer
from benchmarks.results import PIPELINED, Rate, Results
from benchmarks.servers import Servers
from benchmarks.subject import Subject
from benchmarks.tidings import Tidings

TIDINGS, BARE = Tidings(), Bare()
PEER, PEER_PIPELINED, PRISMA = Peer(), Peer("pipeline", PIPELINED), Peer("prisma", "Prisma")
ENGINE = ("benchmarks.engine",)
BATCH, BATCH_CONNECTIONS = 500, 4
OFFERED = {100: 1.5, 300: 3.0, 1000: 1.5}  # events/s -> for so many seconds

REACHED = 200_000  # of a million waiting: more than a consumer gets to while it is watched


@dataclass(frozen=True, slots=True)
class Turn:
    who: str
    run: Callable[[Results], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many each is given after its warming up: a few seconds' work."""

    events: int = 16_000
    bare: int = 30_000
    peer: int = 4_000
    prisma: int = 800
    accept: int = 20_000
    accept_peer: int = 10_000
    entries: int = 60_000
    jobs: int = 12_000
    million: int = 1_000_000
    watch_s: float = 5
    retries: int = 100_000
    offered_share: float = 1

    def of(self, subject: Subject) -> int:
        sizes = {BARE.name: self.bare, PEER.name: self.peer, PEER_PIPELINED.name: self.peer, PRISMA.name: self.prisma}
        return sizes.get(subject.name, self.events)

    def whole(self, subject: Subject) -> int:
        """From POST on an event takes longer."""
        return self.of(subject) * 3 // 4


SMOKE = Sizes(300, 300, 300, 100, 300, 300, 1000, 500, 2000, 0.5, 200, 0.1)


@dataclass(frozen=True, slots=True)
class Turns:
    """Each method makes one turn."""

    servers: Servers
    sizes: Sizes

    def accept(self) -> Turn:
        """Single POSTs, then batches."""

        async def run(results: Results) -> None:
            batches = Posts(2 * self.sizes.accept, BATCH_CONNECTIONS, partial(load.batch_posts, size=BATCH))
            singles = Posts(self.sizes.accept, CONNECTIONS, load.posts)
            one, batch = await measure.accept(self.servers, TIDINGS.template, TIDINGS.api, [singles, batches])
            results.rates["accept", "Tidings"].append(one)
            results.rates["batch", "Tidings"].append(batch)

        return Turn("Tidings", run)

    def accept_starlette(self) -> Turn:
        return self._accept_beside("Starlette", TIDINGS.template, starlette, self.sizes.accept)

    def accept_peer(self) -> Turn:
        return self._accept_beside(PEER.name, PEER.template, PEER.api, self.sizes.accept_peer)

    def _accept_beside(self, who: str, template: str, api: OpenApi, events: int) -> Turn:
        async def run(results: Results) -> None:
            singles = Posts(events, CONNECTIONS, load.posts)
            results.rates["accept", who].extend(await measure.accept(self.servers, template, api, [singles]))

        return Turn(who, run)

    def drain(self, subject: Subject, workers: int = 1) -> Turn:
        """Several workers are compared with nobody: half will do."""
        part, events = ("drain", self.sizes.of(subject)) if workers == 1 else (f"drain x{workers}", self.sizes.of(subject) // 2)
        return _rate(part, subject.name, measure.drain, self.servers, subject, events, workers)

    def whole(self, subject: Subject) -> Turn:
        return _rate("whole", subject.name, measure.whole, self.servers, subject, self.sizes.whole(subject))

    def noop(self) -> Turn:
        return _rate("noop", "Tidings", measure.noop, self.servers, ENGINE, self.sizes.entries)

    def noop_bullmq(self) -> Turn:
        async def run(results: Results) -> None:
            results.rates["noop", "BullMQ"].append(Rate(await peer.noop_drain(self.servers.redis_url, self.sizes.jobs)))

        return Turn("BullMQ", run)

    def streams(self) -> Turn:
        async def run(results: Results) -> None:
            added, read = await ceilings.streams(self.servers, TIDINGS.template, self.sizes.entries)
            results.rates["noop", "XADD"].append(added)
            results.rates["noop", "XREADGROUP"].append(read)

        return Turn("raw commands", run)

    def rows(self) -> Turn:
        async def run(results: Results) -> None:
            stored, all_rows = await ceilings.rows(self.servers, TIDINGS.template, self.sizes.events)
            results.rates["batch", "asyncpg"].append(stored)
            results.rates["drain", "asyncpg"].append(all_rows)

        return Turn("asyncpg", run)

    def latency(self, subject: Subject, *offered: int) -> Turn:
        async def run(results: Results) -> None:
            seconds = {per_s: OFFERED[per_s] * self.sizes.offered_share for per_s in offered}
            for per_s, found in (await measure.latencies(self.servers, subject, seconds)).items():
                results.latencies[per_s, subject.name].append(found)

        return Turn(subject.name, run)

    def memory(self) -> Turn:
        """A million waiting for as long as it takes to see what memory that needs."""
        return self._million(self.sizes.watch_s / 2, min(self.sizes.million, REACHED))

    def million(self) -> Turn:
        return self._million(self.sizes.watch_s, self.sizes.million)

    def _million(self, watch_s: float, stored: int) -> Turn:
        async def run(results: Results) -> None:
            found, entry_bytes = await flat.million_waiting(self.servers, self.sizes.million, watch_s, stored)
            results.rates["million", "Tidings"].append(found)
            results.facts["bytes per waiting event"] = entry_bytes

        return Turn("Tidings", run)

    def thousand(self) -> Turn:
        return _rate("thousand", "Tidings", flat.thousand_waiting, self.servers, self.sizes.million // 10, self.sizes.watch_s)

    def retries(self) -> Turn:
        return _rate("retries", "Tidings", flat.retries_waiting, self.servers, self.sizes.events, self.sizes.retries)

    def few_users(self) -> Turn:
        return _rate("few users", "Tidings", flat.many_users, self.servers, self.sizes.events, self.sizes.million // 100)

    def many_users(self) -> Turn:
        return _rate("many users", "Tidings", flat.many_users, self.servers, self.sizes.events, self.sizes.million)

    def hot(self) -> Turn:
        async def run(results: Results) -> None:
            results.facts.update(await hot_updates(self.servers, min(2_000, self.sizes.events)))

        return Turn("Tidings", run)


def _rate(part: str, who: str, measured: Callable[..., Awaitable[Rate]], *args: object) -> Turn:
    async def run(results: Results) -> None:
        results.rates[part, who].append(await measured(*args))

    return Turn(who, run)
