"""What consumers/route_plain.py does with one event that was looked at and charged: commit, begin the calls, publish the rest.

The slots, and what becomes of what was begun in them, are the product's own (consumers/at_once.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from app.domain import Channel
from app.store.hot_route import Routed
from app.store.notifications import Claim
from app.streams import Entry
from consumers.at_once import AtOnce, Claimed
from tests.model.consumer import Settle
from tests.model.handlers import give_back, publish, send
from tests.model.process import Open, Process, Steps
from tests.model.rules import CHANNELS, SETTINGS
from tests.model.store_rest import Made

FIRST_ATTEMPT = 1
PAUSED = 0.05  # of what is begun: its channel was paused meanwhile


@dataclass
class Begin:
    """The part of Deliver: starts the calls. `opens` by row: what this batch claimed, whether it was answered or not."""

    process: Process
    opens: dict[int, Open] = field(default_factory=dict)

    def begin(self, entry: Entry, claim: Claim, claimed_s: float, settle: Settle) -> None:
        p, attempt = self.process, self.opens.pop(claim.id)
        paused = p.world.rng.random() < PAUSED
        p.spawn(give_back(p, entry, claim, attempt, settle) if paused else send(p, entry, claim, claimed_s, attempt, settle))


def route_plain(p: Process, row_id: int) -> Steps[bool]:
    """False: by now it wants a closer look."""
    opens = dict[int, Open]()
    channels: Any = {c: (p.consumers[c.lower()], Begin(p, opens)) for c in CHANNELS}
    with AtOnce(p.me, channels).batch(dict.fromkeys(CHANNELS, 1)) as batch:
        made, asked = yield from commit(p, row_id, batch.channels(), opens)
        yield 0.0
        claimed = [m for m in made if m.claimed]
        for m in claimed if "mine" not in p.world.rules else ():
            p.consumers[m.stream].in_hand.rows.discard(m.row_id)
        batch.begin([claimed_of(m, row_id) for m in claimed], asked[0])
    for lost in opens.values():  # claimed, and never learned of: the lease was over when it was looked for
        p.world.silent[lost.row_id] += "refind" in p.world.rules
        p.closed(lost)
    yield from publish(p, [m for m in made if not m.claimed], asked[-1] + SETTINGS.publish_within_s)
    return bool(made)


def commit(p: Process, row_id: int, at_once: Sequence[Channel], opens: dict[int, Open]) -> Steps[tuple[list[Made], list[float]]]:
    """What was made, and when it was asked for. Where an answer was lost, what it claimed is found again."""
    w, asked = p.world, list[float]()

    def route() -> list[Made]:
        asked.append(w.t)
        made = w.rest.route_plain(row_id, at_once, p.me)
        for m in made:
            if m.claimed:
                opens[m.row_id] = p.opened(m.row_id)
                opens[m.row_id].attempt = FIRST_ATTEMPT
        return made

    made = yield from p.patiently(route)
    if len(asked) > 1 and at_once and not made and "refind" in w.rules:
        made = yield from p.patiently(lambda: w.rest.claimed_as_routed(row_id, p.me))
    return made, asked


def claimed_of(m: Made, row_id: int) -> Claimed:
    at, channel = datetime.fromtimestamp(m.published_at, UTC), Channel(m.stream.upper())
    return Claimed(m.row_id, channel, Routed(row_id, "", "", "", (channel,), m.row_id, at, "{}", 0.0))
