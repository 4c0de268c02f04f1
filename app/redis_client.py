"""redis-py's client, with a short way for the commands of the hot path: those whose name is given as bytes.

Such a command is written at once, and its answer is the next one due on that connection: a quarter of redis-py's CPU.
redis-py still connects and signs in (TLS, password, database), and sends all other commands.
"""

import asyncio
from collections import deque
from typing import Any

import hiredis
from redis._parsers.base import BaseParser
from redis.asyncio import Connection, Redis
from redis.exceptions import ConnectionError, ReadOnlyError, TimeoutError


class Line(asyncio.Protocol):
    """One connection on which commands do not wait for each other's answers, which come in their order.

    One answer that is not there after `within_s` ends it, and all that wait on it: it may be half open.
    """

    def __init__(self, connection: Connection, within_s: float) -> None:
        self._connection, self._within_s = connection, within_s  # kept: it would close what it opened
        self._loop = asyncio.get_running_loop()
        self._answers = hiredis.Reader(replyError=BaseParser.parse_error)
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._looking: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport = connection._writer.transport  # type: ignore[union-attr,assignment]
        self._transport.set_protocol(self)
        self.closed = False
        if self._transport.is_closing():  # as it was opened: this protocol will not be told
            self.end(ConnectionError("the connection was closed by the server"))

    def call(self, command: tuple[Any, ...]) -> "asyncio.Future[Any]":
        """The answer as the server gives it. Raises redis.RedisError; after a lost answer the command may have been done."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self.closed:
            answer.set_exception(ConnectionError("the connection was closed"))
            return answer
        self._transport.write(hiredis.pack_command(command))
        self._waiting.append((answer, self._loop.time() + self._within_s))
        if self._looking is None:
            self._looking = self._loop.call_later(self._within_s, self._look)
        return answer

    def busy(self) -> bool:
        """Is an answer due?"""
        return bool(self._waiting)

    def data_received(self, data: bytes) -> None:
        try:
            self._answers.feed(data)
            while not self.closed and (answer := self._answers.gets()) is not False:
                if not isinstance(answer, hiredis.PushNotification):
                    self._answer(answer)
        except hiredis.ProtocolError as error:
            self.end(ConnectionError(f"this is no Redis: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(ConnectionError("the connection was closed by the server"))

    def end(self, error: Exception) -> None:
        """Closes it; who waits gets `error`."""
        self.closed = True
        self._transport.abort()
        self._connection._reader = self._connection._writer = None
        while self._waiting:
            answer, _ = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(error)

    def _answer(self, value: Any) -> None:
        if not self._waiting:
            self.end(ConnectionError("an answer came that nobody had asked for"))
            return
        answer, _ = self._waiting.popleft()
        if answer.done():
            return  # nobody waits any more
        if isinstance(value, Exception):
            answer.set_exception(value)
            if isinstance(value, ReadOnlyError):  # the name of the server may lead to another one now
                self.end(value)
        else:
            answer.set_result(value)

    def _look(self) -> None:
        """Is the oldest answer too late?"""
        self._looking = None
        if not self._waiting:
            return
        left_s = self._waiting[0][1] - self._loop.time()
        if left_s > 0:
            self._looking = self._loop.call_later(left_s, self._look)
        else:
            self.end(TimeoutError(f"no answer within {self._within_s:g} s"))


class HotRedis(Redis):
    """A hot command takes a line, and is tried once: a repeated XADD is two entries.

    All share one line, unless `blocks`: who waits for an entry would hold up those behind it, so each has one to itself.
    """

    blocks = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lines: list[Line] = []
        self._connecting = asyncio.Lock()
        self._failure: Exception | None = None  # of the last attempt to connect that failed

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if isinstance(args[0], bytes):
            return await self._call(args)
        return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def hang_up(self) -> None:
        """Closes all lines; the next command opens another."""
        for line in self._lines:
            line.end(ConnectionError("the connection was given up"))
        self._lines.clear()

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        self.hang_up()
        await super().aclose(close_connection_pool)

    async def _call(self, command: tuple[Any, ...]) -> Any:
        line = self._free() or await self._connected()
        return await line.call(command)

    async def _connected(self) -> Line:
        """One connects at a time; if it fails, so it does for all who waited. Trying one by one, the last would wait for all."""
        before = self._failure
        async with self._connecting:
            if (line := self._free()) is not None:
                return line
            if self._failure is not None and self._failure is not before:
                raise self._failure
            try:
                return await self._open()
            except Exception as error:
                self._failure = error
                raise

    def _free(self) -> Line | None:
        for line in self._lines:
            if not (line.closed or (self.blocks and line.busy())):
                return line
        return None

    async def _open(self) -> Line:
        connection = self.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        line = Line(connection, self.connection_pool.connection_kwargs["socket_timeout"])
        self._lines = [*(known for known in self._lines if not known.closed), line]
        return line
