"""What is claimed as it is routed: commit, expect, publish, begin or give back, as consumers/route.py does it for one event.

The slots and what is expected are kept by the product's own Batch (consumers/at_once.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from app.domain import Channel
from app.store.notifications import Claim
from app.store.routing import Added, EventRow, EventVerdict, Routing
from app.streams import Entry
from consumers.at_once import AtOnce, Batch
from tests.model.consumer import Settle
from tests.model.fake_redis import Away
from tests.model.handlers import publish, send
from tests.model.process import Open, Process, Steps
from tests.model.rules import ANSWER_S, CHANNELS, SETTINGS
from tests.model.store_rest import Made

BEGAN = datetime.fromtimestamp(0, UTC)
FIRST_ATTEMPT = 1


@dataclass
class Begin:
    """The part of Deliver: starts the calls. `opens` by row: what this batch claimed, whether it was answered or not."""

    process: Process
    opens: dict[int, Open] = field(default_factory=dict)

    def begin(self, entry: Entry, claim: Claim, claimed_s: float, settle: Settle) -> None:
        attempt = self.opens.pop(claim.id)
        self.process.spawn(send(self.process, entry, claim, claimed_s, attempt, settle))


def commit_and_publish(p: Process, entry: Entry, row_id: int) -> Steps[None]:
    """One event that may be sent."""
    begin, event, rules = Begin(p), event_row(row_id), p.world.rules
    channels: Any = {c: (p.consumers[c.lower()], begin) for c in CHANNELS}
    first_time = {row_id} if entry.deliveries == 1 else set[int]()
    with AtOnce(p.me, channels).batch() as batch:
        (routing,) = batch.reserve([Routing(event, {}, CHANNELS)], first_time)
        made, asked = yield from commit(p, routing, begin)
        yield 0.0
        claimed = sorted((m for m in made if m.claimed), key=lambda m: m.stream)
        if not claimed:
            yield from publish(p, made, asked[-1] + SETTINGS.publish_within_s)
        else:
            expect(p, batch, claimed, row_id)
            rows = [*claimed, *(m for m in made if not m.claimed)]
            entry_ids = yield from publish_claimed(p, rows, asked[-1] + SETTINGS.publish_within_s)
            if entry_ids is not None:
                batch.begin(entry_ids, {row_id: event}, asked[0])
            elif "give_back" in rules:
                yield from give_back(p, claimed, begin)
                batch.forget()
                yield from publish(p, claimed, asked[0] + SETTINGS.publish_within_s)
    for lost in begin.opens.values():  # claimed, and never learned of: the lease was over when it was looked for
        p.world.silent[lost.row_id] += "refind" in rules and "give_back" in rules
        p.closed(lost)


def event_row(row_id: int) -> EventRow:
    return EventRow(row_id, "", "", "", None, None, EventVerdict.GO, 0.0, "", BEGAN)


def commit(p: Process, routing: Routing, begin: Begin) -> Steps[tuple[list[Made], list[float]]]:
    """What is to be published, and when it was asked for. Where an answer was lost, what it claimed is found again."""
    w, row_id, asked = p.world, routing.event.id, list[float]()

    def route() -> list[Made]:
        asked.append(w.t)
        made = w.rest.route(row_id, False, False, routing.channels, routing.at_once, p.me)
        for m in made:
            if m.claimed:
                begin.opens[m.row_id] = p.opened(m.row_id)
                begin.opens[m.row_id].attempt = FIRST_ATTEMPT
        return made

    made = yield from p.patiently(route)
    if len(asked) > 1 and routing.at_once and "refind" in w.rules:
        claimed = yield from p.patiently(lambda: w.rest.claimed_as_routed(row_id, p.me))
        made = [*claimed, *(m for m in made if not m.claimed)]
    return made, asked


def expect(p: Process, batch: Batch, claimed: Sequence[Made], row_id: int) -> None:
    times = [datetime.fromtimestamp(m.published_at, UTC) for m in claimed]
    added = [Added(m.row_id, row_id, Channel(m.stream.upper()), at, True) for m, at in zip(claimed, times, strict=True)]
    batch.expect(added)
    if "expect" not in p.world.rules:
        for a in added:
            p.consumers[a.channel.lower()].in_hand.rows.discard(a.id)


def publish_claimed(p: Process, rows: Sequence[Made], until: float) -> Steps[list[bytes] | None]:
    """The ids of the entries of what is claimed; None: too late, or nobody knows what was published."""
    yield 0.0
    if "late_add" in p.world.rules and p.world.t > until:
        return None
    try:
        entry_ids = p.world.publish(rows, p.me)
    except Away:
        return None
    yield p.world.rng.choice(ANSWER_S)
    return entry_ids


def give_back(p: Process, claimed: Sequence[Made], begin: Begin) -> Steps[None]:
    """Nothing was sent. Who finds no row to give back has a successor."""
    for m in claimed:
        parked = yield from p.patiently(lambda: p.world.deliveries.release(m.row_id, FIRST_ATTEMPT))  # noqa: B023
        p.world.silent[m.row_id] += parked is None
        p.closed(begin.opens.pop(m.row_id))
