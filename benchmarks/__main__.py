"""`make bench`, `python -m benchmarks`: measures on this machine, prints tables, and keeps them in RESULTS.md."""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import structlog
import uvloop

from app.local import LocalError
from benchmarks import peer
from benchmarks.keep import circumstances, keep
from benchmarks.load import LoadError
from benchmarks.parts import Part, alone, flat_parts, main_parts
from benchmarks.peer import PeerProblem
from benchmarks.results import Results
from benchmarks.servers import Servers, make_template, running_servers, versions
from benchmarks.subject import BenchmarkError
from benchmarks.table import flat_tables, main_tables
from benchmarks.turns import BARE, PEER, SMOKE, TIDINGS, Sizes, Turns

NOT_ASKED = "not asked for"
HOW = (Path(__file__).parent / "how.md").read_text()


async def main(options: argparse.Namespace) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))  # of this process alone
    began, results = time.monotonic(), Results()
    absent = NOT_ASKED if options.alone or options.flat else install_peer()
    with running_servers() as servers:
        for subject in (TIDINGS, BARE, *(() if absent else (PEER,))):
            await make_template(servers, subject.template, subject.create_tables)
        for part in chosen(options, servers, absent is None):
            await measure_part(part, options, results)
        tables = flat_tables(results) if options.flat else main_tables(results)
        told = circumstances(*await versions(servers.postgres_url + "postgres", servers.redis_url), time.monotonic() - began)
    note = "" if absent in (None, NOT_ASKED) else f"\nWithout the peer: {absent}.\n"
    print(f"\n{tables}\n{told}{note}")
    if not (options.only or options.smoke or options.alone):
        if options.flat:
            keep("make bench-flat", f"{told}\n\n{tables}")
        else:
            print(f"\n{HOW}")
            keep("make bench", f"{told}\n{note}\n{tables}\n### How\n\n{HOW}")


def install_peer() -> str | None:
    """None once it can run; otherwise why not."""
    if (why := peer.missing()) is not None:
        return why
    try:
        peer.install("pg")
        peer.install("prisma")
    except PeerProblem as problem:
        return str(problem)
    return None


def chosen(options: argparse.Namespace, servers: Servers, with_peer: bool) -> list[Part]:
    make = Turns(servers, SMOKE if options.smoke else Sizes())
    parts = flat_parts(make) if options.flat else main_parts(make, with_peer)
    if unknown := set(options.only) - {part.name for part in parts}:
        raise BenchmarkError(f"no part {unknown.pop()!r}: name some of {', '.join(part.name for part in parts)}")
    wanted = [part for part in parts if not options.only or part.name in options.only]
    return alone(wanted) if options.alone else wanted


async def measure_part(part: Part, options: argparse.Namespace, results: Results) -> None:
    rounds = 1 if options.smoke else options.rounds or part.rounds
    for number in range(rounds):
        for turn in part.turns:
            began = time.monotonic()
            await turn.run(results)
            print(f"{part.name}, round {number + 1} of {rounds}: {turn.who} ({time.monotonic() - began:.1f} s)", file=sys.stderr)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", epilog="example: python -m benchmarks --only drain whole --rounds 1 --alone"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help="these parts; nothing is kept in RESULTS.md")
    parser.add_argument("--rounds", type=int, help="of each part (as many as its figures need)")
    parser.add_argument("--alone", action="store_true", help="Tidings alone, nothing beside it")
    parser.add_argument("--flat", action="store_true", help="what an event costs, whatever waits")
    parser.add_argument("--smoke", action="store_true", help="a few hundred events each: does the benchmark itself work?")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        uvloop.run(main(parse(sys.argv[1:])))
    except (BenchmarkError, LoadError, LocalError, PeerProblem) as error:
        sys.exit(f"benchmarks: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
