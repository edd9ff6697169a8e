"""Serve an ASGI application on sockets that are already listening."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from .asgi_connection import Connection, OperatorConnection
from .asgi_exchange import App, Exchange

GRACE = 3.0
_LOOK = 1.0
_BACKLOG = 1024


class AsgiServer:
    """`keep_alive`: seconds that a connection may be idle. `name_operator`, for admin sockets: `request.client.host` is
    then `uid:N`, the operator's local user. One event loop."""

    def __init__(self, app: App, *, keep_alive: float = 75.0, name_operator: bool = False) -> None:
        self.app, self.keep_alive, self.stopping = app, keep_alive, False
        self._connection = OperatorConnection if name_operator else Connection
        self.connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: list[asyncio.Server] = []
        self._look: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()

    async def listen(self, listening: socket.socket) -> None:
        """Its connections are taken from now on, until `stop`, which closes it."""
        loop = asyncio.get_running_loop()
        create = loop.create_unix_server if listening.family == socket.AF_UNIX else loop.create_server
        making: Any = create(lambda: self._connection(self), sock=listening, backlog=_BACKLOG)
        self._listening.append(await making)

    async def stop(self, grace: float = GRACE) -> None:
        """Take nobody any more; requests that are in flight have so many seconds. More than once does no harm."""
        self.stopping = True
        for server in self._listening:
            server.close()
        for connection in list(self.connections):
            connection.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while self.connections:
                    self._empty.clear()
                    await self._empty.wait()
        for task in list(self._tasks):
            task.cancel()
        for connection in list(self.connections):
            connection.abort()
        if self._look is not None:
            self._look.cancel()

    # -- for its connections ---------------------------------------------------------------------------------------

    def entered(self, connection: Connection) -> None:
        self.connections.add(connection)
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(_LOOK, self._look_for_idle)

    def left(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    def start(self, exchange: Exchange) -> None:
        task = asyncio.get_running_loop().create_task(exchange.run(self.app))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _look_for_idle(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self.connections):
            if connection.until < now:
                connection.waited()
        self._look = loop.call_later(_LOOK, self._look_for_idle) if self.connections else None
