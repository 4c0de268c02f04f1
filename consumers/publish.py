"""What routing inserted is put on the channels' streams; what Redis did not take, or would come late, is left to the relay."""

from collections.abc import Mapping, Sequence

import structlog
from redis.exceptions import RedisError

from app import streams
from app.domain import Outgoing
from app.resources import Resources
from app.trouble import Trouble
from consumers.clock import clock_s

log = structlog.get_logger()


class Publisher:
    """Publishes for one process."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._fails = Trouble(log, "notifications are published again")

    async def __call__(self, asked_s: float, rows: Mapping[str, Sequence[Outgoing]]) -> None:
        """`asked_s`: the own clock before the last transaction of `rows` was sent."""
        if not rows or clock_s() - asked_s > self._resources.settings.publish_within_s:
            return
        try:
            await streams.publish_all(self._resources.redis, rows)
            self._fails.over()
        except (RedisError, OSError, TimeoutError) as error:
            self._fails.say("notifications left to the relay", error, rows=sum(map(len, rows.values())))
