"""What routing inserted is put on the channels' streams; what Redis did not take, or would come late, is left to the relay."""

import time
from collections.abc import Mapping, Sequence

import structlog
from redis.exceptions import RedisError

from app import streams
from app.domain import Outgoing
from app.resources import Resources
from app.trouble import Trouble
from consumers.record import CLOCK

log = structlog.get_logger()


class Publisher:
    """Publishes for one process; `me` is its consumer."""

    def __init__(self, resources: Resources, me: str) -> None:
        self._resources, self._me = resources, me
        self._fails = Trouble(log, "notifications are published again")

    async def __call__(
        self, asked_s: float, rows: Mapping[str, Sequence[Outgoing]], claimed: Mapping[str, int] = streams.NONE
    ) -> list[bytes] | None:
        """The ids of the entries of what is claimed: of each stream the first so many. None: it is not known what was published.

        `asked_s`: the own clock before the last transaction of `rows` was sent.
        """
        if not rows or time.clock_gettime(CLOCK) - asked_s > self._resources.settings.publish_within_s:
            return None
        try:
            entry_ids = await streams.publish_all(self._resources.redis, rows, claimed, self._me)
            self._fails.over()
            return entry_ids
        except (RedisError, OSError, TimeoutError) as error:
            self._fails.say("notifications left to the relay", error, rows=sum(map(len, rows.values())))
            return None
