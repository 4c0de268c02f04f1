"""Reads once a second which channels an operator has paused, and tells their circuits. Where it cannot, all stays as it was."""

import asyncio
from collections.abc import Mapping

import asyncpg
import structlog

from app.cancelled import unless_cancelled
from app.domain import Channel
from app.resources import Resources
from app.store.batch import FAULTY
from app.store.hold import Hold, read_holds
from app.trouble import Trouble
from consumers.circuit import Circuit

log = structlog.get_logger()

READ_EVERY_S = 1.0


class Held:
    """One duty per process. Until `read` has succeeded once, every channel counts as paused."""

    def __init__(self, resources: Resources, circuits: Mapping[Channel, Circuit]) -> None:
        self._pool, self._circuits = resources.pool, circuits
        self._trouble = Trouble(log, "which channels are paused can be read again")
        self._reads, self._known = 0, False
        for circuit in circuits.values():
            circuit.held = True

    async def run(self) -> None:
        """For ever; cancel it to end it."""
        while True:
            await asyncio.sleep(READ_EVERY_S)
            await self.read()

    async def read(self) -> None:
        """Asks once."""
        try:
            holds = await read_holds(self._pool)
        except FAULTY as error:
            unless_cancelled(error)
            mend = {"mend": "tidings schema apply"} if isinstance(error, asyncpg.UndefinedTableError) else {}
            self._trouble.say("which channels are paused cannot be read: it stays as it was", error, **mend)
        else:
            self._trouble.over()
            for channel, circuit in self._circuits.items():
                self._tell(channel, circuit, holds.get(channel))
            self._known = True
        self._reads += 1

    def sign(self) -> int:
        """For the watch."""
        return self._reads

    def _tell(self, channel: Channel, circuit: Circuit, hold: Hold | None) -> None:
        was_held = circuit.held and self._known
        if hold is not None and not was_held:
            log.warning("channel paused by hand: nothing is taken from its stream", channel=channel.value, by=hold.words)
        if hold is None and was_held:
            log.warning("channel resumed by hand", channel=channel.value)
        circuit.held = hold is not None
