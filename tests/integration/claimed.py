"""Events that are claimed, and what is told of them, for tests of what becomes of them."""

from typing import Any

from app.domain import Outcome, Status
from app.resources import Resources
from app.store.hot_send import Claimed, Write
from app.store.notifications import Ending
from tests.support import add_events, change, claim_events, event

OVER = "lease_until = now() - interval '1 s'"


async def claimed(resources: Resources, me: str = "me", over: bool = False, **other: Any) -> Claimed:
    """An event of its own that `me` has claimed; `over`: its lease is."""
    (one,) = await claim_events(resources, await add_events(resources, event(**other)), me)
    if over:
        await change(resources, "event", one.event_pk, OVER)
    return one


def sent(e: Claimed, place: int) -> Ending:
    """That the notification in this place was sent, as any other end is told."""
    return Ending(e.first_id + place, 1, Outcome.SENT, "p", None, "r-1", Status.SENT, None)


def write_of(e: Claimed, *places: int, provider: str = "p", receipt: str | None = "r-1") -> Write:
    """That the notifications in these places were sent, and the others not."""
    return Write(e.event_pk, e.channels, [(provider, receipt) if n in places else None for n, _ in enumerate(e.channels)])
