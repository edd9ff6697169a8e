"""One RPC of a connection: messages in, messages out, a status at the end (gRPC over HTTP/2, PROTOCOL-HTTP2.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol
from urllib.parse import quote

from rempart.kernel.errors import BadInput, Denied, RempartError, Throttled, Unauthenticated, Unavailable
from rempart.protocols.protobuf import Malformed

from .http2 import ServerConnection
from .http2_headers import Headers, header_block
from .process import Process

MAX_MESSAGE = 1 << 16
WRITE_TIMEOUT = 30.0
_PREFIX = 5
_OK = header_block((":status", "200"), ("content-type", "application/grpc"))
_DONE = header_block(("grpc-status", "0"))


class Status(IntEnum):
    """Those of gRPC's codes that are given here."""

    OK = 0
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


_STATUS: tuple[tuple[type[RempartError], Status], ...] = (
    (BadInput, Status.INVALID_ARGUMENT),
    (Unauthenticated, Status.INVALID_ARGUMENT),
    (Denied, Status.PERMISSION_DENIED),
    (Throttled, Status.RESOURCE_EXHAUSTED),
    (Unavailable, Status.UNAVAILABLE),
)


class Ended(Exception):
    """An RPC that ends with this status."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def to_grpc(error: RempartError) -> Ended:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), Status.INTERNAL)
    return Ended(status, f"{error.reason} [{error.code}]")


class Channel(Protocol):
    """What a stream needs of its connection."""

    http2: ServerConnection

    def flush(self) -> None:
        """Write what was said, soon."""

    async def room(self) -> None:
        """Wait until the peer may have room for more."""


@dataclass(frozen=True, slots=True)
class Rpc:
    """What answers a path (`method(process, stream)`, the peer being `process`), and what reads its requests: raises
    Malformed. `once`: with one message, which is written when all is said."""

    method: Callable[[Process, Stream], Awaitable[None]]
    read: Callable[[bytes], Any]
    once: bool = False


def last_words(status: Status, message: str = "") -> bytes:
    """The header block of the trailers."""
    if status is Status.OK:
        return _DONE
    told = quote(message[:1000], safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")
    return header_block(("grpc-status", str(int(status))), ("grpc-message", told))


def refusal(status: Status, message: str) -> bytes:
    """The header block of an answer that says nothing else ("Trailers-Only")."""
    return _OK + last_words(status, message)


class Stream:
    """The handler's view."""

    __slots__ = ("_channel", "_content", "_ended", "_headers", "_more", "answering", "number", "rpc", "task")

    def __init__(self, channel: Channel, number: int, headers: Headers, rpc: Rpc) -> None:
        self.number, self.rpc = number, rpc
        self.task: asyncio.Task[None] | None = None
        self.answering = False
        """Has anything been said?"""
        self._channel, self._headers = channel, headers
        self._content = bytearray()
        self._ended = False
        self._more: asyncio.Future[None] | None = None

    def values(self, name: str) -> list[str]:
        """Of a request header, in their order."""
        wanted = name.encode()
        return [value.decode("latin-1") for found, value in self._headers if found == wanted]

    # -- what comes in, told by the connection -------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        self._content += data
        self._wake()

    def feed_end(self) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    @property
    def readable(self) -> bool:
        """Is there a whole message, or nothing more to wait for?"""
        size = len(self._content)
        return self._ended or (size >= _PREFIX and (size >= _PREFIX + self._length() or self._length() > MAX_MESSAGE))

    def _length(self) -> int:
        return int.from_bytes(self._content[1:_PREFIX], "big")

    # -- what the handler does -----------------------------------------------------------------------------------

    async def recv_message(self) -> Any:
        """The next message; None at the end. Raises Ended for what is no message."""
        while not self.readable:
            self._more = asyncio.get_running_loop().create_future()
            await self._more
        content = self._content
        if not content:
            return None
        length = self._length()
        if length > MAX_MESSAGE:
            raise Ended(Status.RESOURCE_EXHAUSTED, f"a message is longer than {MAX_MESSAGE} bytes")
        if len(content) < _PREFIX + length:
            raise Ended(Status.INVALID_ARGUMENT, "the last message is cut off")
        if content[0]:
            raise Ended(Status.UNIMPLEMENTED, "compressed messages are not taken")
        data = bytes(content[_PREFIX : _PREFIX + length])
        del content[: _PREFIX + length]
        out = self._channel.http2.out
        said = len(out)
        self._channel.http2.taken(self.number, _PREFIX + length)
        if len(out) > said:  # a window that a peer may wait for
            self._channel.flush()
        try:
            return self.rpc.read(data)
        except Malformed:
            raise Ended(Status.INVALID_ARGUMENT, "the message is not of its type") from None

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        message = await self.recv_message()
        if message is None:
            raise StopAsyncIteration
        return message

    async def send_message(self, message: bytes) -> None:
        """Returns when all of it is on its way; the peer's windows say when that can be. Raises TimeoutError."""
        content = b"\0" + len(message).to_bytes(4, "big") + message
        http2 = self._channel.http2
        if not self.answering:
            self.answering = True
            http2.send_headers(self.number, _OK)
        sent = http2.send_data(self.number, content)
        if not self.rpc.once:
            self._channel.flush()
        if sent < len(content):
            self._channel.flush()
            async with asyncio.timeout(WRITE_TIMEOUT):  # a peer that does not read does not stay
                while sent < len(content):
                    await self._channel.room()
                    sent += http2.send_data(self.number, content[sent:])
                    self._channel.flush()

    def finish(self, status: Status, message: str = "") -> None:
        """The trailers, or all there is to say where nothing was said before. They are not written yet."""
        block = last_words(status, message) if self.answering else refusal(status, message)
        self._channel.http2.send_headers(self.number, block, end=True)
