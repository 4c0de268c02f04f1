"""Results -> Markdown. Pure: one function for each table, and what was not measured is left out."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.results import PIPELINED, Results, times
from benchmarks.targets import TARGETS


class Line(NamedTuple):
    """A figure of ours, the ceilings beside it (who, in words), and the peers."""

    part: str
    what: str
    ceilings: tuple[tuple[str, str], ...] = ()
    peers: tuple[str, ...] = ()


BARE, ROWS = ("bare", "the bare pipeline"), ("asyncpg", "the same rows by asyncpg alone")
STARLETTE = ("Starlette", "Starlette, pydantic, nothing stored")
COMMANDS = ("XREADGROUP", "raw XREADGROUP 500, XACK, XDEL")
RATES = (
    Line("accept", "accept: single POSTs, 64 connections, one API process", (STARLETTE,), ("peer",)),
    Line("batch", "accept: 500 events a request, 4 connections", (ROWS,)),
    Line("drain", "drain: full stream to last SENT, one consumer process", (BARE, ROWS), ("peer", PIPELINED)),
    Line("drain x2", "drain: two consumer processes"),
    Line("drain x4", "drain: four consumer processes"),
    Line(
        "whole", "whole system: first POST to last SENT, one API and one consumer process", (BARE,), ("peer", PIPELINED, "Prisma")
    ),
    Line("noop", "no-op engine: stream to acknowledged, one process", (COMMANDS,), ("BullMQ",)),
)
CPU = (
    ("accept", ("Tidings", "Starlette", "peer")),
    ("batch", ("Tidings",)),
    ("drain", ("Tidings", "bare", "peer", PIPELINED)),
    ("whole", ("Tidings", "bare", "peer", PIPELINED, "Prisma")),
    ("noop", ("Tidings", "XADD", "XREADGROUP")),
)
PROCESSES = ("API", "consumer", "Valkey", "PostgreSQL", "load")
FLAT = (
    ("thousand", "1,000 waiting"),
    ("million", "1,000,000 waiting"),
    ("drain", "a full stream, drained"),
    ("retries", "the same beside 100,000 that wait for their next try"),
    ("few users", "the same for 10,000 users with stored preferences"),
    ("many users", "the same for 1,000,000"),
)
STEPS = (
    ("at once", "event: its claim changes no indexed column; as it is written, it leaves the relay's partial index"),
    ("routing", "event: leaves the relay's partial index, so it is not meant to be HOT"),
    ("claim", "notification: changes no indexed column, and the page has room (fillfactor)"),
    ("finish", "notification: leaves the relay's partial index, so it is not meant to be HOT"),
)


def main_tables(results: Results) -> str:
    """All of `make bench`."""
    return _join(targets(results), rates(results), latencies(results), cpu(results), memory(results))


def flat_tables(results: Results) -> str:
    """All of `make bench-flat`."""
    return _join(flat(results), hot(results))


def targets(results: Results) -> str:
    rows = []
    for target in TARGETS:
        value = target.measured(results)
        if value is not None:
            shown = [target.form.format(number) for number in (target.least, target.aim, value)]
            pipelined = target.pipelined(results)
            beside = target.form.format(pipelined) if pipelined is not None else ""
            rows.append((target.what, *shown, target.judge(results), beside))
    return markdown("Targets", ("what", "at least", "aim", "measured", "", f"against the {PIPELINED}"), rows)


def rates(results: Results) -> str:
    """A line for each figure, the ceiling and the peers beside it, each with Tidings' rate in terms of it."""
    rows = []
    for line in RATES:
        ours = results.per_s(line.part, "Tidings")
        if ours is not None:
            ceilings = [(words, results.per_s(line.part, who)) for who, words in line.ceilings]
            peers = [(who, results.per_s(line.part, who)) for who in line.peers]
            shares = [f"{words}: {per_s:,.0f} ({ours / per_s:.0%})" for words, per_s in ceilings if per_s]
            ratios = [f"{who} {per_s:,.0f} ({ours / per_s:.2f}x)" for who, per_s in peers if per_s]
            rows.append((line.what, f"{ours:,.0f}", _spread(results, line.part), "; ".join(shares), "; ".join(ratios)))
    head = ("what", "Tidings", "rounds", "ceiling, and our share of it", "peer, and how many times it")
    return markdown("Events per second", head, rows)


def latencies(results: Results) -> str:
    rows = []
    for per_s, who in sorted(results.latencies, key=lambda key: (key[0], ("Tidings", "peer", "bare").index(key[1]))):
        cells = [
            " / ".join(f"{results.latency_ms(per_s, who, share, until) or 0:.1f}" for share in (0.5, 0.95, 0.99))
            for until in ("accepted_ms", "called_ms", "sent_ms")
        ]
        p99s_ms = results.latency_rounds_ms(per_s, who, 0.99)
        rows.append((f"{per_s:,}/s", who, *cells, f"{min(p99s_ms):.1f} to {max(p99s_ms):.1f}"))
    head = ("offered", "who", "POST to 202", "to the provider's answer, at the latest", "to third SENT", "its p99, rounds")
    return markdown("Latency in ms: p50 / p95 / p99", head, rows)


def cpu(results: Results) -> str:
    rows = []
    for part, everybody in CPU:
        for who in everybody:
            if used := results.cpu_us(part, who):
                cells = [f"{used[name]:.0f}" if name in used else "" for name in PROCESSES]
                rows.append((part, who, *cells, f"{sum(used.values()):.0f}"))
    return markdown("Microseconds of CPU per event", ("part", "who", *PROCESSES, "in all"), rows)


def memory(results: Results) -> str:
    rows = []
    for part, who in (("whole", "Tidings"), ("million", "Tidings"), ("whole", "peer")):
        if used := results.peak_mb(part, who):
            name = {"whole": "whole system", "million": "a million events waiting"}[part]
            rows.append((name, who, *(f"{used[p]:.0f}" if p in used else "" for p in PROCESSES[:3])))
    table = markdown("Most memory resident in MB, largest process", ("part", "who", *PROCESSES[:3]), rows)
    each = results.facts.get("bytes per waiting event")
    return table + (f"\nIn Redis a waiting event takes {each:.0f} bytes.\n" if each is not None else "")


def flat(results: Results) -> str:
    rows = []
    first = next((part for part, _ in FLAT if results.per_s(part, "Tidings") is not None), "")
    base = sum(results.cpu_us(first, "Tidings").values())
    for part, what in FLAT:
        if used := results.cpu_us(part, "Tidings"):
            cells = [f"{used.get(name, 0):.0f}" for name in PROCESSES[1:4]]
            total = sum(used.values())
            rows.append(
                (what, f"{results.per_s(part, 'Tidings'):,.0f}", *cells, f"{total:.0f}", f"{times(total, base) or 0:.2f}")
            )
    head = ("one consumer process, and", "events/s", *(f"{name} us" for name in PROCESSES[1:4]), "us in all", "times the first")
    return markdown("What an event costs, whatever waits", head, rows)


def hot(results: Results) -> str:
    rows = [
        (step, f"{results.facts[f'{step} updates']:.2f}", f"{max(0.0, results.facts[f'{step} HOT']):.0%}", why)
        for step, why in STEPS
        if f"{step} updates" in results.facts
    ]
    return markdown("Updates that stay on their page and touch no index (HOT)", ("step", "updates per event", "HOT", "why"), rows)


def _spread(results: Results, part: str) -> str:
    each = sorted(rate.per_s for rate in results.rates[part, "Tidings"])
    return f"{each[0]:,.0f} to {each[-1]:,.0f}"


def markdown(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with its columns aligned, so that it can be read in a terminal, too; nothing where there are no rows."""
    lines = [list(head), *map(list, rows)]
    if len(lines) == 1:
        return ""
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    told = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines]
    return f"### {title}\n\n" + "\n".join(told) + "\n"


def _join(*tables: str) -> str:
    return "\n".join(table for table in tables if table)
