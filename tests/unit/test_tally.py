"""Counting for the charts: keys, bins of latency, percentiles."""

import random

import pytest

from app.domain import Channel, Status
from app.tally import BINS, EVENTS, UNTIMED, Key, Kind, Tally, bin_end_s, bin_of, percentiles


def test_what_is_counted_is_taken_once() -> None:
    tally = Tally()
    tally.count(Kind.ACCEPTED, n=3)
    tally.count(Kind.ACCEPTED, n=0)
    tally.count_channels(Kind.ACCEPTED, [Channel.SMS, Channel.PUSH, Channel.SMS])
    assert tally.take() == {
        Key(EVENTS, Kind.ACCEPTED): 3,
        Key(Channel.SMS, Kind.ACCEPTED): 2,
        Key(Channel.PUSH, Kind.ACCEPTED): 1,
    }
    assert tally.take() == {}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(Status.SENT, Kind.SENT), (Status.FAILED, Kind.FAILED), (Status.UNKNOWN, Kind.UNKNOWN), (Status.PENDING, Kind.RETRIED)],
)
def test_an_end_is_counted_by_its_status_and_only_what_was_sent_is_timed(status: Status, kind: Kind) -> None:
    tally = Tally()
    tally.ended(Channel.SMS, status, 0.25)
    assert tally.take() == {Key(Channel.SMS, kind, bin_of(0.25) if kind is Kind.SENT else UNTIMED): 1}


def test_an_end_without_a_status_or_a_time() -> None:
    tally = Tally()
    tally.ended(Channel.SMS, None)
    tally.ended(Channel.SMS, Status.PROCESSING)
    tally.ended(Channel.SMS, Status.SENT, None)
    assert tally.take() == {Key(Channel.SMS, Kind.SENT, UNTIMED): 1}


@pytest.mark.parametrize("seconds", [-5.0, 0.0, 1e-9, 0.001, 0.0011, 0.5, 1.0, 59.9, 86_400.0, 1e12])
def test_a_bin_holds_what_is_up_to_its_end(seconds: float) -> None:
    of = bin_of(seconds)
    assert 0 <= of < BINS
    assert of == BINS - 1 or seconds <= bin_end_s(of) * (1 + 1e-9)
    assert of == 0 or seconds > bin_end_s(of - 1)


def test_percentiles_are_within_ten_percent() -> None:
    chance = random.Random(7)
    latencies = sorted(chance.lognormvariate(-1, 0.8) for _ in range(20_000))
    bins: dict[int, int] = {}
    for latency in latencies:
        bins[bin_of(latency)] = bins.get(bin_of(latency), 0) + 1
    shares = (0.5, 0.95, 0.99)
    told = percentiles(bins, shares)
    assert told is not None
    for share, guess in zip(shares, told, strict=True):
        assert guess == pytest.approx(latencies[int(share * len(latencies))], rel=0.1)


def test_percentiles_of_nothing_and_of_one() -> None:
    assert percentiles({}, (0.5,)) is None
    assert percentiles({UNTIMED: 7}, (0.5,)) is None
    assert percentiles({10: 1, UNTIMED: 7}, (0.5, 1.0)) == pytest.approx([bin_end_s(10) / 2 ** (0.5 / 4), bin_end_s(10)])
