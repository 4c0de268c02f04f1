"""What the pages took, as Markdown. Pure."""

from collections.abc import Mapping, Sequence

from benchmarks.history.pages import TIMES, Answered
from benchmarks.results import quantile
from benchmarks.table import markdown

LIMIT_MS = 20


def history_table(rows: int, found: Sequence[Answered], scans: Mapping[str, int]) -> str:
    lines = [
        (
            one.page.part,
            one.page.what,
            f"{quantile(one.took_ms, 0.5):.1f} / {max(one.took_ms):.1f}",
            f"{one.database_ms:.1f}",
            f"{one.slowest_ms:.1f} / {one.worst_ms:.1f}",
            "" if one.slowest_ms < LIMIT_MS else f"over {LIMIT_MS} ms",
        )
        for one in found
    ]
    head = ("", "page", "answered in ms: p50 / worst", "in PostgreSQL", "its slowest statement: mean / worst", "")
    told = ", ".join(f"{table} {n}" for table, n in sorted(scans.items()))
    table = markdown(f"Pages over {rows:,} notifications", head, lines)
    return f"{table}\nEach {TIMES} times, warm. Sequential scans meanwhile: {told}.\n"
