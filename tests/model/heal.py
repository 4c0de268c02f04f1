"""Once nothing goes wrong any more: everything becomes final and leaves the streams, and then the promise is looked at."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from app import streams
from app.domain import Channel, CrashPolicy, Outcome, Status
from app.resources import Resources
from tests.model import shifted
from tests.model.hands import CHANNELS, Hands
from tests.model.recording_hands import call, finish, write


async def heal(hands: Hands, rounds: int = 40) -> bool:
    """Nothing fails any more: is everything final, off the streams, and in nobody's hand after so many windows?

    Of several entries of one row `take` hands over one a window.
    """
    await _empty_hands(hands)
    for _ in range(rounds):
        await hands.pass_time(hands.resources.settings.reclaim_after_s + 1)
        await hands.sweep()
        while await _work(hands):
            pass
        if await _all_final(hands.resources) and not await _carried(hands.resources) and hands.empty():
            return True
    return False


async def _work(hands: Hands) -> int:
    before = await _carried(hands.resources)
    await hands.route("a", 100, dies=False)
    for channel in CHANNELS:
        await hands.claim("a", channel, 100, answer_lost=False)
    await _empty_hands(hands)
    return before - await _carried(hands.resources)


async def _empty_hands(hands: Hands) -> None:
    """Everything in hand is sent, or given back, and written or recorded."""
    for held in hands.uncalled():
        await call(hands, held, Outcome.SENT)
    for held in hands.unended():
        await finish(hands, held)
    for who in ("a", "b"):
        await write(hands, who, len(hands.unwritten))


async def _all_final(resources: Resources) -> bool:
    open_rows = "select (select count(*) from event where not done) + (select count(*) from notification where not done)"
    return not await resources.pool.fetchval(open_rows)


async def _carried(resources: Resources) -> int:
    return sum([await resources.redis.xlen(stream) for stream in streams.WORK_STREAMS])


async def unaccounted(resources: Resources) -> dict[str, tuple[int, int]]:
    """Streams whose length is not what is unread and what is pending: (length, unread and pending)."""
    wrong = {}
    for stream in streams.WORK_STREAMS:
        if await shifted.has_group(resources, stream):
            (group,) = await resources.redis.xinfo_groups(stream)
            length = await resources.redis.xlen(stream)
            unread: Any = await resources.redis.xrange(stream, b"(" + group["last-delivered-id"])
            if length != len(unread) + group["pending"]:
                wrong[stream] = (length, len(unread) + group["pending"])
    return wrong


def judge(hands: Hands, rows: Sequence[Mapping[str, Any]], attempts: Mapping[tuple[int, int], str]) -> list[str]:
    """What is wrong with the notifications at the end; `attempts`: the outcome by notification and number."""
    wrong: list[str] = []
    for n in rows:
        policy = hands.resources.settings.channel_policy(Channel(n["channel"]))
        sends, calls, rounds = hands.sends[n["id"]], hands.calls[n["id"]], 1 + n["replays"]
        told = partial("notification {}: {}".format, n["id"])
        if sends > rounds + hands.excuses[n["id"]]:
            wrong.append(told(f"{sends} sends, {n['replays']} replays, {hands.excuses[n['id']]} excuses"))
        if policy.crash_policy is CrashPolicy.AT_MOST_ONCE and sends > rounds:
            wrong.append(told(f"{sends} sends where one is allowed, {n['replays']} replays"))
        if calls > policy.max_tries * rounds or n["tries"] > policy.max_tries or n["tries"] < 0:
            wrong.append(told(f"{calls} calls, {n['tries']} tries"))
        if n["status"] == Status.SENT and not sends:
            wrong.append(told("SENT, and nothing was sent"))
        if n["expires_at"] is not None and n["created_at"] >= n["expires_at"]:
            wrong.append(told("routed after it had expired"))
        missing = {(n["id"], k + 1) for k in range(n["attempt"])} - attempts.keys() - hands.released
        if missing:
            wrong.append(told(f"attempts without a row: {sorted(missing)}"))
    for attempt, known in hands.truths.items():
        if known is not Outcome.UNKNOWN and attempts.get(attempt) != known:
            wrong.append(f"notification and attempt {attempt}: {known}, recorded {attempts.get(attempt)}")
    return wrong
