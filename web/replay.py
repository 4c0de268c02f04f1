"""The replay of one row, as a button of the dashboard asks for it."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.settings import Settings
from app.store import audit
from app.store.operate import replay_events, replay_notifications
from web.actions import Act, transaction

KINDS = ("notification", "event")


@dataclass(frozen=True, slots=True)
class Replay:
    """What was asked for: the kind of row, and its id."""

    kind: str
    row_id: int


def notice(asked: Mapping[str, str]) -> str:
    """Pure: the line that a page shows after the redirect; empty where there was none."""
    for outcome, sentence in _NOTICES.items():
        kind, _, number = asked.get(outcome, "").partition("-")
        if kind in KINDS and number.isascii() and number.isdigit() and len(number) < 20:
            return sentence.format(f"{kind} {number}")
    return ""


_NOTICES = {
    "replayed": "Replayed: {} is on its way again.",
    "not-replayed": "Nothing was replayed: {} does not wait for it any more. A second click, or somebody was faster.",
    "no-such": "Nothing was replayed: there is no {}.",
}


async def replay(settings: Settings, act: Act, wanted: Replay) -> dict[str, str]:
    """Put one row back to be done; the query that tells the next page what happened. Raises away.FAILURES.

    Guarded in the statement: of two clicks at once, one moves it, and that one is in the log of actions.
    """
    move = replay_notifications if wanted.kind == "notification" else replay_events
    name = f"{wanted.kind}-{wanted.row_id}"
    async with transaction(settings) as connection:
        answers = await move(connection, [wanted.row_id])
        if not answers:
            return {"no-such": name}
        if not answers[0].moved:
            return {"not-replayed": name}
        await audit.record(connection, act.entry("replay", f"{wanted.kind} {wanted.row_id}", count=1))
    return {"replayed": name}
