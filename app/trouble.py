"""A fault that lasts is said once, and once more when it is over: a log that repeats itself hides what else there is."""

import time
from typing import Any

AGAIN_AFTER_S = 10.0  # a fault that comes and goes is said so often at most


class Trouble:
    """One kind of fault at one place; `over` is the sentence for its end. `log` is a structlog logger."""

    def __init__(self, log: Any, over: str) -> None:
        self._log, self._over = log, over
        self._lasts, self._said_s = False, float("-inf")

    def say(self, sentence: str, error: BaseException | None = None, **facts: object) -> None:
        """It is there. One line, unless it was said and lasts, or came back within 10 s."""
        now_s = time.monotonic()
        if self._lasts or now_s - self._said_s < AGAIN_AFTER_S:
            return
        self._lasts, self._said_s = True, now_s
        if error is not None:
            facts["error"] = str(error) or type(error).__name__
        self._log.warning(sentence, **facts)

    def over(self, **facts: object) -> None:
        """It is not there. One line where it was said."""
        if self._lasts:
            self._log.info(self._over, **facts)
        self._lasts = False
