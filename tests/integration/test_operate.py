"""What an operator does: replay what failed or may have been sent, cancel what was not begun; each counts once."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from app import streams
from app.domain import Channel, EventStatus, Outgoing, Reason, Status
from app.resources import Resources, open_engine
from app.store.operate import Operated, OperatedEvent, cancel_notifications, replay_events, replay_notifications
from consumers.providers import Message, Receipt
from tests.integration.api import Api, assert_problem, serve_in_process
from tests.integration.consuming import consuming
from tests.support import (
    Scripted,
    add_events,
    add_notification,
    add_notifications,
    attempts,
    change,
    event,
    event_row,
    notification,
    notifications_of,
    race,
    start_attempt,
)

Wait = Callable[..., Awaitable[Any]]
LEASE = "claimed_by = 'me', claimed_at = now(), lease_until = now() + interval '30 s'"


@pytest.fixture
async def api(resources: Resources) -> AsyncIterator[Api]:
    async with open_engine(resources.settings, "test history") as engine, serve_in_process(resources, engine) as opened:
        yield opened


async def ended(resources: Resources, status: Status, reason: Reason | None = None, tries: int = 3) -> int:
    """A notification that ended like this, after `tries` tries."""
    row_id = await add_notification(resources)
    why = "null" if reason is None else f"'{reason}'"
    assignments = f"status = '{status}', reason = {why}, error = 'as it was', attempt = {tries}, tries = {tries}"
    await change(resources, "notification", row_id, assignments)
    return row_id


# ---- replay


@pytest.mark.parametrize(("status", "reason"), [(Status.FAILED, Reason.REJECTED), (Status.UNKNOWN, Reason.CRASHED)])
async def test_a_replay_starts_again_from_the_first_try(resources: Resources, status: Status, reason: Reason) -> None:
    row_id = await ended(resources, status, reason)
    assert await replay_notifications(resources.pool, [row_id]) == [Operated(row_id, True, Status.PENDING)]
    row = await notification(resources, row_id)
    assert (row["status"], row["reason"], row["error"], row["tries"], row["attempt"]) == ("PENDING", None, None, 0, 3)
    assert (row["replays"], row["published_at"]) == (1, None), "parked: the relay publishes it"
    assert row["due_in_s"] <= 0
    assert row["possible_duplicate"] == (status is Status.UNKNOWN)


async def test_a_doubt_stays_through_a_replay(resources: Resources) -> None:
    row_id = await ended(resources, Status.FAILED, Reason.OUT_OF_TRIES)
    await change(resources, "notification", row_id, "possible_duplicate = true")
    await replay_notifications(resources.pool, [row_id])
    assert (await notification(resources, row_id))["possible_duplicate"]


@pytest.mark.parametrize("status", [Status.PENDING, Status.PROCESSING, Status.SENT, Status.CANCELLED])
async def test_nothing_else_is_replayed(resources: Resources, status: Status) -> None:
    row_id = await add_notification(resources)
    await change(resources, "notification", row_id, f"status = '{status}', reason = 'cancelled', {LEASE}")
    before = await notification(resources, row_id)
    assert await replay_notifications(resources.pool, [row_id]) == [Operated(row_id, False, status)]
    after = await notification(resources, row_id)
    assert {**after, "due_in_s": 0} == {**before, "due_in_s": 0}


async def test_two_replays_at_once_replay_once(resources: Resources) -> None:
    row_id = await ended(resources, Status.FAILED, Reason.REJECTED)
    answers = await race(resources, "notification", [row_id], [partial(replay_notifications, resources.pool, [row_id])] * 2)
    assert sorted(moved for ((_, moved, _),) in answers) == [False, True]
    assert (await notification(resources, row_id))["replays"] == 1


async def test_many_are_replayed_at_once_and_each_is_answered(resources: Resources) -> None:
    failed, sent, unknown = await add_notifications(resources, 3)
    await change(resources, "notification", failed, "status = 'FAILED', reason = 'rejected'")
    await change(resources, "notification", sent, "status = 'SENT'")
    await change(resources, "notification", unknown, "status = 'UNKNOWN', reason = 'crashed'")
    assert await replay_notifications(resources.pool, [unknown, sent, failed, 10**12]) == [
        (failed, True, Status.PENDING),
        (sent, False, Status.SENT),
        (unknown, True, Status.PENDING),
    ]


async def test_a_dead_event_is_routed_again(resources: Resources, wait_until: Wait) -> None:
    (event_pk,) = await add_events(resources, event())
    await change(resources, "event", event_pk, "status = 'FAILED', reason = 'dead_letter', error = 'as it was'")
    assert await replay_events(resources.pool, [event_pk]) == [OperatedEvent(event_pk, True, EventStatus.NEW)]
    assert await replay_events(resources.pool, [event_pk]) == [OperatedEvent(event_pk, False, EventStatus.NEW)]
    row = await event_row(resources, event_pk)
    assert (row["reason"], row["error"], row["published_at"]) == (None, None, None)

    async def all_sent() -> bool:
        return [n["status"] for n in await notifications_of(resources, event_pk)] == ["SENT"] * 3

    async with consuming(resources):
        await wait_until(all_sent)
    assert (await event_row(resources, event_pk))["status"] == "ROUTED"


async def test_a_routed_event_is_not_replayed(resources: Resources) -> None:
    (event_pk,) = await add_events(resources, event())
    await change(resources, "event", event_pk, "status = 'ROUTED'")
    assert await replay_events(resources.pool, [event_pk]) == [OperatedEvent(event_pk, False, EventStatus.ROUTED)]


class LosesTheFirst(Scripted):
    """Its connection breaks in every call, until the notification is replayed."""

    async def send(self, message: Message) -> Receipt:
        receipt = await super().send(message)
        if message.idempotency_key.endswith("-0"):
            raise ConnectionResetError("lost")
        return receipt


async def test_what_may_have_been_sent_is_sent_again_only_by_a_replay_and_marked(
    resources: Resources, api: Api, wait_until: Wait
) -> None:
    provider = LosesTheFirst()
    row_id = await add_notification(resources, Channel.SMS)
    await change(resources, "notification", row_id, "published_at = null")

    async def status() -> Any:
        return (await notification(resources, row_id))["status"]

    async def is_now(wanted: str) -> bool:
        return bool(await status() == wanted)

    async with consuming(resources, provider):
        await wait_until(lambda: is_now("UNKNOWN"))
        answer = await api.client.post(f"/api/notifications/{row_id}/replay")
        assert answer.status_code == 202
        await wait_until(lambda: is_now("SENT"))
    assert {key: len(calls) for key, calls in provider.calls.items()} == {f"{row_id}-0": 1, f"{row_id}-1": 1}
    assert (await notification(resources, row_id))["possible_duplicate"]
    tried = [(a["number"], a["outcome"], a["possible_duplicate"]) for a in await attempts(resources, row_id)]
    assert tried == [(1, "unknown", False), (2, "sent", True)]
    assert await resources.redis.xlen(streams.channel_stream(Channel.SMS)) == 0


# ---- cancel


async def test_a_pending_one_is_cancelled_and_stays_so(resources: Resources) -> None:
    row_id = await add_notification(resources)
    assert await cancel_notifications(resources.pool, [row_id]) == [Operated(row_id, True, Status.CANCELLED)]
    row = await notification(resources, row_id)
    assert (row["status"], row["reason"], row["error"]) == ("CANCELLED", "cancelled", "stopped on request")
    assert await cancel_notifications(resources.pool, [row_id]) == [Operated(row_id, False, Status.CANCELLED)]


async def test_a_cancelled_one_is_never_sent(resources: Resources, wait_until: Wait) -> None:
    provider = Scripted()
    cancelled, other = await add_notifications(resources, 2)
    rows = await resources.pool.fetch(
        "select n.id, e.event_id, e.user_id, e.type, n.published_at from notification n join event e on e.id = n.event_pk"
    )
    await streams.publish(resources.redis, streams.channel_stream(Channel.EMAIL), [Outgoing(*r) for r in rows])
    await cancel_notifications(resources.pool, [cancelled])

    async def done() -> bool:
        return not await resources.redis.xlen(streams.channel_stream(Channel.EMAIL))

    async with consuming(resources, provider):
        await wait_until(done)
    assert list(provider.calls) == [f"{other}-0"]


async def test_a_claim_and_a_cancel_do_not_both_win(resources: Resources) -> None:
    row_id = await start_attempt(resources)
    assert await cancel_notifications(resources.pool, [row_id]) == [Operated(row_id, False, Status.PROCESSING)]


# ---- over HTTP


@pytest.mark.parametrize("status", ["PENDING", "PROCESSING", "SENT", "CANCELLED"])
async def test_a_replay_that_the_status_does_not_allow_is_409(api: Api, status: str) -> None:
    row_id = await add_notification(api.resources)
    await change(api.resources, "notification", row_id, f"status = '{status}', reason = 'cancelled', {LEASE}")
    problem = assert_problem(await api.client.post(f"/api/notifications/{row_id}/replay"), 409, "status-conflict")
    assert problem["detail"] == f"The notification is {status}. Only FAILED and UNKNOWN ones can be replayed."


@pytest.mark.parametrize("status", ["PROCESSING", "SENT", "FAILED", "UNKNOWN", "CANCELLED"])
async def test_a_cancel_that_the_status_does_not_allow_is_409(api: Api, status: str) -> None:
    row_id = await add_notification(api.resources)
    await change(api.resources, "notification", row_id, f"status = '{status}', reason = 'rejected', {LEASE}")
    problem = assert_problem(await api.client.post(f"/api/notifications/{row_id}/cancel"), 409, "status-conflict")
    assert problem["detail"] == f"The notification is {status}. Only PENDING ones can be cancelled."


async def test_a_second_click_is_409(api: Api) -> None:
    row_id = await ended(api.resources, Status.FAILED, Reason.REJECTED)
    first = await api.client.post(f"/api/notifications/{row_id}/replay")
    assert (first.status_code, first.json()["id"], first.json()["status"]) == (202, row_id, "PENDING")
    assert_problem(await api.client.post(f"/api/notifications/{row_id}/replay"), 409, "status-conflict")
    stopped = await api.client.post(f"/api/notifications/{row_id}/cancel")
    assert (stopped.status_code, stopped.json()["status"], stopped.json()["reason"]) == (200, "CANCELLED", "cancelled")


async def test_an_unknown_id_is_404(api: Api) -> None:
    for row_id in ("999", "0", "-1", "abc", "1.0", "9223372036854775808", "9" * 400, "%00"):
        for move in ("replay", "cancel"):
            assert_problem(await api.client.post(f"/api/notifications/{row_id}/{move}"), 404, "not-found")


async def test_only_post_moves_and_a_user_may_be_called_like_a_move(api: Api) -> None:
    row_id = await ended(api.resources, Status.FAILED, Reason.REJECTED)
    assert (await api.client.get(f"/api/notifications/{row_id}/replay")).json() == []
    problem = await api.client.put(f"/api/notifications/{row_id}/replay")
    assert_problem(problem, 405, "method-not-allowed")
    assert problem.headers["allow"] == "GET, HEAD, POST"
