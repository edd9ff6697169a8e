"""gRPC over a unix socket: who the peer is, and limits so that no peer can hold up the others.

A server of our own, since grpcio does not let us see the connected socket and grpclib costs 1.5 ms a request.
A connection is refused or ended when its process can't be determined or ends, when it sends no request within
`first_request_s`, when it sends what is no HTTP/2, or when it reads nothing while making us write. What a connection
says is understood in slices of `_SLICE` frames, each connection in turn: who floods is served as fast as the others.
Who gives up requests before they are answered, again and again, is cut off (CVE-2023-44487), and so is who sends more
frames than any client does. When a uid or the whole server has its fill of connections, one that has not asked for
anything gives way (`places`). What answers a peer's housekeeping (pings, windows) together with which it asked for
something waits up to `_HELD_S` seconds for that answer: one write, and one wake-up of the client.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from rempart.kernel.errors import Denied, RempartError

from .grpc_stream import Ended, Rpc, Status, Stream, refusal, to_grpc
from .http2 import Code, Http2Error, ServerConnection
from .http2_headers import Headers, header_block, well_formed
from .places import Places
from .process import Process

_MAX_UNREAD = 1 << 18
_SLICE = 32
_HELD_S = 0.003
_NOT_GRPC = header_block((":status", "415"), ("accept", "application/grpc"))
_NO_METHOD = refusal(Status.UNIMPLEMENTED, "there is no such method")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Connections in all and of one uid; of one connection: streams at a time, frames a second, requests a second that
    it gives up before they are answered (both for two seconds at once)."""

    connections: int = 2048
    per_uid: int = 512
    streams: int = 64
    frames_per_s: float = 20_000.0
    given_up_per_s: float = 100.0
    first_request_s: float = 5.0


class _Bucket:
    """`rate` a second, and what two seconds give at once."""

    __slots__ = ("_left", "_rate", "_seen")

    def __init__(self, rate: float, now: float) -> None:
        self._rate, self._left, self._seen = rate, 2 * rate, now

    def take(self, count: int, now: float) -> bool:
        self._left = min(self._left + (now - self._seen) * self._rate, 2 * self._rate) - count
        self._seen = now
        return self._left >= 0


class _Connection(asyncio.Protocol):
    """`process` is set as soon as the connection stands and before anything of it is read."""

    process: Process
    http2: ServerConnection
    transport: asyncio.Transport

    def __init__(self, server: GrpcServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._streams: dict[int, Stream] = {}
        self._deadline: asyncio.TimerHandle | None = None
        self._writable: asyncio.Future[None] | None = None
        self._full = self._stands = self._flushing = self._slicing = self._begun = self._greeting = False
        self._early = b""
        self._held: asyncio.TimerHandle | None = None
        self._same: tuple[Headers, Rpc] | None = None

    # -- connection ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        try:
            with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as peer:
                self.process = Process.behind(peer)
        except Denied:
            self.transport.abort()
            return
        if not self._server.places.take(self):
            self.process.close()
            self.transport.abort()
            return
        self._stands = True
        greeting = self._server.greet(self.process) if self._server.greet is not None else None
        limits, now = self._server.limits, self._loop.time()
        self._frames, self._given_up = _Bucket(limits.frames_per_s, now), _Bucket(limits.given_up_per_s, now)
        self.http2 = ServerConnection(self, max_streams=limits.streams)
        if greeting is None:
            self.flush()
        else:  # not a word before it knows to whom
            self._greeting = True
            greeting.add_done_callback(self._greeted)
        self._deadline = self._loop.call_later(limits.first_request_s, self.abort)
        self._loop.add_reader(self.process.pidfd, self.abort)

    def _greeted(self, greeting: asyncio.Future[Any]) -> None:
        self._greeting = False
        if not greeting.cancelled():
            greeting.exception()  # who asks for its facts hears of it
        if self._stands and not self.transport.is_closing():
            early, self._early = self._early, b""
            self.flush()
            if early:
                self.transport.resume_reading()
                self._understand(early)

    def data_received(self, data: bytes) -> None:
        if self._greeting:
            self._early += data
            self.transport.pause_reading()
        elif self._stands:
            self._understand(data)

    def _understand(self, data: bytes = b"") -> None:
        if self._slicing and not data:
            self._slicing = False
            self.transport.resume_reading()
        if not self._stands or self.transport.is_closing():
            return
        try:
            frames = self.http2.receive(data, _SLICE)
        except Http2Error as error:
            self._end(error.code)
            return
        if not self._frames.take(frames, self._loop.time()):
            self._end(Code.ENHANCE_YOUR_CALM)
            return
        if self._begun or self.http2.only_pongs():  # they go with the next answer, which wakes the client once
            self._begun = False
            self._held = self._held or self._loop.call_later(_HELD_S, self._write)
        else:
            self.flush()
        if frames == _SLICE and not self._slicing:  # there may be more; it is the others' turn first
            self._slicing = True
            self.transport.pause_reading()
            self._loop.call_soon(self._understand)

    def _end(self, code: Code) -> None:
        """Say why, and close."""
        self.http2.send_goaway(code)
        self._write()
        self._stop()
        self.transport.close()
        self._loop.call_later(1.0, self.transport.abort)

    def abort(self) -> None:
        self.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop()
        if self._stands:
            self._stands = False
            self._loop.remove_reader(self.process.pidfd)
            self._server.places.leave(self)
            self.process.close()

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        for stream in list(self._streams.values()):
            if stream.task is not None:
                stream.task.cancel()
        self._streams.clear()
        self.writable()

    # -- what is written -----------------------------------------------------------------------------------------

    def flush(self) -> None:
        if not self._flushing and self.http2.out:
            self._flushing = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        self._flushing = False
        if self._held is not None:
            self._held.cancel()
            self._held = None
        out = self.http2.out
        if out and not self.transport.is_closing():
            self.transport.write(b"".join(out))
            out.clear()
            if self.transport.get_write_buffer_size() > _MAX_UNREAD:
                self.abort()  # a flood of pings or settings that is answered and never read

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self.writable()

    def writable(self) -> None:
        if self._writable is not None and not self._writable.done() and not self._full:
            self._writable.set_result(None)

    async def room(self) -> None:
        if self._writable is None or self._writable.done():
            self._writable = self._loop.create_future()
        await asyncio.shield(self._writable)

    # -- what a peer says (`http2.Receiver`) ---------------------------------------------------------------------

    def opened(self, stream: int, headers: Headers) -> None:
        if self._same is not None and headers is self._same[0]:
            self._streams[stream] = Stream(self, stream, headers, self._same[1])
            return
        if not well_formed(headers):
            self.http2.send_reset(stream, Code.PROTOCOL_ERROR)
            return
        named = dict(headers)
        if named[b":method"] != b"POST" or not named.get(b"content-type", b"").startswith(b"application/grpc"):
            self.http2.send_headers(stream, _NOT_GRPC, end=True)
            return
        rpc = self._server.rpcs.get(named[b":path"].decode("latin-1"))
        if rpc is None:
            self.http2.send_headers(stream, _NO_METHOD, end=True)
            return
        self._same = headers, rpc
        self._streams[stream] = Stream(self, stream, headers, rpc)

    def received(self, stream: int, data: bytes) -> None:
        if (one := self._streams.get(stream)) is not None:
            one.feed(data)
            self._begin(one)
        else:
            self.http2.taken(stream, len(data))

    def ended(self, stream: int) -> None:
        if (one := self._streams.get(stream)) is not None:
            one.feed_end()
            self._begin(one)

    def reset(self, stream: int) -> None:
        one = self._streams.pop(stream, None)
        if one is None:
            return
        if one.task is not None:
            one.task.cancel()
        if not one.answering and not self._given_up.take(1, self._loop.time()):
            self._loop.call_soon(self._end, Code.ENHANCE_YOUR_CALM)

    def _begin(self, stream: Stream) -> None:
        """As soon as its first message is whole: who sends only half of one occupies no task."""
        if stream.task is None and stream.readable:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None
                self._server.places.asked(self)
            self._begun = True
            stream.task = self._loop.create_task(self._answer(stream))

    async def _answer(self, stream: Stream) -> None:
        try:
            await stream.rpc.method(self.process, stream)
            stream.finish(Status.OK)
        except RempartError as error:
            ended = to_grpc(error)
            stream.finish(ended.status, ended.message)
        except Ended as ended:
            stream.finish(ended.status, ended.message)
        except TimeoutError:
            self.abort()  # a peer that does not read does not stay
        except Exception:
            _log.exception("a Workload API request failed")
            stream.finish(Status.INTERNAL, "this is our fault")
        finally:
            self._streams.pop(stream.number, None)
            if self._streams:
                self.flush()
            elif self._stands:  # nobody else's answer to wait for
                self._write()


class Service(Protocol):
    def rpcs(self) -> Mapping[str, Rpc]:
        """By path."""


class GrpcServer:
    """Serve on a socket that is already listening. One event loop."""

    def __init__(
        self,
        services: Sequence[Service],
        limits: Limits | None = None,
        *,
        greet: Callable[[Process], asyncio.Future[Any] | None] | None = None,
    ) -> None:
        """`greet` is called with the process behind each connection as soon as that stands. When it returns a future,
        nothing is read and nothing said before that is done."""
        self.greet = greet
        self.rpcs = {path: rpc for service in services for path, rpc in service.rpcs().items()}
        self.limits = limits or Limits()
        self.places = Places(self.limits.connections, self.limits.per_uid)
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        return len(self.places)

    async def serve(self, listening: socket.socket) -> None:
        """Begin; each connection takes two descriptors."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self.limits.connections * 2 + 256
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
            if hard < wanted:
                self.places.most, self.places.per_uid = (hard - 256) // 2, max((hard - 256) // 4, 8)
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Connection(self), sock=listening, backlog=1024
        )

    def close(self) -> None:
        """Accept nobody any more, and end what there is."""
        if self._server is not None:
            self._server.close()
        for connection in self.places:
            connection.abort()
