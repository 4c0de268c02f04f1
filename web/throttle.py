"""How often a password may be tried: a few wrong ones per address, then a wait. Pure, but for what it remembers.

An IPv6 address counts by its /64, which one person may have.
"""

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

WRONG_MAX = 10  # within FORGOTTEN_AFTER_S
FORGOTTEN_AFTER_S = 600.0
ADDRESSES_MAX = 10_000  # remembered; the one not seen for longest goes first


class Throttle:
    def __init__(self, wrong_max: int = WRONG_MAX, addresses_max: int = ADDRESSES_MAX) -> None:
        self._wrong_max, self._addresses_max = wrong_max, addresses_max
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()

    def wait_s(self, address: str, now_s: float) -> float:
        """Seconds until this address may try again; 0: at once."""
        recent = self._recent(address, now_s)
        return recent[0] + FORGOTTEN_AFTER_S - now_s if len(recent) >= self._wrong_max else 0.0

    def wrong(self, address: str, now_s: float) -> None:
        """A wrong password came from there."""
        key = _key(address)
        self._wrong[key] = [*self._recent(address, now_s), now_s][-self._wrong_max :]
        self._wrong.move_to_end(key)
        if len(self._wrong) > self._addresses_max:
            self._wrong.popitem(last=False)

    def right(self, address: str) -> None:
        """The right one did: what was wrong before is forgotten."""
        self._wrong.pop(_key(address), None)

    def _recent(self, address: str, now_s: float) -> list[float]:
        return [at_s for at_s in self._wrong.get(_key(address), []) if now_s - at_s < FORGOTTEN_AFTER_S]


def _key(address: str) -> str:
    try:
        ip = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is None:
        return str(IPv6Address(int(ip) >> 64 << 64))
    return str(getattr(ip, "ipv4_mapped", None) or ip)
