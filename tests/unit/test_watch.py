"""The watch outlives what it does about a hang."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

from redis.exceptions import TimeoutError as RedisTimeout

from app.settings import load_settings
from consumers.database import Database
from consumers.watch import Watch


async def test_a_connection_that_takes_long_to_close_does_not_end_the_watch() -> None:
    """A half-open one under TLS waits for the other side's goodbye; the duty's error would end all duties."""
    disconnect = AsyncMock(side_effect=RedisTimeout("Timed out closing connection after 5"))
    reader = SimpleNamespace(connection_pool=SimpleNamespace(disconnect=disconnect))
    resources: Any = SimpleNamespace(settings=load_settings(_env_file=None), reader=reader)
    hanging: Any = SimpleNamespace(reading_since_s=-1e9, stream="tidings:{0}:email")
    await Watch(resources, Database(), [hanging], {"relay": lambda: None}).look()
    assert disconnect.await_count == 1
    assert hanging.reading_since_s is None
