"""A channel that an operator has paused: nothing is taken from its stream, nothing is lost, and it goes on when it is resumed."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.domain import Channel, Outcome
from app.resources import Resources, open_resources
from app.settings import Settings
from app.store.hold import hold, read_holds, release
from app.store.hot import claim_due
from app.store.notifications import Claim
from app.streams import GROUP, Entry, channel_stream
from consumers import held
from consumers.circuit import Circuit
from consumers.database import Database
from consumers.deliver import Deliver
from consumers.providers import Message, Receipt, Unavailable
from consumers.record import Recorder
from consumers.retry import Result
from consumers.settle import Back
from tests.faults.test_outage import owe
from tests.integration.consuming import consuming
from tests.processes import environment, process
from tests.support import Scripted, add_notifications, change, notification

Wait = Callable[..., Awaitable[Any]]
Make = Callable[..., Settings]
EMAIL = channel_stream(Channel.EMAIL)
UNREADABLE = "which channels are paused cannot be read: it stays as it was"
PAUSED, RESUMED = "channel paused by hand: nothing is taken from its stream", "channel resumed by hand"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "READ_EVERY_S", 0.02)


class Gate:
    """A provider that answers once it is opened."""

    name = "gate"

    def __init__(self) -> None:
        self.open, self.calls = asyncio.Event(), list[Message]()

    async def send(self, message: Message) -> Receipt:
        self.calls.append(message)
        await self.open.wait()
        return Receipt("taken")


async def pause(resources: Resources) -> None:
    assert await hold(resources.pool, Channel.EMAIL, "ann", "maintenance")


async def rows(resources: Resources, channel: Channel = Channel.EMAIL) -> dict[tuple[str, int, int], int]:
    """How many of each status, attempt and tries."""
    query = "select status, attempt, tries, count(*) n from notification where channel = $1 group by 1, 2, 3"
    return {(r["status"], r["attempt"], r["tries"]): r["n"] for r in await resources.pool.fetch(query, channel)}


async def pending(resources: Resources) -> list[Any]:
    return list(await resources.redis.xpending_range(EMAIL, GROUP, "-", "+", 100))


async def others_are_sent(resources: Resources, wait_until: Wait, number: int = 20) -> None:
    """As many on another channel, added later, are through: whoever wanted to take ours had the time."""
    before = (await rows(resources, Channel.SMS)).get(("SENT", 1, 1), 0)
    await owe(resources, number, Channel.SMS)

    async def through() -> bool:
        return (await rows(resources, Channel.SMS)).get(("SENT", 1, 1)) == before + number

    await wait_until(through)


async def nobody_reads(resources: Resources) -> bool:
    """The last read that was under way when the channel was paused is over: it may take what came meanwhile."""
    consumers: Any = await resources.redis.xinfo_consumers(EMAIL, GROUP)
    return bool(min(c["idle"] for c in consumers) > 300)  # ms; a read waits for 100


async def said(logs: list[Any], sentence: str) -> bool:
    return any(line["event"] == sentence for line in logs)


async def test_a_paused_channel_is_left_alone_and_goes_on_when_it_is_resumed(resources: Resources, wait_until: Wait) -> None:
    await pause(resources)
    provider = Scripted()
    async with consuming(resources, provider):
        await owe(resources, 50)
        await others_are_sent(resources, wait_until)
        assert await rows(resources) == {("PENDING", 0, 0): 50}
        assert (await resources.redis.xlen(EMAIL), await pending(resources)) == (50, [])
        assert await release(resources.pool, Channel.EMAIL)
        await wait_until(lambda: all_sent(resources, 50))
    assert all(len(calls) == 1 for calls in provider.calls.values())


async def all_sent(resources: Resources, number: int, tries: int = 1) -> bool:
    """Where the machine stands still, one may be released unsent: an attempt more, and no try."""
    found = Counter[tuple[str, int]]()
    for (status, _attempt, tried), n in (await rows(resources)).items():
        found[status, tried] += n
    return found == {("SENT", tries): number} and not await resources.redis.xlen(EMAIL)


async def test_it_is_said_by_whom_and_why_and_the_first_one_counts(resources: Resources) -> None:
    await pause(resources)
    assert not await hold(resources.pool, Channel.EMAIL, "bob", "me too")
    [(channel, told)] = (await read_holds(resources.pool)).items()
    assert (channel, told.words) == (Channel.EMAIL, "ann: maintenance")
    assert 0 <= told.since_s < 5
    assert await release(resources.pool, Channel.EMAIL)
    assert not await release(resources.pool, Channel.EMAIL)
    assert await read_holds(resources.pool) == {}


async def test_what_is_in_flight_is_finished(resources: Resources, wait_until: Wait) -> None:
    gate = Gate()
    with capture_logs() as logs:
        async with consuming(resources, gate):
            await owe(resources, 3)
            await wait_until(lambda: len(gate.calls) == 3)
            await pause(resources)
            await wait_until(lambda: said(logs, PAUSED))
            gate.open.set()
            await wait_until(lambda: all_sent(resources, 3))
            await wait_until(lambda: nobody_reads(resources))
            await owe(resources, 4)
            await others_are_sent(resources, wait_until)
            assert await rows(resources) == {("SENT", 1, 1): 3, ("PENDING", 0, 0): 4}
            await release(resources.pool, Channel.EMAIL)
            await wait_until(lambda: all_sent(resources, 7))
            assert await said(logs, RESUMED)


async def test_a_retry_that_is_due_is_not_taken_and_costs_nothing(
    resources: Resources, make_settings: Make, wait_until: Wait
) -> None:
    provider = Scripted(Unavailable("busy"))
    with capture_logs() as logs:
        async with (
            open_resources(make_settings(email_waits_s=(0, 0.5), retry_jitter=0), "test") as mine,
            consuming(mine, provider),
        ):
            [one] = await owe(resources, 1)
            await wait_until(lambda: ended(resources, one, tries=1))
            await pause(resources)
            await wait_until(lambda: said(logs, PAUSED))
            [before] = await wait_until(lambda: pending(resources))
            await wait_until(lambda: overdue(resources, one))
            [after] = await pending(resources)
            assert (await rows(resources), after["times_delivered"]) == ({("PENDING", 1, 1): 1}, before["times_delivered"])
            await release(resources.pool, Channel.EMAIL)
            await wait_until(lambda: all_sent(resources, 1, tries=2))


async def ended(resources: Resources, one: int, tries: int) -> bool:
    row = await notification(resources, one)
    return bool(row["status"] == "PENDING" and row["tries"] == tries)


async def overdue(resources: Resources, one: int) -> bool:
    """Its retry was due a while ago: a consumer that may take it looks many times a second."""
    return bool((await notification(resources, one))["due_in_s"] < -1.0)


@pytest.mark.parametrize("held_by_then", [True, False], ids=["before the claim", "after the claim"])
async def test_no_probe_is_sent_on_a_channel_that_is_paused_by_hand(
    resources: Resources, wait_until: Wait, held_by_then: bool
) -> None:
    """Where its provider did not answer, either, and one entry was read before."""
    circuit, database, verdicts = Circuit(resources.settings, Channel.EMAIL, "c"), Database(), list[Any]()
    for _ in range(resources.settings.breaker_after):
        circuit.heard(Result(Outcome.UNAVAILABLE, error="busy"), 1, 1)
    circuit.held = held_by_then

    async def claim(ids: Sequence[int]) -> list[Claim]:
        claims = await claim_due(resources.hot, ids, "c", 1.0)
        circuit.held = True
        return claims

    [row] = await add_notifications(resources, 1, Channel.EMAIL)
    recorder, provider = Recorder(resources, database), Scripted()
    deliver = Deliver(resources, database, Channel.EMAIL, provider, "c", circuit, claim, recorder)
    recording = asyncio.create_task(recorder.run())
    await deliver([Entry(b"1-1", row, 1)], lambda _entry, verdict: verdicts.append(verdict))
    await wait_until(lambda: any(isinstance(v, Back) for v in verdicts))
    recording.cancel()
    assert not provider.calls
    assert (await rows(resources)) == {("PENDING", 0 if held_by_then else 1, 0): 1}


async def test_neither_flushall_nor_a_restart_resumes_or_loses_it(resources: Resources, wait_until: Wait) -> None:
    await pause(resources)
    provider = Scripted()
    async with consuming(resources, provider):
        await owe(resources, 30)
        await resources.redis.flushall()
        await wait_until(lambda: length(resources, 30))  # the relay has put them back
        await others_are_sent(resources, wait_until)
    async with consuming(resources, provider):
        await others_are_sent(resources, wait_until)
        assert await rows(resources) == {("PENDING", 0, 0): 30}
        await release(resources.pool, Channel.EMAIL)
        await wait_until(lambda: all_sent(resources, 30))


async def length(resources: Resources, number: int) -> bool:
    return bool(await resources.redis.xlen(EMAIL) == number)


async def test_what_expires_meanwhile_is_not_sent(resources: Resources, wait_until: Wait) -> None:
    await pause(resources)
    provider = Scripted()
    async with consuming(resources, provider):
        ids = await owe(resources, 5)
        await change(resources, "notification", ids[:2], "expires_at = now()")
        await others_are_sent(resources, wait_until)
        assert await rows(resources) == {("PENDING", 0, 0): 5}
        await release(resources.pool, Channel.EMAIL)
        await wait_until(lambda: none_left(resources))
    assert {(await notification(resources, one))["reason"] for one in ids[:2]} == {"expired"}
    assert {(await notification(resources, one))["status"] for one in ids[2:]} == {"SENT"}


async def none_left(resources: Resources) -> bool:
    return not [status for status, *_ in await rows(resources) if status in ("PENDING", "PROCESSING")]


@pytest.mark.parametrize("paused", [True, False], ids=["paused", "not paused"])
async def test_what_cannot_be_read_stays_as_it_was(resources: Resources, wait_until: Wait, paused: bool) -> None:
    if paused:
        await pause(resources)
    with capture_logs() as logs:
        async with consuming(resources, Scripted()):
            await wait_until(lambda: said(logs, "consuming"))
            await resources.pool.execute("alter table channel_pause rename to gone")
            await wait_until(lambda: said(logs, UNREADABLE))
            await owe(resources, 5)
            await others_are_sent(resources, wait_until)
            if paused:
                assert await rows(resources) == {("PENDING", 0, 0): 5}
            await resources.pool.execute("alter table gone rename to channel_pause")
            await release(resources.pool, Channel.EMAIL)
            await wait_until(lambda: all_sent(resources, 5))


async def test_what_was_never_read_counts_as_paused(resources: Resources, wait_until: Wait) -> None:
    await resources.pool.execute("alter table channel_pause rename to gone")
    with capture_logs() as logs:
        async with consuming(resources, Scripted()):
            await owe(resources, 5)
            await wait_until(lambda: said(logs, UNREADABLE))
            assert await rows(resources) == {("PENDING", 0, 0): 5}
            await resources.pool.execute("alter table gone rename to channel_pause")
            await wait_until(lambda: all_sent(resources, 5))
    assert not await said(logs, PAUSED)


async def test_two_processes_obey_and_one_is_killed(
    resources: Resources, settings: Settings, tmp_path: Path, wait_until: Wait
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()

    def all_say(sentence: str) -> bool:
        return all(sentence in (folder / "consumers.log").read_text() for folder in folders)

    env = environment(settings)
    with process(["consumers"], env, folders[0]) as first, process(["consumers"], env, folders[1]):
        await wait_until(lambda: all_say("consuming"), within_s=20)
        await pause(resources)
        await wait_until(lambda: all_say("channel paused by hand"))
        await wait_until(lambda: nobody_reads(resources))
        await owe(resources, 40)
        first.kill()
        await resources.redis.flushall()
        await others_are_sent(resources, wait_until)
        assert await rows(resources) == {("PENDING", 0, 0): 40}
        await release(resources.pool, Channel.EMAIL)
        await wait_until(lambda: all_sent(resources, 40), within_s=20)
