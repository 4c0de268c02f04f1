"""Events whose calls are under way: when each is written, what is told of it, and what becomes of all that is not."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from app.domain import Channel, Outcome, Status
from app.store.hot_send import Claimed, Sent, Write
from app.streams import Entry
from consumers import database, sending
from consumers.at_once import claim_of
from consumers.clock import clock_s
from consumers.database import Database
from consumers.record import Attempt, Ended
from consumers.retry import Result
from consumers.sending import Sending, Underway, told
from consumers.settle import Acknowledge, Back

Wait = Callable[..., Awaitable[Any]]
EMAIL, SMS, PUSH = Channel
SENT = Result(Outcome.SENT, receipt="r-1")
FOR_EVER_S = 3600.0


class Desk:
    """A Sending whose store is `write`: it keeps what it is told, and answers that all was written, but for `passed_over`."""

    def __init__(self) -> None:
        self.writes, self.passed_over, self.fails = list[list[Write]](), set[int](), 0
        self.may_answer, self.settled, self.recorded = asyncio.Event(), list[tuple[bytes, object]](), list[Ended]()
        self.counted = list[tuple[Channel, Status | None]]()
        self.may_answer.set()
        tally = SimpleNamespace(ended=lambda channel, status, _age_s: self.counted.append((channel, status)))
        recorder = SimpleNamespace(add=self.recorded.append)
        self.sending = Sending(cast("Any", SimpleNamespace(tally=tally)), Database(), cast("Any", recorder), "me")

    async def write(self, _resources: object, me: str, writes: Sequence[Write]) -> set[int]:
        assert me == "me"
        self.writes.append([*writes])
        await self.may_answer.wait()
        if self.fails:
            self.fails -= 1
            raise ConnectionError
        return {w.event_pk for w in writes} - self.passed_over

    def claimed(self, event_pk: int, *channels: Channel) -> Underway:
        """An event whose calls have begun; its notifications have the ids from ten times its own on."""
        event = Claimed(event_pk, f"e-{event_pk}", "T", "u", channels, 10 * event_pk, "{}", 0.0)
        return Underway(event, Entry(b"%d-1" % event_pk, event_pk, 1), self._settle)

    def ends(self, event: Underway, place: int, result: Result | None = SENT) -> None:
        """The call in this place is over; None: it was not made."""
        e, row_id = event.event, event.event.first_id + place
        record = partial(self.sending.ended, event, place)
        entry = Entry(b"row %d" % row_id, row_id, 1)
        attempt = Attempt(e.channels[place], entry, claim_of(e, row_id), clock_s(), self._settle, record)
        record(Ended(attempt, "p", result, 0.1, None, cast("Any", None)))

    def _settle(self, entry: Entry, verdict: object) -> None:
        self.settled.append((entry.id, verdict))

    def told(self) -> list[list[tuple[int, list[Sent | None]]]]:
        """Per call of the store: each event, and how its notifications were sent."""
        return [[(w.event_pk, [*w.sent]) for w in writes] for writes in self.writes]

    def to_record(self) -> list[int]:
        return [end.attempt.claim.id for end in self.recorded]


@pytest.fixture
async def desk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    desk = Desk()
    monkeypatch.setattr(sending, "write", desk.write)
    monkeypatch.setattr(sending, "LINGER_S", FOR_EVER_S)
    monkeypatch.setattr(database, "REPEAT_AFTER_S", 0.0)
    running = asyncio.create_task(desk.sending.run())
    yield desk
    running.cancel()


async def turns(n: int = 8) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def test_an_event_is_written_once_all_its_calls_are_over_and_nothing_else_is_recorded(desk: Desk) -> None:
    one = desk.claimed(1, EMAIL, PUSH)
    desk.sending.follow([one])
    desk.ends(one, 1)
    await turns()
    assert (desk.writes, desk.sending.sign()) == ([], None)
    desk.ends(one, 0, SENT._replace(receipt=None))
    await turns()
    assert desk.told() == [[(1, [("p", None), ("p", "r-1")])]]
    assert desk.settled == [(b"1-1", Acknowledge()), (b"row 10", Acknowledge()), (b"row 11", Acknowledge())]
    assert desk.counted == [(EMAIL, Status.SENT), (PUSH, Status.SENT)]
    assert (desk.recorded, desk.sending.sign()) == ([], None)


async def test_the_log_tells_of_an_event_and_then_of_what_was_sent_once_both_are_written(desk: Desk) -> None:
    one = desk.claimed(1, EMAIL, PUSH)
    desk.sending.follow([one])
    desk.may_answer.clear()
    with capture_logs() as logs:
        desk.ends(one, 0)
        desk.ends(one, 1)
        await turns()
        assert (len(desk.writes), logs) == (1, [])
        desk.may_answer.set()
        await turns()
    assert [(log["event"], log.get("channels"), log.get("notification_id")) for log in logs] == [
        ("event routed", ["EMAIL", "PUSH"], None),
        ("notification sent", None, 10),
        ("notification sent", None, 11),
    ]


async def test_what_is_not_over_a_moment_after_the_claim_is_written_as_such_and_recorded_when_it_is(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, wait_until: Wait
) -> None:
    """And an event that is written already is not written again."""
    monkeypatch.setattr(sending, "LINGER_S", 0.01)
    slow, done = desk.claimed(1, EMAIL, SMS, PUSH), desk.claimed(2, SMS)
    desk.sending.follow([slow, done])
    desk.ends(done, 0)
    desk.ends(slow, 1)
    await wait_until(lambda: len(desk.writes) == 2)
    await turns()
    assert desk.told() == [[(2, [("p", "r-1")])], [(1, [None, ("p", "r-1"), None])]]
    assert [at for at, _ in desk.settled] == [b"2-1", b"row 20", b"1-1", b"row 11"]
    desk.ends(slow, 0)
    desk.ends(slow, 2, Result(Outcome.UNKNOWN, "no answer"))
    await turns()
    assert (desk.to_record(), len(desk.writes), len(desk.settled)) == ([10, 12], 2, 4)


async def test_what_ends_while_its_event_is_written_is_recorded_after_that(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, wait_until: Wait
) -> None:
    """Not before: there is no row of it yet."""
    monkeypatch.setattr(sending, "LINGER_S", 0.0)
    desk.may_answer.clear()
    one = desk.claimed(1, EMAIL, SMS)
    desk.sending.follow([one])
    desk.ends(one, 0)
    await wait_until(lambda: desk.writes)
    desk.ends(one, 1)
    await turns()
    assert (desk.recorded, desk.settled, desk.sending.sign()) == ([], [], 0)
    desk.may_answer.set()
    await turns()
    assert (desk.told(), desk.to_record()) == ([[(1, [("p", "r-1"), None])]], [11])
    assert desk.counted == [(EMAIL, Status.SENT)]


@pytest.mark.parametrize(
    "result",
    [None, Result(Outcome.REJECTED, "no"), Result(Outcome.UNAVAILABLE, "busy"), Result(Outcome.UNKNOWN, "?"),
        SENT._replace(receipt="a\x1fb")],
    ids=["given back", "rejected", "unavailable", "unknown", "strange receipt"],
)  # fmt: skip
async def test_what_is_over_and_not_sent_is_written_as_not_over_and_then_recorded(desk: Desk, result: Result | None) -> None:
    one = desk.claimed(1, EMAIL, SMS)
    desk.ends(one, 0, result)
    desk.ends(one, 1)
    await turns()
    assert desk.told() == [[(1, [None, ("p", "r-1")])]]
    assert desk.settled == [(b"1-1", Acknowledge()), (b"row 11", Acknowledge())]
    assert [(end.attempt.claim.id, end.result) for end in desk.recorded] == [(10, result)]


async def test_of_an_event_that_was_passed_over_all_ends_are_recorded_and_its_entry_is_looked_at_again(desk: Desk) -> None:
    """Another took it over, or an earlier call wrote it whose answer was lost. It spoils no other."""
    desk.may_answer.clear()
    desk.passed_over = {1}
    one, two = desk.claimed(1, EMAIL, SMS, PUSH), desk.claimed(2, PUSH)
    desk.ends(one, 0)
    desk.ends(one, 1, Result(Outcome.REJECTED, "no"))
    desk.sending._queue_rest([one, two])
    desk.ends(two, 0)
    await turns()
    desk.may_answer.set()
    await turns()
    desk.ends(one, 2)
    assert desk.to_record() == [10, 11, 12]
    assert desk.settled == [(b"1-1", Back(0)), (b"2-1", Acknowledge()), (b"row 20", Acknowledge())]
    assert desk.counted == [(PUSH, Status.SENT)]


async def test_a_write_that_failed_is_repeated_as_it_was(desk: Desk) -> None:
    """It may have taken effect: what ended meanwhile is not told."""
    desk.may_answer.clear()
    desk.fails = 2
    one = desk.claimed(1, EMAIL, SMS)
    desk.ends(one, 0)
    desk.sending._queue_rest([one])
    await turns()
    desk.ends(one, 1)
    desk.may_answer.set()
    await turns(30)
    assert desk.told() == [[(1, [("p", "r-1"), None])]] * 3
    assert (desk.settled, desk.to_record()) == ([(b"1-1", Acknowledge()), (b"row 10", Acknowledge())], [11])


async def test_what_is_over_while_a_batch_is_written_shares_the_next_one(desk: Desk) -> None:
    desk.may_answer.clear()
    for n in (1, 2, 3):
        desk.ends(desk.claimed(n, SMS), 0)
        await turns()
    desk.may_answer.set()
    await turns()
    assert [[w.event_pk for w in writes] for writes in desk.writes] == [[1], [2, 3]]


@pytest.mark.parametrize("how", ["all over", "passed over", "some over"])
async def test_what_is_done_is_gone_without_the_garbage_collector(desk: Desk, how: str) -> None:
    """A ring is an event whose ends know it: so many would wait for the collector that it stops the process for long."""
    gc.collect()
    gc.disable()
    try:
        desk.passed_over = {77} if how == "passed over" else set()
        one = desk.claimed(77, EMAIL, SMS)
        desk.ends(one, 0)
        if how == "some over":
            desk.sending._queue_rest([one])
            await turns()
        desk.ends(one, 1, Result(Outcome.UNAVAILABLE, "busy"))
        await turns()
        assert (desk.settled[0][0], 771 in desk.to_record()) == (b"77-1", True)
        del one
        desk.recorded.clear()
        await turns()
        objects = gc.get_objects()
        assert [found for found in objects if isinstance(found, Underway) and found.event.event_pk == 77] == []
        assert [found for found in objects if isinstance(found, Attempt) and found.claim.event_id == "e-77"] == []
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("receipt", "fine"),
    [(None, True), ("r", True), ("a b", True), ("ä€😀", True), ("x" * 3000, True), ("", False), ("a\nb", False), ("\x00", False),
        ("\x1e", False), ("a\x1fb", False), ("\ud800", False), ("x" * 2000 + "\x1f", False)],
    ids=ascii,
)  # fmt: skip
def test_only_what_can_be_told_in_one_text_with_others_is_written_with_its_event(receipt: str | None, fine: bool) -> None:
    end = Ended(cast("Any", None), "p", Result(Outcome.SENT, receipt=receipt), 0.1, None, cast("Any", None))
    assert told(end) == (("p", receipt) if fine else None)


@pytest.mark.parametrize("provider", ["", "\x1e", "a\x1fb"], ids=ascii)
def test_no_provider_s_name_makes_what_was_sent_look_unsent(provider: str) -> None:
    end = Ended(cast("Any", None), provider, SENT, 0.1, None, cast("Any", None))
    assert told(end) is None
    assert told(None) is None
