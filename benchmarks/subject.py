"""What is measured: whatever takes events by POST and ends with three rows SENT for each; Tidings, its ceiling, its peers."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from benchmarks.servers import Place

WITHIN_S = 120  # for a measurement to end; then something is wrong, and it says so


class BenchmarkError(Exception):
    """A measurement went wrong. The message is one line."""


@dataclass(frozen=True, slots=True)
class Process:
    """One that runs. `address` is that of an API."""

    pid: int
    address: str = ""


class Subject(Protocol):
    """`template` names the database that has its tables.

    `sent` is SQL: how many rows are SENT, and when (Unix time) the last of them was committed; `latencies`: each event's id, when
    a provider was called for the last of its rows at the latest, and when that row was committed as SENT.
    """

    @property
    def name(self) -> str: ...
    @property
    def template(self) -> str: ...
    @property
    def sent(self) -> str: ...
    @property
    def latencies(self) -> str: ...

    async def create_tables(self, database_url: str) -> None: ...

    def api(self, place: Place) -> AbstractContextManager[Process]: ...

    def workers(self, place: Place, number: int) -> AbstractContextManager[Sequence[Process]]: ...

    async def ready(self, place: Place, number: int) -> bool:
        """Do so many workers wait for work?"""
        ...

    async def store(self, place: Place, events: int) -> None:
        """Make so many events that wait, held back from the workers."""
        ...

    async def release(self, place: Place, events: range) -> float:
        """Let the workers have these, by number from 1 on, in turn; since when (Unix time) they do."""
        ...

    async def idle(self, place: Place) -> bool:
        """Is nothing waiting or under way? Cheap: it is asked while the workers work."""
        ...
