"""Faults on real processes and servers: a steady load, one fault, and then the invariants of the promise (`make faults`)."""
