"""One fault under a steady load: before, during, healed, quiet; then what the three witnesses say, and how long it took."""

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from tests.faults import invariants
from tests.faults.dashboard import disagreements
from tests.faults.facts import Facts, gather, redis_facts
from tests.faults.leaks import Held, held, leaks
from tests.faults.system import System

QUIET_WITHIN_S = 25
Fault = Callable[[System], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Report:
    """What a run came to. Times in s since the fault was healed: the first delivery of work accepted after that, and the last end
    of work accepted before.
    """

    facts: Facts
    wrong: list[str]
    first_new_s: float
    owed_s: float
    lasted_s: float

    @property
    def doubled(self) -> set[int]:
        """Notifications that the provider took more than once."""
        return {n.id for n in self.facts.notifications if n.taken > 1}

    @property
    def never_called(self) -> set[int]:
        """Notifications of which the provider received nothing."""
        return {n.id for n in self.facts.notifications if not n.calls}

    @property
    def unknown(self) -> set[int]:
        return {n.id for n in self.facts.notifications if n.status == "UNKNOWN"}


async def under_fault(system: System, fault: Fault, more: int = 15) -> Report:
    """Load, fault, healing (the fault returns once it is healed), more load, quiet. `wrong`: every broken invariant, in words."""
    before = held(system)
    system.load.start()
    await system.flowing(more)
    began = time.time()
    await fault(system)
    healed = time.time()
    await system.flowing(more)
    await system.load.stop()
    await system.until(lambda: all_final(system), QUIET_WITHIN_S)
    return await report(system, before, began, healed)


async def all_final(system: System) -> bool:
    """Is nothing owed any more?"""
    return bool(
        await system.sql(
            "select not exists (select from event where not done) and not exists (select from notification where not done)"
        )
    )


async def report(system: System, before: Held, began: float, healed: float) -> Report:
    """What is wrong once all is quiet. The witnesses are asked one after the other, and a late truth may come between: who
    disagrees is asked once more.
    """
    await settle(system)
    facts, wrong = await judge(system, before, healed - began)
    if wrong:
        facts, wrong = await judge(system, before, healed - began)
    return Report(facts, wrong, *recovery(facts, system.load.accepted, healed), healed - began)


async def judge(system: System, before: Held, lasted_s: float) -> tuple[Facts, list[str]]:
    facts = await gather(system)
    return facts, [
        *invariants.every_accepted_event_is_final(facts, system.load.accepted),
        *invariants.what_was_sent_is_recorded(facts),
        *invariants.doubles_are_explained(facts, system.settings),
        *invariants.tries_keep_to_the_schedule(facts, system.settings),
        *invariants.nobody_is_told_too_often(facts, system.settings, system.losses, slack_s=lasted_s + 1),
        *invariants.streams_are_clean(facts, alive(system)),
        *await disagreements(system, facts),
        *await leaks(system, before),
    ]


async def settle(system: System) -> None:
    """Waits until the streams are clean; where they stay unclean the invariants say so."""

    await system.until(lambda: all_at_work(system))

    async def clean() -> bool:
        carried, _, kept = await redis_facts(system)
        return not list(invariants.streams_are_clean(Facts({}, carried, 0, kept, ()), alive(system)))

    with suppress(AssertionError):
        await system.until(clean, 6 * system.settings.reclaim_after_s)


async def all_at_work(system: System) -> bool:
    """Has every living consumer process read from the events stream?"""
    carried, _, _ = await redis_facts(system)
    return alive(system) <= {int(name.rsplit("-", 2)[1]) for name in carried[0].consumers}


def alive(system: System) -> set[int]:
    return {part.pid for part in system.consumers if part.ended() is None}


def recovery(facts: Facts, accepted: dict[str, float], healed: float) -> tuple[float, float]:
    """(first delivery of new work, last end of old work), in s after healing."""
    new = [
        a.ended_at.timestamp()
        for n in facts.notifications
        for a in n.attempts
        if a.outcome == "sent" and accepted.get(n.event_id, 0) > healed
    ]
    old = [
        n.attempts[-1].ended_at.timestamp() for n in facts.notifications if n.attempts and accepted.get(n.event_id, 0) <= healed
    ]
    return max(0.0, min(new, default=float("inf")) - healed), max(0.0, max(old, default=healed) - healed)
