"""The default provider: waits about as long as a real one, and fails as often as it is told to. Sends nothing."""

import asyncio
import hashlib
import time
from dataclasses import dataclass, field

from app.faults import Fault, Kind
from consumers.providers import Message, Receipt, Rejected, Unavailable


@dataclass(slots=True)
class Current:
    """The fault last heard of. It ends in time, whether or not anybody can be asked for a newer one."""

    fault: Fault | None = None
    until_s: float = 0.0  # by time.monotonic()

    def hear(self, fault: Fault | None) -> None:
        self.fault = fault
        self.until_s = 0.0 if fault is None else time.monotonic() + fault.left_s

    def now(self) -> Fault | None:
        if self.fault is not None and time.monotonic() >= self.until_s:
            self.fault = None
        return self.fault


@dataclass(frozen=True, slots=True)
class Simulated:
    """Latency varies by a quarter around `latency_ms`; 0 is instant. The same seed, message and attempt give the same result.

    `current`: the fault it is made to have, kept up to date by consumers/faults.py.
    """

    latency_ms: float
    failure_rate: float
    seed: int
    name: str = "simulated"
    current: Current = field(default_factory=Current)

    async def send(self, message: Message) -> Receipt:
        latency_ms, failure_rate = self.latency_ms, self.failure_rate
        if (fault := self.current.now()) is not None:
            latency_ms, failure_rate = await _suffer(fault, latency_ms, failure_rate)
        if latency_ms or failure_rate:
            latency, failure = chances(self.seed, message.idempotency_key, message.attempt)
            await asyncio.sleep(latency_ms / 1000 * (0.75 + latency / 2))
            if failure < failure_rate:
                raise Unavailable("simulated failure: the provider is busy")
        return Receipt(f"simulated-{message.idempotency_key}")


async def _suffer(fault: Fault, latency_ms: float, failure_rate: float) -> tuple[float, float]:
    """What the fault makes of both numbers; raises, or never returns, where no message is taken."""
    match fault.kind:
        case Kind.SLOW:
            return fault.amount * 1000, failure_rate
        case Kind.FLAKY:
            return latency_ms, fault.amount / 100
        case Kind.BUSY:
            raise Unavailable(f"fault panel: answered 429, Retry-After: {fault.amount:g}", retry_after_s=fault.amount)
        case Kind.REJECTING:
            raise Rejected("fault panel: answered 400: this message is refused for good")
        case Kind.DOWN:
            raise Unavailable("fault panel: cannot be reached: Connection refused")
        case Kind.HANGING:
            await asyncio.Event().wait()  # until the caller's time limit
            raise AssertionError


def chances(seed: int, key: str, attempt: int) -> tuple[float, float]:
    """Two numbers in [0, 1) that depend on the arguments alone, not on the order of calls."""
    digest = hashlib.blake2b(f"{seed}:{key}:{attempt}".encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8]) / 2**64, int.from_bytes(digest[8:]) / 2**64
