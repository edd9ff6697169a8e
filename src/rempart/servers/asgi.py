"""Serve an ASGI application on a socket that is already listening."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rempart.kernel.errors import NotFound
from rempart.protocols.http_answers import refusal

_MOST = 64 * 1024
_SHOWN = frozenset((("GET", "/metrics"), ("GET", "/healthz")))


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process that hosts several servers owns the signals."""

    def capture_signals(self):  # type: ignore[no-untyped-def]  # the base class's own signature is a context manager
        from contextlib import nullcontext

        return nullcontext()


class _OneWrite:
    """What is written in one turn of the loop goes out in one system call: uvicorn writes a head and its body apart.

    More than `_MOST` bytes go out at once, so that the transport can tell who makes them to wait.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._loop = transport, asyncio.get_running_loop()
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)
        self._size += len(data)
        if self._size > _MOST:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        held, self._held, self._size = self._held, [], 0
        if held and not self._transport.is_closing():
            self._transport.write(b"".join(held))


class _Protocol(HttpToolsProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it, too
        super().connection_made(_OneWrite(transport))  # type: ignore[arg-type]  # all that uvicorn calls is there


class _NamesOperator(_Protocol):
    """On a unix socket, `request.client` is (`uid:N`, pid) of the process at the other end (unix(7), SO_PEERCRED)."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it, too
        super().connection_made(transport)
        peer: Any = transport.get_extra_info("socket")
        if peer is not None and peer.family == socket.AF_UNIX:
            pid, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            self.client = (f"uid:{uid}", pid)


def asgi_server(app: ASGIApp, *, timeout_keep_alive: int = 75, name_operator: bool = False) -> uvicorn.Server:
    """Run it with `await server.serve(sockets=[listening])`; stop it by `server.should_exit = True`.

    `name_operator`, for admin sockets: `request.client.host` is then `uid:N`, the operator's local user.
    """
    return _Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http=_NamesOperator if name_operator else _Protocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=timeout_keep_alive,
            timeout_graceful_shutdown=3,
        )
    )


def metrics_alone(app: ASGIApp) -> ASGIApp:
    """GET `/metrics` and `/healthz` of `app`. The observer, which strangers can reach, reads these: who takes it over
    must not find there what only the operator may do."""

    async def shown(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["method"], scope["path"]) not in _SHOWN:
            await refusal(NotFound("no_such_resource", "only GET /metrics is here"))(scope, receive, send)
        else:
            await app(scope, receive, send)

    return shown
