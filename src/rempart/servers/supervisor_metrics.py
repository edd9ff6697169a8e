"""`GET /metrics` of the supervisor: which processes are up, and how often each was restarted."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from typing import Protocol

from rempart.telemetry.exposition import Exposition


class Supervised(Protocol):
    @property
    def ready(self) -> bool: ...
    @property
    def restarts(self) -> int: ...


class Supervising(Protocol):
    @property
    def managed(self) -> Mapping[str, Supervised]: ...


def exposition(managed: Mapping[str, Supervised]) -> str:
    """The Prometheus text format."""
    to = Exposition()
    up = [({"process": name}, one.ready) for name, one in managed.items()]
    to.family("rempart_process_up", "gauge", "1 while the process is ready", up)
    restarts = [({"process": name}, one.restarts) for name, one in managed.items()]
    to.family("rempart_process_restarts_total", "counter", "Times that it was started again", restarts)
    return to.text()


async def serve_metrics(listening: socket.socket, supervisor: Supervising) -> None:
    """Answer every request with the metrics, until cancelled."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.LimitOverrunError, asyncio.IncompleteReadError):
            async with asyncio.timeout(5):
                await reader.readuntil(b"\r\n\r\n")
                body = exposition(supervisor.managed).encode()
                head = f"HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {len(body)}\r\n"
                writer.write(head.encode() + b"connection: close\r\n\r\n" + body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, sock=listening)
    async with server:
        await server.serve_forever()
