"""`make soak`: the load of the fault tests for some minutes, with faults at random, then the invariants and a table.

`python -m tests.faults.soak [--minutes N] [--seed S]`. Exit status 1 where one broke. The same seed gives the same faults.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import asyncpg
import uvloop

from app import schema
from tests.faults import catalogue
from tests.faults.facts import Facts
from tests.faults.leaks import held
from tests.faults.provider import Mode
from tests.faults.run import Fault, all_final, report
from tests.faults.servers import Postgres, Valkey
from tests.faults.system import System, started

OWED_WITHIN_S = 60
FAULTS: dict[str, Fault] = {
    "FLUSHALL": catalogue.flushall,
    "DEL of two streams": catalogue.delete_streams,
    "XGROUP DESTROY": catalogue.destroy_groups,
    "XTRIM": catalogue.trim_streams,
    "XGROUP DELCONSUMER": catalogue.delete_consumers,
    "Valkey killed": catalogue.redis_killed,
    "Valkey out of memory": catalogue.redis_out_of_memory,
    "PostgreSQL restarted": catalogue.postgres_restarted,
    "PostgreSQL crashed": catalogue.postgres_crashed,
    "network to Valkey cut": lambda s: catalogue.cut(s, s.redis_net),
    "network to Valkey half open": lambda s: catalogue.half_open(s, s.redis_net),
    "network to PostgreSQL cut": lambda s: catalogue.cut(s, s.postgres_net),
    "network to PostgreSQL half open": lambda s: catalogue.half_open(s, s.postgres_net),
    "replies of PostgreSQL lost": lambda s: catalogue.replies_lost(s, s.postgres_net),
    "provider down (503)": partial(catalogue.provider_behaves, mode=Mode("status", 503)),
    "provider hangs": partial(catalogue.provider_behaves, mode=Mode("hang", share=0.3)),
    "provider resets": partial(catalogue.provider_behaves, mode=Mode("reset", share=0.3)),
    "consumers killed": catalogue.consumer_killed,
    "consumers stopped past the lease": catalogue.consumer_stopped_past_its_lease,
    "API killed": catalogue.api_killed,
    "rolling restart": catalogue.rolling_restart,
}


@dataclass(slots=True)
class Tally:
    """One kind of fault: how often, and the worst times until the first new delivery and until nothing was owed, in s."""

    times: int = 0
    first_new_s: float = 0.0
    owed_s: float = 0.0


@dataclass(slots=True)
class Soak:
    system: System
    chance: random.Random
    tallies: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))

    async def run(self, until: float) -> None:
        """Each kind once in random order, then again, until the time is over."""
        while time.monotonic() < until:
            kinds = list(FAULTS)
            self.chance.shuffle(kinds)
            for kind in kinds:
                if time.monotonic() >= until:
                    return
                await self.inject(kind)

    async def inject(self, kind: str) -> None:
        await self.system.flowing(self.chance.randrange(3, 15))
        await FAULTS[kind](self.system)
        healed, tally = time.time(), self.tallies[kind]
        await self.system.until(lambda: self._delivered_since(healed), OWED_WITHIN_S)
        tally.first_new_s = max(tally.first_new_s, time.time() - healed)
        await self.system.until(lambda: self._nothing_owed_from(healed), OWED_WITHIN_S)
        tally.owed_s = max(tally.owed_s, time.time() - healed)
        tally.times += 1
        print(f"{kind}: healed, nothing owed from before after {time.time() - healed:.1f} s", file=sys.stderr)

    async def _delivered_since(self, healed: float) -> bool:
        """Was something sent that was accepted after the fault?"""
        query = """select exists (select from notification n join event e on e.id = n.event_pk
                   where n.final_status = 'SENT' and e.created_at > to_timestamp($1))"""
        return bool(await self.system.sql(query, healed))

    async def _nothing_owed_from(self, healed: float) -> bool:
        query = """select not exists (select from event where not done and created_at < to_timestamp($1))
                   and not exists (select from notification where not done and created_at < to_timestamp($1))"""
        return bool(await self.system.sql(query, healed))


def table(tallies: dict[str, Tally], facts: Facts, accepted: int, wrong: Sequence[str], minutes: float) -> str:
    """What a person reads at the end."""
    lines = [f"{'fault':34} times  first new s  last owed s"]
    lines += [f"{kind:34} {t.times:5} {t.first_new_s:12.1f} {t.owed_s:12.1f}" for kind, t in sorted(tallies.items())]
    doubled = [n for n in facts.notifications if n.taken > 1]
    explained = [n for n in doubled if n.possible_duplicate]
    unfinished = sum(not n.final for n in facts.notifications)
    statuses = ", ".join(f"{n} {status}" for status, n in sorted(facts.by_status.items()))
    lines += [
        "",
        f"{minutes:.1f} minutes, {sum(t.times for t in tallies.values())} faults of {len(tallies)} kinds",
        f"accepted {accepted} events; notifications: {statuses}; not final: {unfinished}",
        f"taken more than once by the provider: {len(doubled)}, of these explained in their record: {len(explained)}",
        f"worst recovery {max((t.owed_s for t in tallies.values()), default=0):.1f} s",
        f"broken invariants: {len(wrong)}",
        *wrong[:50],
    ]
    return "\n".join(lines)


async def soak(folder: Path, minutes: float, seed: int) -> bool:
    """True where every invariant held."""
    postgres, valkey = Postgres(folder / "postgres"), Valkey(folder / "valkey")
    postgres.start()
    try:
        url = postgres.url + "soak"
        connection = await asyncpg.connect(postgres.url + "postgres")
        await connection.execute("create database soak")
        await connection.close()
        await schema.apply(url)
        valkey.start()
        began = time.time()
        async with started(folder, valkey, postgres, url) as system:
            run, before = Soak(system, random.Random(seed)), held(system)
            system.load.start()
            await run.run(time.monotonic() + 60 * minutes)
            await system.load.stop()
            await system.until(lambda: all_final(system), OWED_WITHIN_S)
            told = await report(system, before, began, time.time())
            system.valkey.kill()
    finally:
        if postgres.server is not None:
            postgres.stop()
    print(table(run.tallies, told.facts, len(system.load.accepted), told.wrong, (time.time() - began) / 60))
    return not told.wrong


def main() -> int:
    parser = argparse.ArgumentParser("soak", description="the load of the fault tests, with faults at random")
    parser.add_argument("--minutes", type=float, default=10, help="how long (10)")
    parser.add_argument("--seed", type=int, default=0, help="which faults in which order (0)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tidings-soak-") as name:
        Path(name).chmod(0o711)
        return 0 if uvloop.run(soak(Path(name), given.minutes, given.seed)) else 1


if __name__ == "__main__":
    sys.exit(main())
