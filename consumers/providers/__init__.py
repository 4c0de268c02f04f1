"""A provider carries one channel. One small protocol; one file per provider."""

from typing import NamedTuple, Protocol

from app.domain import Channel


class Message(NamedTuple):
    """What is to be sent. `idempotency_key` is the same for all attempts of one notification (until it is replayed).

    `payload_json` is the event's payload as JSON text; `address` None: the provider looks it up by user.
    """

    idempotency_key: str
    channel: Channel
    user_id: str
    address: str | None
    event_id: str
    event_type: str
    payload_json: str
    attempt: int


class Receipt(NamedTuple):
    """The provider took the message. `id` is its own id for it, where it gives one."""

    id: str | None = None


class Rejected(Exception):
    """The provider refused the message for good: a repeat would be refused too."""


class Unavailable(Exception):
    """The provider did not take the message, for now; or it could not be reached before the first byte left."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BadCredentials(Unavailable):
    """The provider does not let us in (401, 403): no message is at fault, and none will be taken until an operator mends it."""


class Provider(Protocol):
    """Raises Rejected or Unavailable only when the message was surely not taken; any other exception means nobody knows."""

    @property
    def name(self) -> str: ...

    async def send(self, message: Message) -> Receipt: ...
