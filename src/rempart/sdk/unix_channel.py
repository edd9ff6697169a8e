"""A gRPC channel over a unix socket that waits for its turn when the server's backlog is full.

connect(2) of a unix socket that doesn't block says EAGAIN then and begins nothing; asyncio takes that for EINPROGRESS,
so the connection looks made, and the first word on it fails with ENOTCONN. Here it is tried again until it is made.
"""

from __future__ import annotations

import asyncio
import socket

from grpclib.client import Channel
from grpclib.protocol import H2Protocol

_AGAIN_S = 0.002


async def connected(path: str) -> socket.socket:
    """As long as the caller waits for it; raises OSError where nobody listens."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        while True:
            try:
                connection.connect(path)
            except BlockingIOError:
                await asyncio.sleep(_AGAIN_S)
            else:
                return connection
    except BaseException:
        connection.close()
        raise


class UnixChannel(Channel):
    """As grpclib's, to the socket at `path`."""

    async def _create_connection(self) -> H2Protocol:
        connection = await connected(self._path or "")
        _, protocol = await self._loop.create_unix_connection(self._protocol_factory, sock=connection)
        return protocol
