"""What people do to it every day: restarts, deployments, impatient signals; and what clients and strangers do."""

import asyncio
import signal
from collections import Counter
from collections.abc import Callable

import pytest

from app import streams
from app.domain import Channel
from tests.faults import catalogue
from tests.faults.conftest import Start, kept, well
from tests.faults.provider import Mode
from tests.faults.run import Fault, Report, under_fault
from tests.faults.system import System

Measured = Callable[[Report], None]


async def test_a_rolling_restart_of_every_process(start: Start, measured: Measured) -> None:
    async with start() as system:
        report = await under_fault(system, catalogue.rolling_restart)
    measured(report)
    well(report)
    assert report.doubled == report.unknown == set()


async def test_the_api_is_killed(start: Start, measured: Measured) -> None:
    async with start() as system:
        report = await under_fault(system, catalogue.api_killed)
    measured(report)
    well(report)
    assert report.doubled == report.unknown == set()


async def test_three_reclaimers_at_once(start: Start, measured: Measured) -> None:
    """One of four dies with work in hand; the others all find it at the same moment."""
    async with start(consumers=4) as system:
        report = await under_fault(system, catalogue.consumer_killed)
    measured(report)
    well(report)


async def asked_twice(system: System) -> None:
    """A second SIGTERM means now: what is in mid-send is judged later."""
    await system.provider.behave(Mode("hang"))
    await system.flowing(5)
    system.victim.send(signal.SIGTERM)
    system.victim.send(signal.SIGTERM)
    await system.until(lambda: system.victim.ended() is not None)
    await system.provider.behave(Mode())
    await system.restart(system.victim)


async def killed_after_the_grace(system: System) -> None:
    """As an orchestrator does with one that does not end in time."""
    await system.provider.behave(Mode("hang"))
    await system.flowing(5)
    system.victim.send(signal.SIGTERM)
    system.victim.kill()
    await system.provider.behave(Mode())
    await system.restart(system.victim)


@pytest.mark.parametrize("fault", [asked_twice, killed_after_the_grace], ids=lambda fault: fault.__name__)
async def test_a_stop_that_is_cut_short(fault: Fault, start: Start, measured: Measured) -> None:
    async with start() as system:
        report = await under_fault(system, fault)
    measured(report)
    well(report)


async def test_sigterm_drains_and_hands_over(start: Start, measured: Measured) -> None:
    async def fault(system: System) -> None:
        await catalogue.drained(system, system.victim)
        await system.restart(system.victim)

    async with start() as system:
        report = await under_fault(system, fault)
    measured(report)
    well(report)
    assert report.doubled == report.unknown == set()


async def test_the_same_event_500_times_at_once_and_under_load(start: Start, measured: Measured) -> None:
    answers: Counter[tuple[int, bool]] = Counter()

    async def fault(system: System) -> None:
        body = {**system.load.event(), "userId": "same"}

        async def post(sent: dict[str, object]) -> None:
            async with system.session.post(f"{system.load.api_url}/api/events", json=sent) as answer:
                answers[answer.status, (await answer.json()).get("duplicate", False)] += 1

        other = {**body, "payload": {"another": "body"}}
        await asyncio.gather(*(post(body) for _ in range(500)), *(post(other) for _ in range(100)))

    async with start() as system:
        report = await under_fault(system, fault)
    measured(report)
    well(report)
    first, repeated, refused = answers[202, False], answers[202, True], answers[409, False]
    assert (first, first + repeated, refused) in ((1, 500, 100), (1, 100, 500)), "one body came first, and the other is refused"
    assert report.doubled == report.unknown == set()


async def test_poison_entries_are_put_aside(start: Start, measured: Measured) -> None:
    """By hand: unreadable ones, and ones whose row does not exist."""

    async def fault(system: System) -> None:
        for stream in streams.WORK_STREAMS:
            await system.command("XADD", stream, "*", "no", "sense")
            await system.command("XADD", stream, "*", streams.row_field(stream), "999999999999")

    async with start() as system:
        report = await under_fault(system, fault)
    measured(report)
    assert report.facts.dead_entries == 2 * len(streams.WORK_STREAMS)
    well(report)
    assert report.doubled == report.unknown == set()


async def test_a_message_that_kills_whoever_sends_it_ends_as_a_dead_letter(start: Start, measured: Measured) -> None:
    """And condemns no neighbour: after two silent ends it is handled alone."""

    deadly = "poison:evt-poison:kill"

    async def fault(system: System) -> None:
        poison = {**system.load.event(), "eventId": "evt-poison", "channels": [Channel.EMAIL]}
        await system.load.post(poison)
        supervisor = asyncio.create_task(catalogue.supervise(system, FAULT=deadly))
        await system.until(lambda: ended(system), within_s=40)
        await system.until(lambda: all(part.ended() is None for part in system.consumers))
        supervisor.cancel()

    async def ended(system: System) -> bool:
        poison = "select n.done from notification n join event e on e.id = n.event_pk where e.event_id = 'evt-poison'"
        return bool(await system.sql(poison))

    async with start(consumers=1, harm=deadly, max_deliveries=3) as system:
        report = await under_fault(system, fault)
    measured(report)
    (poison,) = report.facts.events["evt-poison"].notifications
    assert (poison.status, poison.calls) == ("FAILED", ())
    others = [wrong for wrong in report.wrong if "evt-poison" not in wrong]
    kept(report, others)
    assert all(n.status != "FAILED" or n.reason == "rate_limited" for n in report.facts.notifications if n is not poison)
