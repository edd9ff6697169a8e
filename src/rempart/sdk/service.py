"""Run an ASGI application where its sidecar expects it, and stop it gracefully."""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from rempart.kernel.clock import rfc3339
from rempart.kernel.errors import BadInput, RempartError

from .workload import Address, Workload

App = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]


def serve(app: App, address: Address | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight (3 s at most) and return.

    `address` defaults to `REMPART_LISTEN`. A unix socket gets mode 0660 (its group is the sidecar's); a stale one is
    replaced. Ends the process with exit code 2 and a message when the address can't be used.
    """
    import uvicorn

    log_as_json()
    try:
        listening = listen(address or _given())
    except RempartError as error:
        print(f"{error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    uvicorn.Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="auto",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=3,
        )
    ).run(sockets=[listening])


def _given() -> Address:
    address = Workload.from_environment().listen
    if address is None:
        raise BadInput("not_protected", "REMPART_LISTEN is not set", "start the service with `rempart up`")
    return address


def listen(address: Address) -> socket.socket:
    """A listening socket; raises BadInput `bad_address` when the address can't be bound."""
    try:
        if not address.path:
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            return socket.create_server((address.host, address.port), family=family, backlog=1024)
        return _listen_unix(Path(address.path))
    except OSError as error:
        where = address.path or f"{address.host}:{address.port}"
        raise BadInput(
            "bad_address",
            f"can't listen on {where}: {error.strerror}",
            "stop what listens there, or name another place",
        ) from None


def _listen_unix(path: Path) -> socket.socket:
    if path.exists() and stat.S_ISSOCK(path.lstat().st_mode):
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)  # set before binding: a chmod afterwards would leave a moment for others
    try:
        sock.bind(str(path))
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    sock.listen(1024)
    return sock


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"at": rfc3339(record.created), "level": record.levelname.lower(), "from": record.name}
        line["message"] = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_as_json(level: int = logging.INFO) -> None:
    """Everything that is logged goes to stderr, one JSON object a line; the supervisor keeps it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
