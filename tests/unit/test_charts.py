"""Lines over time: every point has its value, gaps are gaps, and what is drawn is what was counted."""

import json
from datetime import timedelta
from itertools import pairwise

import pytest

from app.tally import Kind, bin_end_s
from tests.unit import ready_made as made
from tests.unit.ready_made import NOW
from web.charts import LATENCY, all_json, charts, points_of
from web.rate_queries import SPANS, ChartRows, Span
from web.words import rate


@pytest.mark.parametrize("span", SPANS, ids=lambda span: span.name)
def test_the_points_of_a_span_end_with_the_last_whole_one(span: Span) -> None:
    now = NOW + timedelta(seconds=span.step_s * 0.7)
    times = points_of(now, span)
    assert 90 <= len(times) <= 180
    assert times[-1] == now.replace(minute=0, second=0, microsecond=0) - timedelta(seconds=span.step_s)
    assert {b - a for a, b in pairwise(times)} == {timedelta(seconds=span.step_s)}
    assert span.step_s % span.width_s == 0


def test_counts_become_rates_and_none_is_zero() -> None:
    times = points_of(NOW, SPANS[0])
    rows = ChartRows(NOW, SPANS[0], {("EMAIL", "sent"): {times[0]: 25, times[-1]: 50}}, {})
    mail = charts(rows)["EMAIL"]
    data = json.loads(mail.json)
    assert (data["start"], data["step"], data["unit"]) == (times[0].timestamp(), 10, "/s")
    sent = next(curve for curve in data["curves"] if curve["label"] == "sent")["values"]
    assert sent[0] == 2.5
    assert sent[-1] == 5
    assert sum(sent) == 7.5
    assert mail.summary == "The last 15 min, most per second: in 0, sent 5.0, retried 0, failed 0"
    assert mail.top == "5.0/s"


def test_what_seldom_happens_has_a_line_only_where_it_did() -> None:
    times = points_of(NOW, SPANS[0])
    quiet, loud = charts(made.chart_rows()), charts(ChartRows(NOW, SPANS[0], {("SMS", Kind.UNKNOWN): {times[3]: 1}}, {}))
    assert [curve.label for curve in quiet["SMS"].curves] == ["in", "sent", "retried", "failed"]
    assert [curve.label for curve in loud["SMS"].curves] == ["in", "sent", "retried", "failed", "unknown"]
    assert [curve.label for curve in loud[""].curves] == ["in", "failed"]


def test_no_latency_is_a_gap() -> None:
    times = points_of(NOW, SPANS[0])
    seen = charts(ChartRows(NOW, SPANS[0], {}, {times[0]: {36: 4}, times[1]: {36: 4}, times[5]: {36: 1}}))[LATENCY]
    p50 = json.loads(seen.json)["curves"][0]["values"]
    assert p50[2:5] == [None, None, None]
    assert p50[0] == pytest.approx(bin_end_s(36), rel=0.2)
    assert len(seen.curves[0].points) == 2
    assert all(len(points.split()) >= 2 for points in seen.curves[0].points), "a single point is drawn, too"


def test_an_empty_and_a_full_day() -> None:
    for rows in (made.chart_rows(0, 3), made.chart_rows(10**9, 3)):
        drawn = charts(rows)
        assert set(json.loads(all_json(drawn))) == {"events", "EMAIL", "SMS", "PUSH", LATENCY}
        assert all(
            0 <= float(pair.split(",")[1]) <= 100
            for chart in drawn.values()
            for curve in chart.curves
            for points in curve.points
            for pair in points.split()
        )


@pytest.mark.parametrize(
    ("per_s", "words"),
    [(0, "0"), (0.01, "<0.1"), (0.06, "0.1"), (12.44, "12.4"), (99.94, "99.9"), (99.96, "100"), (12_345.6, "12,346")],
)
def test_a_rate_is_as_precise_as_it_matters(per_s: float, words: str) -> None:
    assert rate(per_s) == words
