"""The default provider: waits about as long as a real one, and fails as often as it is told to. Sends nothing."""

import asyncio
import hashlib
from dataclasses import dataclass

from consumers.providers import Message, Receipt, Unavailable


@dataclass(frozen=True, slots=True)
class Simulated:
    """Latency varies by a quarter around `latency_ms`; 0 is instant. The same seed, message and attempt give the same result."""

    latency_ms: float
    failure_rate: float
    seed: int
    name: str = "simulated"

    async def send(self, message: Message) -> Receipt:
        latency, failure = chances(self.seed, message.idempotency_key, message.attempt)
        if self.latency_ms:
            await asyncio.sleep(self.latency_ms / 1000 * (0.75 + latency / 2))
        if failure < self.failure_rate:
            raise Unavailable("simulated failure: the provider is busy")
        return Receipt(f"simulated-{message.idempotency_key}")


def chances(seed: int, key: str, attempt: int) -> tuple[float, float]:
    """Two numbers in [0, 1) that depend on the arguments alone, not on the order of calls."""
    digest = hashlib.blake2b(f"{seed}:{key}:{attempt}".encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8]) / 2**64, int.from_bytes(digest[8:]) / 2**64
