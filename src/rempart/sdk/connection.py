"""HTTP/1.1 connections to one address, kept alive and pooled. The parser is Node's, by httptools."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

import httptools

from .workload import Address

MAX_ANSWER_BYTES = 8 * 1024 * 1024
Exchange = tuple[int, dict[str, str], bytes]


class ConnectionLost(Exception):
    """`unsent`: the peer had closed before anything of the question could reach it."""

    def __init__(self, *, unsent: bool = False) -> None:
        super().__init__("connection lost")
        self.unsent = unsent


class _Connection(asyncio.Protocol):
    """One question at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.alive = False
        self._answer: asyncio.Future[Exchange] | None = None
        self._head = False
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape, not by class
        self.alive = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        self._fail()

    def eof_received(self) -> None:
        self.alive = False  # httptools knows no end by EOF; our sidecars always frame their answers

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.abort()  # nobody asked
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()
            self._fail()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._head:
            self.on_message_complete()

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > MAX_ANSWER_BYTES:
            self.abort()
            self._fail()

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # interim answers (RFC 9110 section 15.2)
            self._headers = {}
            return
        if not self._parser.should_keep_alive() or self._head:
            self.alive = False
        future, self._answer = self._answer, None
        if future is not None and not future.done():
            future.set_result((status, self._headers, bytes(self._body)))

    def _fail(self) -> None:
        future, self._answer = self._answer, None
        if future is not None and not future.done():
            future.set_exception(ConnectionLost())

    def abort(self) -> None:
        self.alive = False
        if self.transport is not None:
            self.transport.abort()

    async def exchange(self, wire: bytes, head: bool) -> Exchange:
        if not self.alive or self.transport is None:
            raise ConnectionLost(unsent=True)
        self._reset()
        self._head = head
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(wire)
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.abort()  # an answer that comes later must not be read as the next one's
            raise


class Pool:
    """At most `limit` connections; who comes later waits for one."""

    def __init__(self, address: Address, *, limit: int) -> None:
        self._address = address
        self._idle: deque[_Connection] = deque()
        self._free = asyncio.Semaphore(limit)

    async def exchange(self, wire: bytes, *, head: bool = False, fresh: bool = False) -> Exchange:
        """Status, headers and body of the answer; raises OSError or ConnectionLost."""
        async with self._free:
            connection = None if fresh else self._take()
            if connection is None:
                connection = await self._connect()
            try:
                answer = await connection.exchange(wire, head)
            except BaseException:
                connection.abort()
                raise
            if connection.alive:
                self._idle.append(connection)
            else:
                connection.abort()
            return answer

    def _take(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                return connection
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        if self._address.path:
            return (await loop.create_unix_connection(_Connection, self._address.path))[1]
        return (await loop.create_connection(_Connection, self._address.host, self._address.port))[1]

    def close(self) -> None:
        while self._idle:
            self._idle.pop().abort()
