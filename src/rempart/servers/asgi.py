"""Serve an ASGI application on a socket that is already listening."""

from __future__ import annotations

import socket

import uvicorn
from starlette.types import ASGIApp


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process that hosts several servers owns the signals."""

    def capture_signals(self):  # type: ignore[no-untyped-def]  # the base class's own signature is a context manager
        from contextlib import nullcontext

        return nullcontext()


def asgi_server(app: ASGIApp, *, timeout_keep_alive: int = 75) -> uvicorn.Server:
    """Run it with `await server.serve(sockets=[listening])`; stop it by `server.should_exit = True`."""
    return _Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
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


async def serve(app: ASGIApp, listening: socket.socket) -> None:
    await asgi_server(app).serve(sockets=[listening])
