"""How the dashboard says that a server did not answer."""

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from web.away import how_it_failed


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "did not answer within 3 s"),
        (RedisTimeoutError("Timeout reading"), "did not answer in time"),
        (RedisConnectionError("refused"), "cannot be reached"),
    ],
)
def test_only_the_pages_own_limit_is_named(error: Exception, words: str) -> None:
    assert how_it_failed(error) == words
