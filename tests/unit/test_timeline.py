"""The drawing of one event: to scale, but for long waits; nothing outside, nothing negative, hostile text clipped."""

from itertools import pairwise
from typing import Any

import pytest

from app.domain import EventStatus, Status
from app.models import Attempt, Event
from tests.unit import ready_made as made
from tests.unit.ready_made import HOSTILE, LIMIT, ago
from web.claimed import with_claimed
from web.lanes import DRAWN, lanes_of
from web.scale import CUT_WIDTH, make_scale, round_step
from web.timeline import LEAST, LEFT, RIGHT, WIDTH, Timeline, timeline

HOUR = 3600


def mail(status: Status = Status.SENT, *attempts: Attempt, event: Event | None = None, **row: Any) -> Timeline:
    """The event accepted 100 s ago, with one mail."""
    return timeline(made.story_rows(event or made.event(), [made.notification(status, **row)], list(attempts)), LIMIT)


def tried(*calls: tuple[float, float]) -> list[Attempt]:
    """Attempts that started so long after the event was accepted, and took so long; the last one was sent."""
    last = len(calls)
    return [
        made.attempt(n, "sent" if n == last else "unavailable", started=100 - after, took=took)
        for n, (after, took) in enumerate(calls, 1)
    ]


def test_attempts_are_as_long_as_they_took() -> None:
    drawn = mail(Status.SENT, *tried((0.1, 0.2), (0.4, 0.6)))
    assert [bar.label for bar in drawn.bars] == ["200 ms", "600 ms"]
    short, long = (bar.width for bar in drawn.bars)
    assert long == pytest.approx(3 * short, abs=3)
    assert drawn.strips == ()
    assert long + short > 0.7 * (WIDTH - LEFT - RIGHT), "a story of a second fills the drawing"


def test_long_waits_are_cut_out_and_say_how_long_they_were() -> None:
    drawn = mail(Status.SENT, *tried((0.1, 0.5), (30, 0.5), (89.5, 0.5)))
    assert [strip.text for strip in drawn.strips] == ["29 s", "59 s"]
    assert {bar.width for bar in drawn.bars} == {bar.width for bar in drawn.bars[:1]}, "equal ones are drawn equal"
    assert all(strip.width == pytest.approx(CUT_WIDTH, abs=1) for strip in drawn.strips)


@pytest.mark.parametrize("seconds", [0.3, 3, 60, 2 * HOUR])
def test_a_story_of_any_length_can_be_read(seconds: float) -> None:
    calls = [(0.01, 0.1), (seconds / 2, 0.1), (seconds - 0.1, 0.1)]
    attempts = [made.attempt(n, started=2 * HOUR - after, took=took) for n, (after, took) in enumerate(calls)]
    event = made.event(created_at=ago(2 * HOUR), updated_at=ago(2 * HOUR - 0.01))
    drawn = mail(Status.SENT, *attempts, event=event, created_at=ago(2 * HOUR - 0.01))
    assert all(bar.width >= 60 for bar in drawn.bars)
    inside(drawn)


def test_what_lasts_on_is_drawn_until_now_and_what_is_due_beyond() -> None:
    open_ = mail(Status.PROCESSING, attempt=1, claimed_by="c", claimed_at=ago(10))
    [bar] = open_.bars
    assert (bar.kind, bar.x + bar.width, bar.says) == ("open", open_.now_x, "EMAIL attempt 1: being sent for 10 s")
    waits = mail(Status.PENDING, *tried((0.1, 0.5))[:1], due_at=ago(-60))
    assert waits.now_x is not None
    [due] = [mark for mark in waits.marks if mark.sign == "○"]
    assert due.x > waits.now_x
    assert due.says == "EMAIL: next try, 2 min 40 s after it was accepted"
    assert mail(Status.SENT, *tried((0.1, 0.5))).now_x is None


@pytest.mark.parametrize(
    ("status", "reason", "sign"),
    [
        (Status.FAILED, "rate_limited", "✕"),
        (Status.UNKNOWN, "no_answer", "?"),
        (Status.CANCELLED, "cancelled", "–"),
    ],
)
def test_an_end_without_an_attempt_has_its_mark(status: Status, reason: str, sign: str) -> None:
    drawn = mail(status, attempt=0, reason=reason, updated_at=ago(40))
    assert drawn.marks[-1].sign == sign
    inside(drawn)


@pytest.mark.parametrize("status", list(EventStatus))
def test_an_event_without_notifications(status: EventStatus) -> None:
    for row in ({}, {"due_at": ago(-HOUR), "published_at": None}, {"created_at": ago(-5), "updated_at": ago(0)}):
        event = made.event(status=status.value, decisions=None, reason="expired", **row)
        inside(timeline(made.story_rows(event), LIMIT))


@pytest.mark.parametrize("held_s", [27, -20])
def test_an_event_that_is_sent_at_once_has_its_lanes_before_its_rows(held_s: float) -> None:
    drawn = timeline(with_claimed(made.story_rows(made.claimed(held_s, decisions=made.decisions(PUSH="default")))), LIMIT)
    assert [name.text for name in drawn.names] == ["Event", "PUSH"]
    [bar] = drawn.bars
    assert (bar.kind, bar.x + bar.width, bar.says) == ("open", drawn.now_x, "PUSH attempt 1: being sent for 3.0 s")
    assert drawn.marks[-1].says == "To be routed, 1 min 40 s after it was accepted"
    inside(drawn)


def test_all_at_the_same_instant() -> None:
    at: dict[str, Any] = {"created_at": ago(0), "updated_at": ago(0)}
    drawn = timeline(
        made.story_rows(made.event(**at), [made.notification(**at)], [made.attempt(started=0, took=0)]), LIMIT
    )  # fmt: skip
    assert drawn.bars[0].width == LEAST
    inside(drawn)


def test_clocks_that_ran_backwards_draw_nothing_outside() -> None:
    inside(mail(Status.SENT, *tried((-5, 1), (-20, -3))))
    inside(mail(Status.PROCESSING, claimed_at=ago(300), claimed_by="c", created_at=ago(500)))


def test_channels_at_work_at_the_same_time_share_the_scale() -> None:
    rows = [made.notification(id=n, channel=c) for n, c in enumerate(("EMAIL", "SMS", "PUSH"))]
    attempts = [made.attempt(notification_id=n, started=99.9, took=0.1 * (n + 1)) for n in range(3)]
    drawn = timeline(made.story_rows(made.event(), rows, attempts), LIMIT)
    assert [name.text for name in drawn.names] == ["Event", "EMAIL", "SMS", "PUSH"]
    widths = [bar.width for bar in drawn.bars]
    assert widths == pytest.approx([widths[0], 2 * widths[0], 3 * widths[0]], abs=3)
    assert len({bar.x for bar in drawn.bars}) == 1


def test_very_many_attempts() -> None:
    attempts = [made.attempt(n, "unavailable", started=90 - n * 0.2, took=0.001) for n in range(1, 401)]
    drawn = mail(Status.FAILED, *attempts, reason="out_of_tries", tries=400)
    assert (len(drawn.bars), drawn.left_out) == (DRAWN, 360)
    inside(drawn)


def test_hostile_text_is_clipped() -> None:
    rows = [made.notification(Status.FAILED, channel=HOSTILE * 9, reason=HOSTILE)]
    drawn = timeline(made.story_rows(made.event(), rows, [made.attempt(outcome=HOSTILE, error=HOSTILE * 99)]), LIMIT)
    assert max(len(name.text) for name in drawn.names) <= 9
    assert all(len(bar.says) < 400 for bar in drawn.bars)


def test_the_lanes_tell_the_waits_between() -> None:
    _, lane = lanes_of(made.story_rows(made.event(), [made.notification()], tried((1, 1), (5, 2))), LIMIT)
    assert [(span.kind, round(span.start_s), round(span.end_s)) for span in lane.spans] == [
        ("wait", 0, 1), ("attempt", 1, 2), ("wait", 2, 5), ("attempt", 5, 7)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("least", "step"),
    [(0.0003, 0.0005), (0.03, 0.05), (0.1, 0.1), (0.11, 0.2), (3, 5), (19, 20), (21, 60), (61, 120), (5000, 7200)],
)
def test_steps_are_round(least: float, step: float) -> None:
    assert round_step(least) == pytest.approx(step)


def test_a_scale_goes_up_without_holes() -> None:
    scale = make_scale([(1, 2), (1.5, 3), (1000, 1001)], [0, 999, 5000], 100, 800)
    for left, right in pairwise(scale.pieces):
        assert left.x + left.width == pytest.approx(right.x)
    assert scale.x(-5) == 100
    assert scale.x(9_999) == pytest.approx(900)
    places = [scale.x(at) for at in (0, 1, 1.2, 2, 3, 500, 999, 1000.5, 1001, 4000)]
    assert places == sorted(places)
    per_s = scale.x(2) - scale.x(1)
    assert scale.x(3) - scale.x(2) == pytest.approx(per_s)
    assert scale.x(1001) - scale.x(1000) == pytest.approx(per_s)


def inside(drawn: Timeline) -> None:
    """Nothing negative, nothing beyond the edges, and no two ticks over each other."""
    for bar in drawn.bars:
        assert bar.width >= LEAST
        assert LEFT <= bar.x <= bar.x + bar.width <= WIDTH
        assert 0 <= bar.y <= bar.y + bar.height <= drawn.height
    for thread in drawn.threads:
        assert LEFT <= thread.x1 <= thread.x2 <= WIDTH - RIGHT
    for mark in drawn.marks:
        assert LEFT <= mark.x <= WIDTH - RIGHT
    for strip in drawn.strips:
        assert strip.width >= 0
        assert LEFT <= strip.x <= strip.middle <= strip.x + strip.width <= WIDTH - RIGHT
    for left, right in pairwise(drawn.ticks):
        assert right.x - left.x >= 7 * len(left.text)
