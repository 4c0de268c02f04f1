"""The pure parts of the benchmarks: what is said of what was measured, what is judged, and where it is kept."""

import asyncio

import pytest

from benchmarks.keep import with_section
from benchmarks.load import LoadError, arrivals, batch_posts, open_loop, posts
from benchmarks.results import PIPELINED, Latency, Rate, Results, quantile, times
from benchmarks.table import main_tables, targets
from benchmarks.targets import TARGETS, Target


def found() -> Results:
    results = Results()
    for per_s in (900.0, 1100.0, 1000.0):
        results.rates["drain", "Tidings"].append(Rate(per_s, {"consumer": per_s / 10, "API": 0}, {"consumer": per_s / 20}))
    results.rates["drain", "peer"].append(Rate(250))
    results.rates["drain", PIPELINED].append(Rate(400))
    rounds = ([float(ms) for ms in range(1, 51)], [100.0] * 50, [30.0] * 50)
    results.latencies[300, "Tidings"] += [Latency([1], [1], sent_ms) for sent_ms in rounds]
    return results


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [quantile(values, share) for share in (0, 0.5, 0.99, 1)] == [1, 50, 99, 100]
    assert quantile([7.0], 0.99) == 7


def test_a_figure_is_the_median_of_its_rounds_and_memory_the_highest() -> None:
    results = found()
    assert results.per_s("drain", "Tidings") == 1000
    assert results.cpu_us("drain", "Tidings") == {"consumer": 100}  # the API used none
    assert results.peak_mb("drain", "Tidings") == {"consumer": 55}
    assert results.latency_rounds_ms(300, "Tidings", 0.5) == [25, 100, 30]
    assert results.latency_ms(300, "Tidings", 0.5) == 30
    assert results.times("drain", "Tidings", "peer") == 4


def test_what_was_not_measured_has_no_figure() -> None:
    results = found()
    assert results.per_s("whole", "Tidings") is None
    assert results.times("drain", "Tidings", "bare") is None
    assert results.latency_ms(1000, "Tidings", 0.99) is None
    assert times(1, 0) is None


@pytest.mark.parametrize(
    ("value", "lower", "verdict"),
    [
        (2.9, False, "missed"),
        (3, False, "reached"),
        (5, False, "aim"),
        (None, False, "not measured"),
        (0.8, True, "missed"),
        (0.7, True, "reached"),
        (0.3, True, "aim"),
    ],
)
def test_a_target_is_judged(value: float | None, lower: bool, verdict: str) -> None:
    least, aim = (0.7, 0.4) if lower else (3, 5)
    assert Target("", least, aim, lambda _: value, lower=lower).judge(Results()) == verdict


def test_tables_have_what_was_measured_and_nothing_else() -> None:
    text = main_tables(found())
    assert "| 1,000   | 900 to 1,100 |" in text
    assert "one worker | 3.50x    | 5.00x | 4.00x    | reached |" in text
    assert "| 30.0 / 48.0 / 50.0 | 30.0 to 100.0   |" in text
    assert "bare" not in text
    assert main_tables(Results()) == ""


def test_both_peers_are_shown_and_the_pooled_one_is_the_target() -> None:
    text = main_tables(found())
    assert "peer 250 (4.00x); peer, pipelined connections 400 (2.50x)" in text
    assert [line.split("|")[-2].strip() for line in targets(found()).splitlines() if "drain, one" in line] == ["2.50x"]


def test_every_row_of_a_table_is_as_wide_as_its_head() -> None:
    for table in main_tables(found()).split("### ")[1:]:
        assert len({line.count(" | ") for line in table.splitlines() if line.startswith("|")}) == 1


def test_targets_need_only_what_a_run_measures() -> None:
    assert {target.judge(Results()) for target in TARGETS} == {"not measured"}


def test_each_command_keeps_its_own_section() -> None:
    once = with_section(with_section("", "make bench", "one"), "make bench-flat", "two")
    again = with_section(once, "make bench", "three\n\n### more")
    assert again == "## `make bench`\n\nthree\n\n### more\n\n## `make bench-flat`\n\ntwo\n"
    assert with_section(again, "make bench-flat", "four").endswith("### more\n\n## `make bench-flat`\n\nfour\n")


def test_arrivals_are_the_same_each_time_and_as_many_as_offered() -> None:
    due = arrivals(300, 3000)
    assert due == sorted(arrivals(300, 3000))
    assert 9 < due[-1] < 11


def test_batches_have_all_the_events() -> None:
    assert len(posts(range(7))) == 7
    bodies = b"".join(batch_posts(range(5, 12), 3))
    assert [b'"evt-%d"' % n in bodies for n in range(4, 13)] == [False, *[True] * 7, False]
    assert bodies.count(b"POST /api/events/batch") == 3


async def test_an_open_load_waits_for_every_answer_and_none_may_be_another_than_202() -> None:
    answers = [b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}"] * 20

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            length = int((await reader.readuntil(b"\r\n\r\n")).rpartition(b":")[2])
            await reader.readexactly(length)
            writer.write(answers.pop())

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        due, answered = await open_loop(address, posts(range(20)), arrivals(1000, 20))
        assert all(0 < at - was_due < 60 for at, was_due in zip(answered, due, strict=True))
        answers += [b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"]
        with pytest.raises(LoadError, match="503"):
            await open_loop(address, posts(range(1)), [0.0])


async def test_an_open_load_says_that_the_server_closed_a_connection_that_was_idle() -> None:
    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as server, asyncio.timeout(10):
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(LoadError, match="closed the connection"):
            await open_loop(address, posts(range(1)), [0.5])
