"""One HTTP/1.1 connection (RFC 9112) to an ASGI application. llhttp parses it, strictly: what two could understand in
two ways is refused.

Requests are answered one after another; those that a client sends ahead wait, and so does the client. A head has
MAX_HEAD bytes, MAX_HEADERS and HEAD_WITHIN seconds, a body must come on within BODY_WITHIN. An upgrade is not taken up.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from collections import deque
from typing import Any, Protocol
from urllib.parse import unquote

import httptools

from .asgi_exchange import MOST_UNREAD, App, Exchange, Message, last_answer

HEAD_WITHIN = 10.0
BODY_WITHIN = 60.0
MAX_HEAD = 1 << 19
"""Bytes, of a trailer or of what describes a chunk, too; what follows in one piece counts with it, and a piece has
256 KiB at most."""
MAX_HEADERS = 200
_MOST_HELD = 64 * 1024
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class Host(Protocol):
    """The server, as a connection needs it."""

    app: App
    keep_alive: float
    stopping: bool

    def entered(self, connection: Connection) -> None: ...
    def left(self, connection: Connection) -> None: ...
    def start(self, exchange: Exchange) -> None: ...


class Connection(asyncio.Protocol):
    """`until`: when it has waited long enough for its client, on the loop's clock. `more`: for each request's scope, in
    which `rempart.gone` says whether nobody waits for the answer any more; ASGI's own way is to wait for that."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport
        self.more: dict[str, Any] = {}
        self.until = math.inf
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects = False
        self._head_began: float | None = None  # a request is awaited, or its head is not whole
        self._undigested = 0  # bytes of a head, a trailer or what describes a chunk
        self._reading: Exchange | None = None  # its body is not whole
        self._current: Exchange | None = None  # being answered
        self._ahead: deque[Exchange] = deque()
        self._broken = self._paused = False
        self._full: asyncio.Future[None] | None = None
        self._held: list[bytes] = []  # not written yet
        self._held_size = 0

    # -- the transport ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream's transport
        self._scheme = "https" if transport.get_extra_info("ssl_object") is not None else "http"
        self._client = _address(transport.get_extra_info("peername"))
        self._server = _address(transport.get_extra_info("sockname"))
        self._head_began = self._loop.time()
        self.until = self._head_began + HEAD_WITHIN
        self._host.entered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        for exchange in (self._current, self._reading, *self._ahead):
            if exchange is not None:
                exchange.lost()
        self._ahead.clear()
        self.resume_writing()
        self._host.left(self)

    def data_received(self, data: bytes) -> None:
        if self._broken:
            return
        self._undigested += len(data)
        if self._undigested > MAX_HEAD:
            self._break()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._broken = True  # what follows is of another protocol, which nobody speaks here
        except httptools.HttpParserError:
            self._break()
        self._settle()

    def pause_writing(self) -> None:
        if self._full is None:
            self._full = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._full is not None and not self._full.done():
            self._full.set_result(None)
        self._full = None

    # -- the parser ------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url, self._headers, self._expects = b"", [], False
        if self._head_began is None:
            self._head_began = self._loop.time()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reading is not None:
            return  # of a trailer, which is none of the head's
        if len(self._headers) >= MAX_HEADERS:
            raise ValueError("too many headers")  # which the parser makes an error of its own
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._expects = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._head_began, self._undigested = None, 0
        url, version = httptools.parse_url(self._url), self._parser.get_http_version()
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        scope: Message = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": self._parser.get_method().decode("ascii"),
            "scheme": self._scheme,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": url.query or b"",
            "root_path": "",
            "headers": self._headers,
            "client": self._client,
            "server": self._server,
            "rempart.gone": self.transport.is_closing,
            **self.more,
        }
        lasting = version == "1.1" and self._parser.should_keep_alive() and not self._parser.should_upgrade()
        self._reading = Exchange(self, scope, keep_alive=lasting, expects=self._expects and version == "1.1")
        if self._current is None:
            self._start(self._reading)
        else:
            self._ahead.append(self._reading)
            self._pause()

    def on_body(self, body: bytes) -> None:
        self._undigested = 0
        if self._reading is not None:
            self._reading.came(body)
            if self._reading.unread > MOST_UNREAD:
                self._pause()

    def on_message_complete(self) -> None:
        if self._reading is not None:
            self._reading.ended()
            self._reading = None

    # -- its exchanges ---------------------------------------------------------------------------------------------

    def _start(self, exchange: Exchange) -> None:
        self._current = exchange
        self._host.start(exchange)

    def write(self, data: bytes) -> None:
        """What is said in one turn of the loop goes out at its end: who it wakes doesn't run before the others who were
        asked in that turn are answered. More than `_MOST_HELD` bytes go out at once, so that the transport can tell
        who makes them to wait."""
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)
        self._held_size += len(data)
        if self._held_size > _MOST_HELD:
            self._flush()

    def _flush(self) -> None:
        held = b"".join(self._held)
        self._held.clear()
        self._held_size = 0
        if held and not self.transport.is_closing():
            self.transport.write(held)

    def _close(self) -> None:
        self._flush()
        self.transport.close()

    async def drained(self) -> None:
        if self._full is not None:
            await asyncio.shield(self._full)

    def taken(self) -> None:
        if not self._ahead:
            self._resume()

    def answered(self, exchange: Exchange) -> None:
        self._current = None
        if not exchange.keep_alive or self._host.stopping:
            self._close()
            return
        if self._ahead:
            self._start(self._ahead.popleft())
        elif self._broken:
            self._refuse()
            return
        if not self._ahead:
            self._resume()
        self._settle()

    def abort(self) -> None:
        self.transport.abort()

    def end(self) -> None:
        """After the answer that is being given."""
        if self._current is None:
            self._close()
        else:
            self._current.keep_alive = False

    def waited(self) -> None:
        """`until` is over."""
        if self._paused:  # for the application
            self._settle()
        elif self._head_began is None and self._reading is None:  # idle: no harm was meant
            self._close()
        else:
            self.transport.abort()

    # -- bounds ----------------------------------------------------------------------------------------------------

    def _break(self) -> None:
        """It can't be understood from here on: what was understood is answered."""
        self._broken = True
        self._pause()
        reading, self._reading = self._reading, None
        if reading is not None and reading is not self._current:
            self._ahead.remove(reading)
        elif reading is not None:
            reading.lost()
            self._current = None
            if reading.begun:
                self.abort()
                return
        if self._current is None:
            self._refuse()

    def _refuse(self) -> None:
        self.write(last_answer(400, "bad_request", "this is no request of HTTP/1.1", "see RFC 9112"))
        self._close()

    def _settle(self) -> None:
        now = self._loop.time()
        if self._reading is not None:
            self.until = now + BODY_WITHIN
        elif self._current is not None:
            self.until = math.inf
        elif self._head_began is not None:
            self.until = self._head_began + HEAD_WITHIN
        else:
            self.until = now + self._host.keep_alive

    def _pause(self) -> None:
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and not self._broken and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()


class OperatorConnection(Connection):
    """On a unix socket, `request.client` is (`uid:N`, pid) of the process at the other end (unix(7), SO_PEERCRED)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer: Any = transport.get_extra_info("socket")
        if peer is not None and peer.family == socket.AF_UNIX:
            pid, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            self._client = (f"uid:{uid}", pid)


def _address(name: Any) -> tuple[str, int] | None:
    """Of TCP; a unix socket has none."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None
