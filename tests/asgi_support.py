"""An ASGI application on a unix socket, served as our processes serve theirs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support import short_directory

from rempart.protocols.asgi_exchange import App
from rempart.protocols.asgi_server import AsgiServer


@asynccontextmanager
async def running(app: App, *, grace: float = 1.0, **how: Any) -> AsyncIterator[tuple[AsgiServer, Path]]:
    """The server and the path of its socket; `how` as `AsgiServer` takes it, `grace` for its end."""
    with short_directory() as directory, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "s"))
        listening.listen()
        server = AsgiServer(app, **how)
        await server.listen(listening)
        try:
            yield server, directory / "s"
        finally:
            await server.stop(grace)


@asynccontextmanager
async def line(app: App, **how: Any) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """One connection to it."""
    async with running(app, **how) as (_, path):
        reader, writer = await asyncio.open_unix_connection(str(path))
        try:
            yield reader, writer
        finally:
            writer.close()
