"""`python -m consumers` that does itself harm at a named point, exactly: `python -m tests.faults.consumers`, told by FAULT.

FAULT=POINT:CALLS:ACTION (nothing: no harm). The points of one notification, in order: before_claim, as_routed (its event
claimed, no call begun), after_claim (nothing sent), before_record (sent), after_record (recorded, not acknowledged). CALLS go
by before it happens. FAULT=poison:EVENT_ID:ACTION: it happens to whoever is about to send that. ACTION: kill (SIGKILL), stop
(SIGSTOP), block=SECONDS (the event loop stands still).

Before that a line of JSON goes to FAULT_LOG: the point, and the ids of the notifications that are between send and record at that
moment; and one more once it goes on. SIGUSR1 adds a line with the names of the tasks.

FAULT_WITHOUT=MECHANISM switches one off, so that a test can show that it notices: relay, reclaim, mark (possible_duplicate), hold
(outcomes while PostgreSQL is away).

The product knows nothing of this.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from app.store import hot, hot_send
from app.store import notifications as store
from consumers import __main__, call, database, deliver, reclaim, record, relay, sending

in_mid_send: set[int] = set()


class Harm:
    """What FAULT asks for."""

    def __init__(self, told: str) -> None:
        self.point, calls, self.action = told.split(":") if told else ("", "0", "")
        self.poison = calls if self.point == "poison" else None
        self.calls_left = 1 if self.poison else int(calls)

    def at(self, point: str, event_id: str = "") -> None:
        if point != self.point or event_id != (self.poison or event_id):
            return
        self.calls_left -= 1
        if self.calls_left == 0:
            note({"point": point, "in_mid_send": sorted(in_mid_send)})
            self.act()

    def act(self) -> None:
        action, _, seconds = self.action.partition("=")
        if action == "block":
            time.sleep(float(seconds))
        else:
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[action])
        note({"awake": self.point})


def note(fact: dict[str, object]) -> None:
    """One line, whole and at once."""
    log = os.open(os.environ["FAULT_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, json.dumps({"pid": os.getpid(), **fact}).encode() + b"\n")
    os.close(log)


def build_in(harm: Harm) -> None:
    claim, call_provider, finish = hot.claim, call.call_provider, hot.finish
    claim_events, write, first_ids = hot_send.claim_events, hot_send.write, dict[int, int]()

    async def claim_events_or_harm(*given: Any, **named: Any) -> Any:
        harm.at("before_claim")
        claimed = await claim_events(*given, **named)
        first_ids.update((event.event_pk, event.first_id) for event in claimed)
        harm.at("as_routed")
        return claimed

    async def claim_or_harm(*given: Any, **named: Any) -> Any:
        harm.at("before_claim")
        return await claim(*given, **named)

    async def call_or_harm(provider: Any, message: Any, limit: Any) -> Any:
        in_mid_send.add(int(message.idempotency_key.partition("-")[0]))  # the last look at its lease was before this
        harm.at("poison", message.event_id)
        harm.at("after_claim")
        return await call_provider(provider, message, limit)

    async def finish_or_harm(resources: Any, endings: Sequence[Any]) -> Any:
        harm.at("before_record")
        told = await finish(resources, endings)
        in_mid_send.difference_update(ending.id for ending in endings)
        harm.at("after_record")
        return told

    async def write_or_harm(resources: Any, me: str, writes: Sequence[Any]) -> Any:
        """Its point is that of an event that was sent, all or in part: what is written unsent is not recorded by it."""
        sent = any(told is not None for w in writes for told in w.sent)
        if sent:
            harm.at("before_record")
        written = await write(resources, me, writes)
        in_mid_send.difference_update(
            first_ids[w.event_pk] + place for w in writes if w.event_pk in written for place, told in enumerate(w.sent) if told
        )
        if sent:
            harm.at("after_record")
        return written

    for module, name, made in (
        (deliver, "claim", claim_or_harm),
        (hot_send, "claim_events", claim_events_or_harm),
        (sending, "write", write_or_harm),
        (deliver, "call_provider", call_or_harm),
        (record, "finish", finish_or_harm),
    ):
        setattr(module, name, made)


def switch_off(mechanism: str) -> None:
    async def nothing(*_: Any, **__: Any) -> Any:
        return 0 if mechanism == "relay" else []

    async def impatiently(_: database.Database, ask: Callable[[], Awaitable[Any]]) -> Any:
        return await ask()

    if mechanism == "relay":
        relay.Relay.sweep = nothing  # type: ignore[method-assign]
    elif mechanism == "reclaim":
        reclaim.Reclaimer.take = nothing  # type: ignore[method-assign]
    elif mechanism == "mark":
        marked = store.CLAIM
        store.CLAIM = marked.replace("n.possible_duplicate or verdict in ('again', 'crashed')", "n.possible_duplicate")
        assert marked != store.CLAIM
    elif mechanism == "hold":
        database.Database.patiently = impatiently  # type: ignore[method-assign,assignment]


def tell_tasks(*_: object) -> None:
    loop = asyncio.get_running_loop()
    note({"tasks": sorted(task.get_name() for task in asyncio.all_tasks(loop) if not task.get_name().startswith("Task-"))})


if __name__ == "__main__":
    build_in(Harm(os.environ.get("FAULT", "")))
    switch_off(os.environ.get("FAULT_WITHOUT", ""))
    signal.signal(signal.SIGUSR1, tell_tasks)
    sys.exit(__main__.main())
