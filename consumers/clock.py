"""The own clock of a process, for what holds by PostgreSQL's meanwhile: leases, and how late an entry may be added."""

import time

# Goes on while the machine is suspended, as a lease in PostgreSQL does.
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock_s() -> float:
    """Seconds; the beginning means nothing."""
    return time.clock_gettime(CLOCK)
