"""Small pages on a local socket, asked seldom: of a process that serves something else, and has no use for ASGI."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httptools

from rempart.kernel.errors import BadInput, NotFound, RempartError
from rempart.kernel.problem import CONTENT_TYPE, problem

JSON = "application/json"
MAX_BODY = 32 << 20
_IDLE_SECONDS = 30.0
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to a small page. `operator` is the local user who asks, by the kernel's word."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes
    operator: str
    accept: str = ""

    def json(self) -> Any:
        """Raises BadInput `bad_json`."""
        try:
            return json.loads(self.body) if self.body else {}
        except (ValueError, RecursionError) as error:
            raise BadInput("bad_json", f"the body is not JSON: {error}"[:200], "send one JSON document") from None


Page = tuple[int, str, bytes]
"""Status, type of content, content."""
Handler = Callable[[Ask], Awaitable[Page]]
"""May raise a RempartError, which becomes a problem document (RFC 9457)."""


class PageConnection(asyncio.Protocol):
    """One request, one answer, then it closes."""

    def __init__(self, handler: Handler, tasks: set[asyncio.Task[None]]) -> None:
        self._handler = handler
        self._tasks = tasks
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._accept = ""
        self._body: list[bytes] = []
        self._size = 0
        self._done = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's transport
        self._timer = asyncio.get_running_loop().call_later(_IDLE_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._done:
            return
        self._size += len(data)
        try:
            if self._size > MAX_BODY:
                raise httptools.HttpParserError("too large")
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._done = True
            self._write(
                400, CONTENT_TYPE, json.dumps(problem(400, "bad_request", "not an acceptable request")).encode()
            )

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"accept":
            self._accept = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._done:
            return
        self._done = True
        if self._timer is not None:
            self._timer.cancel()
        task = asyncio.get_running_loop().create_task(
            self._answer(self._parser.get_method().decode("ascii", "replace"))
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, method: str) -> None:
        try:
            parts = urlsplit(self._url.decode("ascii"))
            query, body = dict(parse_qsl(parts.query)), b"".join(self._body)
            ask = Ask(method, parts.path, query, body, self._operator(), self._accept)
            status, kind, body = await self._handler(ask)
        except RempartError as error:
            document = problem(error.status, error.code, error.reason, remedy=error.remedy)
            status, kind, body = error.status, CONTENT_TYPE, json.dumps(document).encode()
        except Exception as error:
            document = problem(
                500, "internal_error", f"it failed: {type(error).__name__}", remedy="see its log: `rempart logs`"
            )
            status, kind, body = 500, CONTENT_TYPE, json.dumps(document).encode()
        self._write(status, kind, body)

    def _operator(self) -> str:
        """SO_PEERCRED: pid, uid, gid of whoever connected (unix(7))."""
        sock = self._transport.get_extra_info("socket") if self._transport else None
        if sock is None:
            return "uid:unknown"
        _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        return f"uid:{uid}"

    def _write(self, status: int, kind: str, body: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        head = f"HTTP/1.1 {status} {'OK' if status == 200 else 'Refused'}\r\ncontent-type: {kind}\r\n"
        head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self._transport.write(head.encode() + body)
        self._transport.close()


async def serve_pages(listening: socket.socket, handler: Handler) -> asyncio.Server:
    """Until it is closed."""
    tasks: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(lambda: PageConnection(handler, tasks), sock=listening, backlog=_BACKLOG)


def json_page(document: Any) -> Page:
    return 200, JSON, json.dumps(document).encode()


def no_page(ask: Ask) -> NotFound:
    return NotFound("no_such_resource", f"{ask.method} {ask.path[:200]} is nothing here", "see the documentation")
