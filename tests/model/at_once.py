"""What consumers/route_plain.py does with one event that was looked at and charged: where there is room for all of it, it is
claimed as a whole and its calls begin; otherwise it is routed, and goes over the streams.

The slots, and what becomes of what was begun in them, are the product's own (consumers/at_once.py).
"""

from typing import Any

from app.store.hot_route import Case, Plain
from app.store.hot_send import Claimed
from app.streams import Entry
from consumers.at_once import AtOnce
from consumers.sending import Underway
from consumers.settle import Acknowledge
from tests.model.consumer import Settle
from tests.model.fake_redis import Away
from tests.model.handlers import publish, row_of
from tests.model.process import Process, Steps
from tests.model.rules import CHANNELS, SETTINGS
from tests.model.sending import Sending
from tests.model.store_rest import Made


def route_plain(p: Process, entry: Entry, settle: Settle) -> Steps[bool]:
    """False: by now it wants a closer look."""
    sending: Any = Sending(p, entry, settle)
    channels: Any = {c: (p.consumers[c.lower()], sending) for c in CHANNELS}
    with AtOnce(sending, channels).batch([Plain(row_of(entry), "", Case(0, CHANNELS, "", ""))]) as batch:
        if batch.events:
            ids, claimed_s = yield from claim(p, sending)
            yield 0.0
            if ids and "mine" not in p.world.rules:
                for channel in CHANNELS:
                    p.consumers[channel.lower()].in_hand.rows.clear()
            batch.begin([underway(sending, ids[0])] if ids else [], claimed_s)
            sending.forget_others()
            return bool(ids)
    return (yield from over_the_streams(p, entry, settle))


def claim(p: Process, sending: Sending) -> Steps[tuple[list[int], float]]:
    """The ids of the notifications, and when they were asked for. Where an answer was lost, its claim is found again."""
    w, event, asked = p.world, row_of(sending.entry), list[float]()

    def ask() -> list[int]:
        asked.append(w.t)
        ids = w.routes.claim(event, p.me, again=len(asked) > 1)
        sending.may_have(ids, w.tables.events[event].expires_at)
        return ids

    try:
        ids = yield from p.patiently(ask)
    except Away:
        sending.forget_others()
        raise
    return ids, asked[-1]


def underway(sending: Sending, first_id: int) -> Underway:
    event = Claimed(row_of(sending.entry), "", "", "", CHANNELS, first_id, "{}", 0.0)
    settle: Any = sending.settle
    return Underway(event, sending.entry, settle)


def over_the_streams(p: Process, entry: Entry, settle: Settle) -> Steps[bool]:
    w, asked = p.world, list[float]()

    def route() -> list[Made]:
        asked.append(w.t)
        return w.routes.route_plain(row_of(entry))

    made = yield from p.patiently(route)
    yield 0.0
    yield from publish(p, made, asked[-1] + SETTINGS.publish_within_s)
    if made:
        settle(entry, Acknowledge())
    return bool(made)
