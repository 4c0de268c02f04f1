"""Lua scripts, one file each; the header of each file gives KEYS, ARGV and the answer."""

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError


class Script:
    """One script, called by its hash; where the server does not know it (restart, failover), by its text."""

    def __init__(self, name: str) -> None:
        self.text = (files(__package__) / f"{name}.lua").read_text()
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: Redis, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """The script's answer. Raises redis.RedisError; after a lost answer the script may have run."""
        try:
            return await redis.execute_command(b"EVALSHA", self.sha, len(keys), *keys, *args)  # type: ignore[no-untyped-call]
        except NoScriptError:
            return await redis.execute_command(b"EVAL", self.text, len(keys), *keys, *args)  # type: ignore[no-untyped-call]


PUBLISH = Script("publish")
RECLAIM = Script("reclaim")
SET_IDLE = Script("set_idle")
WATERMARK = Script("watermark")
TOKEN_BUCKET = Script("token_bucket")
CHANNEL_TOKENS = Script("channel_tokens")
ACKNOWLEDGE = Script("acknowledge")
FORGET_CONSUMERS = Script("forget_consumers")
