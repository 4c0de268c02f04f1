"""A TCP proxy on loopback that stands for the network: it can be cut, slow, half open, or lose one reply; and lead elsewhere."""

import asyncio
from contextlib import suppress

PIECE = 65536


class Proxy:
    """Leads to `target_port` on 127.0.0.1. Faults hold for the connections that are open and for new ones, until `heal`."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.delay_s = 0.0
        self.replies_to_lose = 0
        self._cut = self._half_open = False
        self._links: set[asyncio.Task[None]] = set()
        self._generation = 0

    async def start(self) -> "Proxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        self._server.close()
        self._drop_links()
        await asyncio.gather(*self._links, return_exceptions=True)

    def cut(self) -> None:
        """Every connection breaks, and new ones break at once."""
        self._cut = True
        self._drop_links()

    def half_open(self) -> None:
        """What is open stays open for ever, and nothing comes through any more: as when a router forgot the connection."""
        self._half_open = True
        self._generation += 1

    def lead_to(self, port: int) -> None:
        """A failover: what is open breaks, new connections reach another server."""
        self.target_port = port
        self._drop_links()

    def heal(self) -> None:
        """New connections work. Those that were half open stay dead."""
        self._cut, self._half_open, self.delay_s, self.replies_to_lose = False, False, 0.0, 0

    def _drop_links(self) -> None:
        for link in list(self._links):
            link.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        try:
            await self._link(reader, writer)
        except (OSError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            self._links.discard(link)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            return
        generation = self._generation + self._half_open  # a new one in a half open network is dead from the start
        there, back = await asyncio.open_connection("127.0.0.1", self.target_port)
        lost = asyncio.Event()
        pumps = [
            asyncio.ensure_future(self._pump(reader, back, generation, None)),
            asyncio.ensure_future(self._pump(there, writer, generation, lost)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            with suppress(Exception):
                await asyncio.gather(*pumps, return_exceptions=True)
            back.transport.abort()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, generation: int, replies: asyncio.Event | None
    ) -> None:
        """Pass on what comes, until an end closes. A reply that is to be lost ends the connection."""
        while piece := await source.read(PIECE):
            if replies is not None and self.replies_to_lose > 0:
                self.replies_to_lose -= 1
                return
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if generation != self._generation or self._half_open:
                await asyncio.Event().wait()  # dead for ever, until somebody closes
            sink.write(piece)
            await sink.drain()
