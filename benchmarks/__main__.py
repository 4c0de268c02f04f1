"""`make bench`, `python -m benchmarks`: measures on this machine."""

import argparse
import logging
import statistics
import sys
from collections.abc import Awaitable, Callable
from functools import partial

import structlog
import uvloop

from benchmarks import load, measure
from benchmarks.load import CONNECTIONS, LoadError
from benchmarks.measure import Rate
from benchmarks.servers import Servers, make_template, running_servers
from benchmarks.subject import BenchmarkError
from benchmarks.tidings import Tidings

RATES = (100, 300, 1000)


def say(what: str, rounds: list[Rate]) -> None:
    middle = sorted(rounds, key=lambda r: r.per_s)[(len(rounds) - 1) // 2]
    cpu = ", ".join(f"{name} {us:.0f}" for name, us in middle.cpu_us.items())
    mb = ", ".join(f"{name} {mb:.0f}" for name, mb in middle.peak_mb.items())
    each = " ".join(f"{r.per_s:,.0f}" for r in rounds)
    print(
        f"{what:32} {statistics.median(r.per_s for r in rounds):9,.0f}/s   ({each})\n    CPU us/event: {cpu}\n    peak MB: {mb}",
        flush=True,
    )


async def main(options: argparse.Namespace) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    tidings = Tidings()
    with running_servers() as servers:
        await make_template(servers, tidings.template, tidings.create_tables)
        n = options.events
        parts: dict[str, Callable[[], Awaitable[Rate]]] = {
            "drain": partial(measure.drain, servers, tidings, n),
            "drain2": partial(measure.drain, servers, tidings, n, 2),
            "drain4": partial(measure.drain, servers, tidings, n, 4),
            "whole": partial(measure.whole, servers, tidings, n),
            "whole2": partial(measure.whole, servers, tidings, n, 2),
            "accept": partial(measure.accept, servers, tidings, load.posts, n, CONNECTIONS),
            "batch": partial(measure.accept, servers, tidings, lambda r: load.batch_posts(r, 500), n, 4),
            "noop": partial(measure.noop, servers, ["benchmarks.engine"], 5 * n),
        }
        for name, part in parts.items():
            if name in options.only or not options.only:
                say(name, [await part() for _ in range(options.rounds)])
        if "latency" in options.only or not options.only:
            await latency(servers, tidings, options.rounds)


async def latency(servers: Servers, tidings: Tidings, rounds: int) -> None:
    for _ in range(rounds):
        found = await measure.latencies(servers, tidings, RATES, 3)
        for per_s, each in found.items():
            for what, ms in (("202", each.accepted_ms), ("called", each.called_ms), ("SENT", each.sent_ms)):
                q = statistics.quantiles(ms, n=100)
                print(f"{per_s:6}/s {what:8} p50 {q[49]:6.1f}  p95 {q[94]:6.1f}  p99 {q[98]:6.1f} ms", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=10_000)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        uvloop.run(main(parse()))
    except (BenchmarkError, LoadError) as error:
        sys.exit(f"benchmarks: {error}")
