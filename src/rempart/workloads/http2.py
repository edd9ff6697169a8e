"""The server's side of HTTP/2 (RFC 9113) without I/O: as much of it as gRPC needs, and strict about the rest.

Bytes go into `receive`, what they mean goes to a `Receiver`, answers collect in `out`. Whatever a peer may not do
raises Http2Error, which ends its connection. Bounded per connection: 16 KiB of headers per request, 64 KiB of unread
data in all, and `max_streams` requests at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Protocol

from hpack import Decoder
from hpack.exceptions import HPACKError

from .http2_headers import MAX_HEADERS, Headers

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW = 65535
MAX_FRAME = 16384
_LARGEST_WINDOW = (1 << 31) - 1
_GIVE_BACK = WINDOW // 4
_SHORT, _BLOCKS_KNOWN = 32, 16

END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20


class Kind(IntEnum):
    """Section 6."""

    DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)


class Code(IntEnum):
    """Section 7."""

    NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
    FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = range(6, 10)
    ENHANCE_YOUR_CALM = 11


class _Setting(IntEnum):
    """Section 6.5.2."""

    HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = range(1, 5)
    MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 5, 6


class Http2Error(Exception):
    """What ends the connection (section 5.4.1)."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


class Receiver(Protocol):
    """Who is told what a peer says. Streams are named by their number."""

    def opened(self, stream: int, headers: Headers) -> None: ...

    def received(self, stream: int, data: bytes) -> None: ...

    def ended(self, stream: int) -> None:
        """Nothing more comes from the peer."""

    def reset(self, stream: int) -> None:
        """The peer gave it up; it is forgotten."""

    def writable(self) -> None:
        """A window grew."""


@dataclass(slots=True)
class _Flow:
    """One stream that is open. `room` is what we may still send, `allowed` what the peer may, `unread` what it sent and
    the application hasn't taken yet."""

    room: int
    allowed: int = WINDOW
    unread: int = 0
    peer_ended: bool = False


_HEAD = Struct(">IBI")  # length and kind, flags, stream (section 4.1)


def frame(kind: Kind, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return _HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


class ServerConnection:
    """One peer's connection. After an Http2Error nothing more may be given to it."""

    def __init__(self, receiver: Receiver, *, max_streams: int) -> None:
        settings = {_Setting.MAX_CONCURRENT_STREAMS: max_streams, _Setting.MAX_HEADER_LIST_SIZE: MAX_HEADERS}
        content = b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in settings.items())
        self.out: list[bytes] = [frame(Kind.SETTINGS, 0, 0, content)]
        self._receiver = receiver
        self._max_streams = max_streams
        self._input = bytearray()
        self._decoder = Decoder(MAX_HEADERS)
        self._known: dict[bytes, Headers] = {}
        self._block: tuple[int, int, bytearray] | None = None  # stream, flags and what there is of its header block
        self._greeted = self._settled = False
        self._last = 0
        self._flows: dict[int, _Flow] = {}
        self._room, self._first_room, self._max_frame = WINDOW, WINDOW, MAX_FRAME
        self._allowed, self._owed = WINDOW, 0

    # -- what the peer says ---------------------------------------------------------------------------------------

    def receive(self, data: bytes, most: int) -> int:
        """Take `data`, understand up to `most` frames of what there is; how many they were. Raises Http2Error."""
        content = self._input
        content += data
        if not self._greeted:
            if not PREFACE.startswith(content[: len(PREFACE)]):
                raise Http2Error(Code.PROTOCOL_ERROR)
            if len(content) < len(PREFACE):
                return 0
            self._greeted = True
            del content[: len(PREFACE)]
        begin = frames = 0
        try:
            while frames < most and len(content) - begin >= 9:
                length_and_kind, flags, stream = _HEAD.unpack_from(content, begin)
                length, kind, stream = length_and_kind >> 8, length_and_kind & 0xFF, stream & 0x7FFFFFFF
                if length > MAX_FRAME:
                    raise Http2Error(Code.FRAME_SIZE_ERROR)
                end = begin + 9 + length
                if end > len(content):
                    break
                payload = bytes(content[begin + 9 : end])
                begin, frames = end, frames + 1
                if (self._block is not None) != (kind == Kind.CONTINUATION) or not (self._settled or kind == 4):
                    raise Http2Error(Code.PROTOCOL_ERROR)
                understand = _UNDERSTAND.get(kind)  # what isn't known is passed over (section 4.1)
                if understand is not None:
                    understand(self, flags, stream, payload)
        finally:
            del content[:begin]
        return frames

    def _headers(self, flags: int, stream: int, payload: bytes) -> None:
        if stream % 2 == 0:
            raise Http2Error(Code.PROTOCOL_ERROR)
        payload = _unpadded(flags, payload)
        if flags & PRIORITY:
            if len(payload) < 5:
                raise Http2Error(Code.FRAME_SIZE_ERROR)
            if int.from_bytes(payload[:4], "big") & 0x7FFFFFFF == stream:
                raise Http2Error(Code.PROTOCOL_ERROR)
            payload = payload[5:]
        self._block = (stream, flags, bytearray(payload))
        if flags & END_HEADERS:
            self._block_complete()

    def _continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != stream:
            raise Http2Error(Code.PROTOCOL_ERROR)
        block = self._block[2]
        if not payload or len(block) + len(payload) > MAX_HEADERS:
            raise Http2Error(Code.ENHANCE_YOUR_CALM)  # CVE-2024-27316: continuations without end
        block += payload
        if flags & END_HEADERS:
            self._block_complete()

    def _block_complete(self) -> None:
        if self._block is None:
            raise Http2Error(Code.PROTOCOL_ERROR)
        stream, flags, block = self._block
        self._block = None
        headers = self._decoded(bytes(block))  # always, for the table's sake
        flow = self._flows.get(stream)
        if flow is None and stream > self._last:
            self._last = stream
            if len(self._flows) >= self._max_streams:
                self.out.append(frame(Kind.RST_STREAM, 0, stream, Code.REFUSED_STREAM.to_bytes(4, "big")))
                return
            flow = self._flows[stream] = _Flow(self._first_room)
            self._receiver.opened(stream, headers)
        elif flow is not None and (flow.peer_ended or not flags & END_STREAM):
            raise Http2Error(Code.STREAM_CLOSED if flow.peer_ended else Code.PROTOCOL_ERROR)
        if flow is not None and flags & END_STREAM and stream in self._flows:
            flow.peer_ended = True
            self._receiver.ended(stream)

    def _decoded(self, block: bytes) -> Headers:
        """A block of nothing but one-byte references leaves the table as it is, and means the same until another block
        changes that: clients say most requests so."""
        known = self._known.get(block)
        if known is not None:
            return known
        try:
            headers = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except (HPACKError, ValueError, IndexError):
            raise Http2Error(Code.COMPRESSION_ERROR) from None
        if len(block) > _SHORT or len(self._known) == _BLOCKS_KNOWN or not all(128 <= byte < 255 for byte in block):
            self._known.clear()
        else:
            self._known[block] = headers
        return headers

    def _data(self, flags: int, stream: int, payload: bytes) -> None:
        if not 0 < stream <= self._last:
            raise Http2Error(Code.PROTOCOL_ERROR)
        self._allowed -= len(payload)
        flow = self._flows.get(stream)
        if self._allowed < 0:
            raise Http2Error(Code.FLOW_CONTROL_ERROR)
        data = _unpadded(flags, payload)
        if flow is None:  # it was given up, and the peer doesn't know yet
            self._owe(len(payload))
            return
        if flow.peer_ended:
            raise Http2Error(Code.STREAM_CLOSED)
        flow.allowed -= len(payload)
        if flow.allowed < 0:
            raise Http2Error(Code.FLOW_CONTROL_ERROR)
        flow.unread += len(payload)
        if padding := len(payload) - len(data):
            self.taken(stream, padding)
        if data:
            self._receiver.received(stream, data)
        if flags & END_STREAM and stream in self._flows:
            flow.peer_ended = True
            self._receiver.ended(stream)

    def _rst_stream(self, flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2Error(Code.FRAME_SIZE_ERROR)
        if not 0 < stream <= self._last:
            raise Http2Error(Code.PROTOCOL_ERROR)
        if self._forget(stream):
            self._receiver.reset(stream)

    def _settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise Http2Error(Code.PROTOCOL_ERROR)
        if (flags & ACK and payload) or len(payload) % 6:
            raise Http2Error(Code.FRAME_SIZE_ERROR)
        if flags & ACK:
            return
        self._settled = True
        for place in range(0, len(payload), 6):
            name = int.from_bytes(payload[place : place + 2], "big")
            self._set(name, int.from_bytes(payload[place + 2 : place + 6], "big"))
        self.out.append(frame(Kind.SETTINGS, ACK, 0))

    def _set(self, name: int, value: int) -> None:
        if name == _Setting.ENABLE_PUSH and value > 1:
            raise Http2Error(Code.PROTOCOL_ERROR)
        if name == _Setting.MAX_FRAME_SIZE:
            if not MAX_FRAME <= value < 1 << 24:
                raise Http2Error(Code.PROTOCOL_ERROR)
            self._max_frame = min(value, 1 << 16)
        if name == _Setting.INITIAL_WINDOW_SIZE:
            if value > _LARGEST_WINDOW:
                raise Http2Error(Code.FLOW_CONTROL_ERROR)
            for flow in self._flows.values():
                flow.room += value - self._first_room  # may go below zero (section 6.9.2)
                if flow.room > _LARGEST_WINDOW:
                    raise Http2Error(Code.FLOW_CONTROL_ERROR)
            self._first_room = value
            self._receiver.writable()

    def _ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise Http2Error(Code.PROTOCOL_ERROR)
        if len(payload) != 8:
            raise Http2Error(Code.FRAME_SIZE_ERROR)
        if not flags & ACK:
            self.out.append(frame(Kind.PING, ACK, 0, payload))

    def _window_update(self, flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2Error(Code.FRAME_SIZE_ERROR)
        more = int.from_bytes(payload, "big") & 0x7FFFFFFF
        if not more or stream > self._last:
            raise Http2Error(Code.PROTOCOL_ERROR)
        if not stream:
            self._room += more
            grown = self._room
        elif (flow := self._flows.get(stream)) is not None:
            flow.room += more
            grown = flow.room
        else:
            return
        if grown > _LARGEST_WINDOW:
            raise Http2Error(Code.FLOW_CONTROL_ERROR)
        self._receiver.writable()

    def _priority(self, flags: int, stream: int, payload: bytes) -> None:
        if not stream:
            raise Http2Error(Code.PROTOCOL_ERROR)
        if len(payload) != 5:
            raise Http2Error(Code.FRAME_SIZE_ERROR)

    def _push_promise(self, flags: int, stream: int, payload: bytes) -> None:
        raise Http2Error(Code.PROTOCOL_ERROR)  # clients don't (section 8.4)

    def _goaway(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise Http2Error(Code.PROTOCOL_ERROR)

    # -- what we say ----------------------------------------------------------------------------------------------

    def send_headers(self, stream: int, block: bytes, *, end: bool = False) -> None:
        """`block` is shorter than a frame. Nothing happens when the peer has given the stream up."""
        if stream in self._flows:
            self.out.append(frame(Kind.HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block))
            if end:
                self._end(stream)

    def send_data(self, stream: int, data: bytes) -> int:
        """How much of it the peer's windows had room for, and was sent."""
        flow = self._flows.get(stream)
        if flow is None:
            return len(data)
        begin, room = 0, max(min(self._room, flow.room, len(data)), 0)
        while begin < room:
            part = data[begin : min(begin + self._max_frame, room)]
            self.out.append(frame(Kind.DATA, 0, stream, part))
            begin += len(part)
        self._room -= room
        flow.room -= room
        return room

    def send_reset(self, stream: int, code: Code) -> None:
        if self._forget(stream):
            self.out.append(frame(Kind.RST_STREAM, 0, stream, code.to_bytes(4, "big")))

    def only_pongs(self) -> bool:
        """Is there nothing to write but answers to pings?"""
        return all(one[3] == Kind.PING for one in self.out)

    def send_goaway(self, code: Code) -> None:
        self.out.append(frame(Kind.GOAWAY, 0, 0, self._last.to_bytes(4, "big") + code.to_bytes(4, "big")))

    def taken(self, stream: int, count: int) -> None:
        """The application took `count` bytes of what came: the peer may send as many more."""
        flow = self._flows.get(stream)
        if flow is None:
            return  # `_forget` has given them back
        flow.unread -= count
        self._owe(count)
        if not flow.peer_ended and WINDOW - flow.allowed - flow.unread >= _GIVE_BACK:
            more = WINDOW - flow.allowed - flow.unread
            flow.allowed += more
            self.out.append(frame(Kind.WINDOW_UPDATE, 0, stream, more.to_bytes(4, "big")))

    def _owe(self, count: int) -> None:
        self._owed += count
        if self._owed >= _GIVE_BACK:
            self.out.append(frame(Kind.WINDOW_UPDATE, 0, 0, self._owed.to_bytes(4, "big")))
            self._allowed, self._owed = self._allowed + self._owed, 0

    def _end(self, stream: int) -> None:
        """We said our last; a peer that hasn't needn't go on (section 8.1)."""
        if self._flows[stream].peer_ended:
            self._forget(stream)
        else:
            self.send_reset(stream, Code.NO_ERROR)

    def _forget(self, stream: int) -> bool:
        flow = self._flows.pop(stream, None)
        if flow is None:
            return False
        self._owe(flow.unread)
        return True


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Http2Error(Code.PROTOCOL_ERROR)
    return payload[1 : len(payload) - payload[0]]


_UNDERSTAND: dict[int, Callable[[ServerConnection, int, int, bytes], None]] = {
    Kind.DATA: ServerConnection._data,
    Kind.HEADERS: ServerConnection._headers,
    Kind.PRIORITY: ServerConnection._priority,
    Kind.RST_STREAM: ServerConnection._rst_stream,
    Kind.SETTINGS: ServerConnection._settings,
    Kind.PUSH_PROMISE: ServerConnection._push_promise,
    Kind.PING: ServerConnection._ping,
    Kind.GOAWAY: ServerConnection._goaway,
    Kind.WINDOW_UPDATE: ServerConnection._window_update,
    Kind.CONTINUATION: ServerConnection._continuation,
}
