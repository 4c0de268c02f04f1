"""What is logged of an event that is routed."""

from functools import cache

from app.domain import Channel, Reason
from app.logs import Line


def routed_line(event_id: str, user_id: str, channels: tuple[Channel, ...], reason: Reason | None = None) -> Line:
    return "event routed", {"event_id": event_id, "user_id": user_id, "channels": _words(channels), "reason": reason}


@cache
def _words(channels: tuple[Channel, ...]) -> list[str]:
    """For logs, which do not know the enum. Not to be changed."""
    return [*map(str, channels)]
