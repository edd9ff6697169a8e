"""gRPC over a unix socket, in front of grpclib: who the peer is, and limits so that no peer can hold up the others.

grpclib is wrapped here and nowhere else, because it alone lets us see the connected socket (grpcio does not).
A connection is refused or ended when its process can't be determined or ends, when it sends no request within
`first_request_s`, when it sends what is no HTTP/2, or when it reads nothing while making us write. Per connection there
is a limit of requests per second and of concurrent streams, per message one of size. When a uid or the whole server
has its fill of connections, the oldest one of the uid that uses most and has not asked for anything is ended first.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, cast

import grpclib.server
from grpclib import GRPCError, Status
from grpclib.config import Configuration
from grpclib.const import Handler
from grpclib.protocol import Buffer, H2Protocol
from h2.settings import SettingCodes

from rempart.kernel.errors import BadInput, Denied, RempartError, Throttled, Unauthenticated, Unavailable

from .process import Process

MAX_MESSAGE = 1 << 16
_MAX_UNREAD = 1 << 18
_WINDOW = 1 << 16
_STATUS: tuple[tuple[type[RempartError], Status], ...] = (
    (BadInput, Status.INVALID_ARGUMENT),
    (Unauthenticated, Status.INVALID_ARGUMENT),
    (Denied, Status.PERMISSION_DENIED),
    (Throttled, Status.RESOURCE_EXHAUSTED),
    (Unavailable, Status.UNAVAILABLE),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Connections in all and of one uid; streams of one connection at a time; requests per second of one connection."""

    connections: int = 2048
    per_uid: int = 512
    streams: int = 64
    requests_per_s: float = 100.0
    first_request_s: float = 5.0


def to_grpc(error: RempartError) -> GRPCError:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), Status.INTERNAL)
    return GRPCError(status, f"{error.reason} [{error.code}]")


Method = Callable[[Process, Any], Awaitable[None]]
"""`(process, stream)`: one RPC of a connection whose peer is `process`."""


def peer_of(stream: Any) -> Process:
    """The process behind an RPC's connection."""
    protocol = stream.peer._transport.get_protocol()
    return cast(_Connection, protocol).process


def bind(method: Method) -> Callable[[Any], Awaitable[None]]:
    """Give the RPC its peer, and turn refusals into gRPC statuses."""

    async def call(stream: Any) -> None:
        try:
            await method(peer_of(stream), stream)
        except RempartError as error:
            raise to_grpc(error) from None

    return call


class _BoundedBuffer(Buffer):
    """A message says its length first; a long one is refused before anything of it is kept."""

    async def read(self, size: int) -> bytes:
        if size > MAX_MESSAGE:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, f"a message is longer than {MAX_MESSAGE} bytes")
        return await super().read(size)


class _Handler(grpclib.server.Handler):
    """Bounds what one connection may ask."""

    connection: _Connection

    def accept(self, stream: Any, headers: Any, release_stream: Any) -> None:
        bounded = _BoundedBuffer(stream.buffer._ack_callback)
        stream.buffer = bounded
        if self.connection.admits():
            super().accept(stream, headers, release_stream)

    def cancel(self, stream: Any) -> None:
        if stream in self._tasks:  # a stream that was not admitted has no task
            super().cancel(stream)


class _Connection(H2Protocol):
    """`process` is set as soon as the connection stands and before anything of it is read."""

    process: Process
    handler: _Handler

    def __init__(self, server: GrpcServer, handler: _Handler, config: Configuration, h2_config: Any) -> None:
        super().__init__(handler, config, h2_config)
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._tokens = server.limits.requests_per_s * 2
        self._refilled = 0.0
        self.asked = False
        handler.connection = self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        try:
            self.process = Process.behind(transport.get_extra_info("socket"))
        except Denied:
            self._transport.abort()
            return
        if not self._server.opened(self):
            self.process.close()
            self._transport.abort()
            return
        super().connection_made(transport)
        h2 = self.connection._connection
        h2.update_settings(
            {
                SettingCodes.MAX_CONCURRENT_STREAMS: self._server.limits.streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: 1 << 14,
            }
        )
        self.connection.flush()
        loop = asyncio.get_running_loop()
        self._refilled = loop.time()
        self._deadline = loop.call_later(self._server.limits.first_request_s, self.abort)
        loop.add_reader(self.process.pidfd, self.abort)

    def admits(self) -> bool:
        """Take one request from the connection's bucket; without one left the connection ends (rapid reset)."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self.asked = True
        now, rate = asyncio.get_running_loop().time(), self._server.limits.requests_per_s
        self._tokens = min(self._tokens + (now - self._refilled) * rate, 2 * rate)
        self._refilled = now
        if self._tokens < 1:
            self.abort()
            return False
        self._tokens -= 1
        return True

    def data_received(self, data: bytes) -> None:
        if not hasattr(self, "connection"):
            return  # refused in connection_made
        try:
            super().data_received(data)
        except Exception:  # whatever a peer sends that h2 or grpclib did not foresee ends that peer's connection only
            self.abort()
            return
        if self._transport is not None and self._transport.get_write_buffer_size() > _MAX_UNREAD:
            self.abort()  # a flood of pings or settings that is answered and never read

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        if not hasattr(self, "connection"):
            return
        if self._deadline is not None:
            self._deadline.cancel()
        asyncio.get_running_loop().remove_reader(self.process.pidfd)
        self._server.closed(self)
        super().connection_lost(exc)
        self.process.close()

    def pause_writing(self) -> None:
        if hasattr(self, "connection"):
            super().pause_writing()

    def resume_writing(self) -> None:
        if hasattr(self, "connection"):
            super().resume_writing()


class GrpcServer(grpclib.server.Server):
    """Serve `services` (objects with `__mapping__`) on a socket that is already listening."""

    def __init__(self, services: Collection[Any], limits: Limits | None = None) -> None:
        super().__init__(
            services,
            config=Configuration(http2_connection_window_size=_WINDOW, http2_stream_window_size=_WINDOW),
        )
        self.limits = limits or Limits()
        self._connections: dict[_Connection, None] = {}  # in the order of their opening
        self._by_uid: Counter[int] = Counter()

    @property
    def connections(self) -> int:
        return len(self._connections)

    def _protocol_factory(self) -> H2Protocol:
        self.__gc_step__()
        handler = _Handler(self._mapping, self._codec, self._status_details_codec, self.__dispatch__)
        self._handlers.add(handler)
        return _Connection(self, handler, self._config, self._h2_config)

    def opened(self, connection: _Connection) -> bool:
        """Count it in, ending another one for it where there are too many; False when there is no room."""
        uid = connection.process.uid
        if self._by_uid[uid] >= self.limits.per_uid and not self._end_idle(uid):
            return False
        if len(self._connections) >= self.limits.connections and not self._end_idle(self._by_uid.most_common(1)[0][0]):
            return False
        self._connections[connection] = None
        self._by_uid[uid] += 1
        return True

    def _end_idle(self, uid: int) -> bool:
        for connection in self._connections:
            if connection.process.uid == uid and not connection.asked:
                self.closed(connection)
                connection.abort()
                return True
        return False

    def closed(self, connection: _Connection) -> None:
        if connection in self._connections:
            del self._connections[connection]
            self._by_uid[connection.process.uid] -= 1
            if not self._by_uid[connection.process.uid]:
                del self._by_uid[connection.process.uid]

    async def serve(self, listening: socket.socket) -> None:
        """Begin; each connection takes two descriptors."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self.limits.connections * 2 + 256
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
            if hard < wanted:
                self.limits = Limits(connections=(hard - 256) // 2, per_uid=max((hard - 256) // 4, 8))
        self._server = await asyncio.get_running_loop().create_unix_server(
            self._protocol_factory, sock=listening, backlog=1024
        )
        self._server_closed_fut = asyncio.get_running_loop().create_future()


def stream_stream(method: Method, request: type, reply: type) -> Handler:
    from grpclib.const import Cardinality

    return Handler(bind(method), Cardinality.STREAM_STREAM, request, reply)


def unary_stream(method: Method, request: type, reply: type) -> Handler:
    from grpclib.const import Cardinality

    return Handler(bind(method), Cardinality.UNARY_STREAM, request, reply)


def unary_unary(method: Method, request: type, reply: type) -> Handler:
    from grpclib.const import Cardinality

    return Handler(bind(method), Cardinality.UNARY_UNARY, request, reply)
