"""One request and its answer, as ASGI has it (asgi.readthedocs.io, HTTP 2.3): the application's `receive` and `send`.

What an application says is checked before it is written: an answer is as long as its `content-length`, and no header
begins another line.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Protocol

from rempart.kernel.problem import CONTENT_TYPE, problem

MOST_UNREAD = 64 * 1024
"""Bytes of a body that wait for the application; from there on the client waits."""
_BODYLESS = frozenset((204, 304))
_STATUS = {one.value: f"HTTP/1.1 {one.value} {one.phrase}\r\n".encode() for one in HTTPStatus}
_GONE = {"type": "http.disconnect"}
_log = logging.getLogger("rempart.asgi")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
"""An ASGI 3 application; its scope is a Message, too."""


class Line(Protocol):
    """The connection, as an exchange needs it."""

    def write(self, data: bytes) -> None: ...
    async def drained(self) -> None: ...
    def taken(self) -> None:
        """The application has what there was of the body: more may come."""

    def answered(self, exchange: Exchange) -> None: ...
    def abort(self) -> None: ...


class Exchange:
    """`keep_alive`: whether the connection may go on after it."""

    __slots__ = (
        "_chunked",
        "_ended",
        "_head",
        "_left",
        "_line",
        "_news",
        "_parts",
        "_told",
        "answered",
        "begun",
        "expects",
        "gone",
        "keep_alive",
        "scope",
        "unread",
    )

    def __init__(self, line: Line, scope: Message, *, keep_alive: bool, expects: bool) -> None:
        self._line, self.scope, self.keep_alive, self.expects = line, scope, keep_alive, expects
        self._parts: list[bytes] = []
        self.unread = 0
        self._ended = self._told = False
        self._news: asyncio.Event | None = None
        self._head = b""  # not written yet
        self.begun = self._chunked = False
        self._left = 0
        self.answered = self.gone = False

    # -- what the client sends -------------------------------------------------------------------------------------

    def came(self, body: bytes) -> None:
        if not self.answered:
            self._parts.append(body)
            self.unread += len(body)
            self._tell()

    def ended(self) -> None:
        self._ended = True
        self._tell()

    def lost(self) -> None:
        """The client is gone, or can't be understood any more."""
        self.gone = True
        self._tell()

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()

    # -- the application -------------------------------------------------------------------------------------------

    async def run(self, app: App) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:
            if not self.gone:
                _log.exception("a %s request failed", self.scope["method"])  # no path: it may hold a single-use link
                self._fail()
        except BaseException:
            self._line.abort()
            raise
        else:
            if not self.answered and not self.gone:
                _log.error("a %s request was not answered to its end", self.scope["method"])
                self._fail()

    def _fail(self) -> None:
        """What was not said yet can still be said; what is half said ends, so that nobody takes it for the whole."""
        if self.answered:
            return
        if self.begun and not self._head:
            self._line.abort()
            return
        self._head, self.begun, self.keep_alive = b"", True, False
        self._line.write(last_answer(500, "internal_error", "it failed", "see its log: `rempart logs`"))
        self._end()

    async def receive(self) -> Message:
        if self.expects and not self.begun:
            self._line.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.expects = False
        while not (self.gone or self.answered):
            if not self._told and (self._parts or self._ended):
                body, self._told = b"".join(self._parts), self._ended
                self._parts.clear()
                self.unread = 0
                self._line.taken()
                return {"type": "http.request", "body": body, "more_body": not self._told}
            if self._news is None:
                self._news = asyncio.Event()
            await self._news.wait()
            self._news.clear()
        self._tell()  # who else waits
        return _GONE

    async def send(self, message: Message) -> None:
        await self._line.drained()
        if self.gone:
            return
        if not self.begun and message["type"] == "http.response.start":
            self._head = self._headed(message)
            self.begun = True
            asyncio.get_running_loop().call_soon(self._flush)  # a stream's head doesn't wait for its first part
        elif self.begun and not self.answered and message["type"] == "http.response.body":
            self._part(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"{message['type']} has no place here")

    def _headed(self, message: Message) -> bytes:
        status: int = message["status"]
        lines = [_STATUS[status]]
        length: int | None = None
        for raw, value in message.get("headers", ()):
            name = raw.lower()
            if name == b"content-length":
                length = int(value)
            elif name == b"connection":
                self.keep_alive = self.keep_alive and value.lower() != b"close"
                continue
            elif name == b"transfer-encoding":
                raise RuntimeError("how an answer is transferred is said here")
            lines.append(b"%b: %b\r\n" % (name, value))
        if self.expects and not self._ended:
            self.keep_alive = False  # whether its body follows is the client's choice now
        bodyless = status in _BODYLESS or self.scope["method"] == "HEAD"
        self._left = 0 if bodyless else (length or 0)
        if length is None and not bodyless:
            self._chunked = self.scope["http_version"] == "1.1"
            self.keep_alive = self.keep_alive and self._chunked
            self._left = -1
            if self._chunked:
                lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
            raise RuntimeError("a header has the end of a line in it")
        return head + b"\r\n"

    def _part(self, body: bytes, *, more: bool) -> None:
        if self._left >= 0 and self.scope["method"] != "HEAD":
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the answer is not as long as its content-length")
        elif self._left >= 0:
            body = b""
        elif self._chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = body if more else body + b"0\r\n\r\n"
        head, self._head = self._head, b""
        if head or body:
            self._line.write(head + body if head else body)
        if not more:
            self._end()

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head and not self.gone:
            self._line.write(head)

    def _end(self) -> None:
        self.answered = True
        self._parts.clear()
        self.unread = 0
        self._tell()
        self._line.answered(self)


def last_answer(status: int, code: str, why: str, remedy: str = "") -> bytes:
    """A whole answer, after which the connection ends."""
    body = json.dumps(problem(status, code, why, remedy=remedy)).encode()
    head = b"content-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return _STATUS[status] + head % (CONTENT_TYPE.encode(), len(body)) + body
