"""The circuit breaker as a table of moments, and what holds whatever happens."""

from hypothesis import given
from hypothesis import strategies as st

from consumers.breaker import TOLD_WAIT_MAX_S, Breaker


def opened(now_s: float = 0, told_wait_s: float | None = None) -> Breaker:
    breaker = Breaker(after=20)
    assert breaker.failed(now_s, "401", told_wait_s, hopeless=True)
    return breaker


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = Breaker(after=3)
    assert [breaker.failed(now_s, "busy") for now_s in range(4)] == [False, False, True, False]
    assert (breaker.is_open, breaker.reason, breaker.opened_s) == (True, "busy", 2)


def test_an_answer_between_two_failures_begins_the_count_anew() -> None:
    breaker = Breaker(after=3)
    for now_s in range(10):
        assert not breaker.failed(now_s, "busy")
        assert not breaker.failed(now_s, "busy")
        assert not breaker.answered(now_s)


def test_one_refusal_of_our_credentials_is_enough() -> None:
    assert opened().is_open


def test_0_never_opens() -> None:
    breaker = Breaker(after=0)
    assert not any(breaker.failed(now_s, "401", hopeless=True) for now_s in range(1000))


def test_the_wait_for_a_probe_doubles_up_to_4_s() -> None:
    breaker, now_s, waits = opened(), 0.0, []
    for _ in range(6):
        waits.append(breaker.probe_s - now_s)
        assert not breaker.may_probe(breaker.probe_s - 0.01)
        now_s = breaker.probe_s
        assert breaker.may_probe(now_s)
        breaker.failed(now_s, "busy")
    assert waits == [0.5, 1, 2, 4, 4, 4]


def test_calls_that_were_under_way_when_it_opened_make_the_wait_no_longer() -> None:
    breaker = opened()
    for _ in range(100):
        breaker.failed(0.1, "busy")
    assert (breaker.probe_s, breaker.wait_s) == (0.5, 0.5)


def test_a_longer_wait_that_the_provider_asks_for_is_kept_up_to_a_minute() -> None:
    breaker = opened(told_wait_s=10)
    assert breaker.probe_s == 10
    breaker.failed(1, "busy", told_wait_s=20)
    assert breaker.probe_s == 21
    breaker.failed(21, "busy", told_wait_s=3600)
    assert breaker.probe_s == 21 + TOLD_WAIT_MAX_S


def test_an_answer_closes_it_and_counting_begins_anew() -> None:
    breaker = Breaker(after=2)
    breaker.failed(0, "busy")
    breaker.failed(0, "busy")
    assert breaker.answered(1)
    assert not breaker.is_open
    assert not breaker.failed(1, "busy")


def test_a_provider_that_flaps_is_asked_ever_more_rarely() -> None:
    breaker, now_s, waits = opened(), 0.0, []
    for _ in range(5):
        now_s = breaker.probe_s
        assert breaker.answered(now_s)
        assert breaker.failed(now_s, "401", hopeless=True)
        waits.append(breaker.wait_s)
    assert waits == [1, 2, 4, 4, 4]


def test_after_a_time_without_trouble_the_first_wait_is_short_again() -> None:
    breaker = opened()
    breaker.answered(1)
    breaker.failed(6, "401", hopeless=True)
    assert breaker.wait_s == 0.5


MOMENTS = st.lists(
    st.tuples(st.sampled_from(["answer", "failure", "hopeless"]), st.floats(0, 10), st.none() | st.floats(-1e9, 1e9)),
    max_size=60,
)


@given(after=st.integers(0, 5), moments=MOMENTS)
def test_whatever_happens(after: int, moments: list[tuple[str, float, float | None]]) -> None:
    breaker, now_s, in_a_row = Breaker(after), 0.0, 0
    for what, passed_s, told_wait_s in moments:
        now_s += passed_s
        was_open = breaker.is_open
        if what == "answer":
            assert breaker.answered(now_s) == was_open
            assert not breaker.is_open, "an answer shows that the provider works"
            in_a_row = 0
            continue
        in_a_row += 1
        must_open = after > 0 and (in_a_row >= after or what == "hopeless")
        assert breaker.failed(now_s, "why", told_wait_s, what == "hopeless") == (must_open and not was_open)
        assert breaker.is_open == (was_open or must_open)
        if breaker.is_open:
            assert breaker.may_probe(now_s + TOLD_WAIT_MAX_S), "no wait is longer than a minute"
