"""HTTP/2 as the Workload API's socket speaks it: held against `h2` as the other side, and against each rule broken."""

from __future__ import annotations

import contextlib
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.workloads.http2 import (
    ACK,
    END_HEADERS,
    END_STREAM,
    MAX_FRAME,
    PADDED,
    PREFACE,
    PRIORITY,
    WINDOW,
    Code,
    Http2Error,
    Kind,
    ServerConnection,
    frame,
)
from rempart.workloads.http2_headers import MAX_HEADERS, Headers, header_block, well_formed

REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/SpiffeWorkloadAPI/FetchX509SVID"),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("workload.spiffe.io", "true"),
]
BLOCK = header_block(*REQUEST)
BEGIN = PREFACE + frame(Kind.SETTINGS, 0, 0)
OPEN = frame(Kind.HEADERS, END_HEADERS, 1, BLOCK)
WHOLE = frame(Kind.HEADERS, END_HEADERS | END_STREAM, 1, BLOCK)


class Told:
    def __init__(self) -> None:
        self.headers: dict[int, Headers] = {}
        self.data: dict[int, bytes] = {}
        self.over: list[int] = []
        self.given_up: list[int] = []

    def opened(self, stream: int, headers: Headers) -> None:
        self.headers[stream] = headers

    def received(self, stream: int, data: bytes) -> None:
        self.data[stream] = self.data.get(stream, b"") + data

    def ended(self, stream: int) -> None:
        self.over.append(stream)

    def reset(self, stream: int) -> None:
        self.given_up.append(stream)

    def writable(self) -> None: ...


class Pair:
    """`h2` as the client, ours as the server; what is said goes across at once."""

    def __init__(self) -> None:
        self.told = Told()
        self.server = ServerConnection(self.told, max_streams=4)
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.client.initiate_connection()
        self.events: list[Any] = []
        self.exchange()

    def exchange(self) -> None:
        for _ in range(50):
            said = self.client.data_to_send()
            if said:
                self.server.receive(said, 1000)
            answer, self.server.out[:] = b"".join(self.server.out), []
            if not said and not answer:
                return
            self.events += self.client.receive_data(answer)

    def heard(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def test_a_request_and_its_answer_cross() -> None:
    pair = Pair()
    pair.client.send_headers(1, REQUEST)
    pair.client.send_data(1, b"question", end_stream=True)
    pair.exchange()
    assert [(name.decode(), value.decode()) for name, value in pair.told.headers[1]] == REQUEST
    assert (pair.told.data[1], pair.told.over) == (b"question", [1])
    pair.server.send_headers(1, header_block((":status", "200"), ("long", "x" * 300)))
    assert pair.server.send_data(1, b"answer") == 6
    pair.server.send_headers(1, header_block(("grpc-status", "0")), end=True)
    pair.exchange()
    (response,) = pair.heard(h2.events.ResponseReceived)
    assert dict(response.headers)[b"long"] == b"x" * 300
    assert pair.heard(h2.events.DataReceived)[0].data == b"answer"
    assert pair.heard(h2.events.TrailersReceived)
    assert pair.heard(h2.events.StreamEnded)


def test_what_the_peers_windows_have_no_room_for_waits() -> None:
    pair = Pair()
    pair.client.send_headers(1, REQUEST, end_stream=True)
    pair.exchange()
    answer = bytes(200_000)
    pair.server.send_headers(1, header_block((":status", "200")))
    sent = 0
    while sent < len(answer):
        now = pair.server.send_data(1, answer[sent:])
        assert now
        sent += now
        pair.exchange()
        for event in pair.heard(h2.events.DataReceived):
            pair.client.acknowledge_received_data(event.flow_controlled_length, 1)
        pair.events.clear()
        pair.exchange()
    assert pair.server.send_data(1, b"more") == 4


def test_data_that_nobody_takes_ends_in_a_full_window_and_taking_it_opens_that() -> None:
    pair = Pair()
    pair.client.send_headers(1, REQUEST)
    for _ in range(3):
        pair.client.send_data(1, bytes(MAX_FRAME))
    pair.exchange()
    assert pair.client.local_flow_control_window(1) == WINDOW - 3 * MAX_FRAME
    pair.server.taken(1, 3 * MAX_FRAME)
    pair.exchange()
    assert pair.client.local_flow_control_window(1) == WINDOW
    for _ in range(2):
        pair.client.send_data(1, bytes(9000), pad_length=200)
    pair.exchange()
    pair.client.reset_stream(1)
    pair.exchange()
    assert pair.told.given_up == [1]
    pair.client.send_headers(3, REQUEST)
    assert pair.client.local_flow_control_window(3) == WINDOW  # what the stream held was given back


def test_one_stream_too_many_is_refused_and_the_others_go_on() -> None:
    pair = Pair()
    raw = b"".join(frame(Kind.HEADERS, END_HEADERS, number, BLOCK) for number in (1, 3, 5, 7, 9))
    pair.server.receive(raw, 100)
    assert list(pair.told.headers) == [1, 3, 5, 7]
    assert frame(Kind.RST_STREAM, 0, 9, Code.REFUSED_STREAM.to_bytes(4, "big")) in pair.server.out
    pair.server.receive(frame(Kind.DATA, END_STREAM, 9, b"late") + frame(Kind.DATA, END_STREAM, 7, b"seven"), 100)
    assert pair.told.data == {7: b"seven"}


def test_an_answer_before_the_end_of_the_question_gives_the_stream_up() -> None:
    pair = Pair()
    pair.client.send_headers(1, REQUEST)
    pair.exchange()
    pair.server.send_headers(1, header_block((":status", "200"), ("grpc-status", "3")), end=True)
    pair.exchange()
    assert pair.heard(h2.events.StreamEnded)
    (reset,) = pair.heard(h2.events.StreamReset)
    assert reset.error_code == 0


def test_a_window_that_shrinks_below_what_was_sent_stops_us() -> None:
    pair = Pair()
    pair.client.send_headers(1, REQUEST, end_stream=True)
    pair.exchange()
    assert pair.server.send_data(1, bytes(1000)) == 1000
    pair.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 100})
    pair.server.receive(pair.client.data_to_send(), 10)
    assert pair.server.send_data(1, b"more") == 0


def broken(*frames: bytes) -> Code | None:
    """What ends a connection that says this after its preface; None when nothing does."""
    server = ServerConnection(Told(), max_streams=4)
    try:
        server.receive(b"".join(frames), 10_000)
    except Http2Error as error:
        return error.code
    return None


def setting(name: int, value: int) -> bytes:
    return frame(Kind.SETTINGS, 0, 0, name.to_bytes(2, "big") + value.to_bytes(4, "big"))


# (section of RFC 9113, what breaks it, the error that it asks for)
RULES: list[tuple[str, bytes, Code]] = [
    ("3.4 preface", b"GET / HTTP/1.1\r\n\r\n", Code.PROTOCOL_ERROR),
    ("3.4 settings first", PREFACE + frame(Kind.PING, 0, 0, bytes(8)), Code.PROTOCOL_ERROR),
    ("4.2 frame size", BEGIN + b"\x00\x40\x01" + bytes((0, 0, 0, 0, 0, 1)), Code.FRAME_SIZE_ERROR),
    ("4.3 compression", BEGIN + frame(Kind.HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff"), Code.COMPRESSION_ERROR),
    ("4.3 nothing between", BEGIN + frame(Kind.HEADERS, 0, 1, BLOCK) + OPEN, Code.PROTOCOL_ERROR),
    ("5.1 data when idle", BEGIN + frame(Kind.DATA, 0, 1, b"x"), Code.PROTOCOL_ERROR),
    ("5.1 reset when idle", BEGIN + frame(Kind.RST_STREAM, 0, 1, bytes(4)), Code.PROTOCOL_ERROR),
    ("5.1 window when idle", BEGIN + frame(Kind.WINDOW_UPDATE, 0, 1, b"\0\0\0\1"), Code.PROTOCOL_ERROR),
    ("5.1 data after the end", BEGIN + WHOLE + frame(Kind.DATA, 0, 1, b"x"), Code.STREAM_CLOSED),
    ("5.1 headers after the end", BEGIN + WHOLE + WHOLE, Code.STREAM_CLOSED),
    ("5.1.1 even stream", BEGIN + frame(Kind.HEADERS, END_HEADERS, 2, BLOCK), Code.PROTOCOL_ERROR),
    ("5.3.1 depends on itself", BEGIN + frame(Kind.HEADERS, END_HEADERS | PRIORITY, 1, b"\0\0\0\1\0" + BLOCK),
     Code.PROTOCOL_ERROR),
    ("6.1 data on stream 0", BEGIN + frame(Kind.DATA, 0, 0, b"x"), Code.PROTOCOL_ERROR),
    ("6.1 padding", BEGIN + OPEN + frame(Kind.DATA, PADDED, 1, b"\x05abc"), Code.PROTOCOL_ERROR),
    ("6.2 headers on stream 0", BEGIN + frame(Kind.HEADERS, END_HEADERS, 0, BLOCK), Code.PROTOCOL_ERROR),
    ("6.2 padding", BEGIN + frame(Kind.HEADERS, END_HEADERS | PADDED, 1, b"\xff" + BLOCK), Code.PROTOCOL_ERROR),
    ("6.3 priority on 0", BEGIN + frame(Kind.PRIORITY, 0, 0, bytes(5)), Code.PROTOCOL_ERROR),
    ("6.3 priority size", BEGIN + frame(Kind.PRIORITY, 0, 1, bytes(4)), Code.FRAME_SIZE_ERROR),
    ("6.4 reset on 0", BEGIN + frame(Kind.RST_STREAM, 0, 0, bytes(4)), Code.PROTOCOL_ERROR),
    ("6.4 reset size", BEGIN + OPEN + frame(Kind.RST_STREAM, 0, 1, bytes(3)), Code.FRAME_SIZE_ERROR),
    ("6.5 settings on a stream", BEGIN + frame(Kind.SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
    ("6.5 settings size", BEGIN + frame(Kind.SETTINGS, 0, 0, bytes(5)), Code.FRAME_SIZE_ERROR),
    ("6.5 ack with content", BEGIN + frame(Kind.SETTINGS, ACK, 0, bytes(6)), Code.FRAME_SIZE_ERROR),
    ("6.5.2 push", BEGIN + setting(2, 2), Code.PROTOCOL_ERROR),
    ("6.5.2 window", BEGIN + setting(4, 1 << 31), Code.FLOW_CONTROL_ERROR),
    ("6.5.2 small frames", BEGIN + setting(5, 16383), Code.PROTOCOL_ERROR),
    ("6.5.2 large frames", BEGIN + setting(5, 1 << 24), Code.PROTOCOL_ERROR),
    ("6.6 push", BEGIN + frame(Kind.PUSH_PROMISE, 0, 1, bytes(4)), Code.PROTOCOL_ERROR),
    ("6.7 ping on a stream", BEGIN + frame(Kind.PING, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
    ("6.7 ping size", BEGIN + frame(Kind.PING, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
    ("6.8 goaway on a stream", BEGIN + frame(Kind.GOAWAY, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
    ("6.9 no window", BEGIN + frame(Kind.WINDOW_UPDATE, 0, 0, bytes(4)), Code.PROTOCOL_ERROR),
    ("6.9 window size", BEGIN + frame(Kind.WINDOW_UPDATE, 0, 0, bytes(3)), Code.FRAME_SIZE_ERROR),
    ("6.9.1 too large", BEGIN + frame(Kind.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), Code.FLOW_CONTROL_ERROR),
    ("6.9.1 too large on a stream", BEGIN + OPEN + frame(Kind.WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"),
     Code.FLOW_CONTROL_ERROR),
    ("6.9.1 too much", BEGIN + OPEN + frame(Kind.DATA, 0, 1, bytes(MAX_FRAME)) * 4, Code.FLOW_CONTROL_ERROR),
    ("6.10 continuation of nothing", BEGIN + frame(Kind.CONTINUATION, 0, 1, BLOCK), Code.PROTOCOL_ERROR),
    ("6.10 of another stream", BEGIN + frame(Kind.HEADERS, 0, 1, BLOCK) + frame(Kind.CONTINUATION, 4, 3, b""),
     Code.PROTOCOL_ERROR),
    ("8.1 headers in the middle", BEGIN + OPEN + OPEN, Code.PROTOCOL_ERROR),
    ("10.5.1 headers without end",
     BEGIN + frame(Kind.HEADERS, 0, 1, b"") + frame(Kind.CONTINUATION, 0, 1, bytes(9000)) * 2, Code.ENHANCE_YOUR_CALM),
    ("10.5.1 empty continuations", BEGIN + frame(Kind.HEADERS, 0, 1, BLOCK) + frame(Kind.CONTINUATION, 0, 1),
     Code.ENHANCE_YOUR_CALM),
    ("10.5.1 a list too large", BEGIN + frame(Kind.HEADERS, END_HEADERS, 1, BLOCK + header_block(("a", "b")) * 500),
     Code.COMPRESSION_ERROR),
]  # fmt: skip


@pytest.mark.parametrize(("said", "code"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES])
def test_what_may_not_be_said_ends_the_connection(said: bytes, code: Code) -> None:
    assert broken(said) is code


@pytest.mark.parametrize(
    "said",
    [
        frame(Kind.PRIORITY, 0, 9, bytes(5)),
        OPEN + frame(Kind.RST_STREAM, 0, 1, bytes(4)) + frame(Kind.DATA, 0, 1, b"late"),
        OPEN + frame(Kind.WINDOW_UPDATE, 0, 1, b"\0\0\0\1"),
        OPEN + frame(Kind.HEADERS, END_HEADERS | END_STREAM, 1, header_block(("trailer", "x"))),
        frame(Kind.HEADERS, END_STREAM, 1, BLOCK[:20]) + frame(Kind.CONTINUATION, END_HEADERS, 1, BLOCK[20:]),
        bytes((0, 0, 3, 0xFA, 0xFF, 0, 0, 0, 7)) + b"new",  # a kind of frame that isn't known (section 4.1)
        setting(0xABCD, 1),
        frame(Kind.GOAWAY, 0, 0, bytes(8)),
    ],
)
def test_what_may_be_said_is_taken(said: bytes) -> None:
    assert broken(BEGIN, said) is None


def test_a_ping_is_answered_and_settings_are_acknowledged() -> None:
    server = ServerConnection(Told(), max_streams=4)
    server.receive(BEGIN + frame(Kind.PING, 0, 0, b"12345678") + frame(Kind.PING, ACK, 0, b"87654321"), 100)
    assert server.out[1:] == [frame(Kind.SETTINGS, ACK, 0), frame(Kind.PING, ACK, 0, b"12345678")]


def test_only_as_many_frames_as_asked_for_are_understood_at_once() -> None:
    server = ServerConnection(Told(), max_streams=4)
    said = BEGIN + frame(Kind.PING, 0, 0, bytes(8)) * 99
    assert [server.receive(said if turn == 0 else b"", 32) for turn in range(5)] == [32, 32, 32, 4, 0]


@pytest.mark.parametrize(
    "headers",
    [
        REQUEST[1:],
        REQUEST[:2] + REQUEST[3:],
        [*REQUEST, (":path", "/twice")],
        [REQUEST[0], *REQUEST],
        [*REQUEST, ("Upper", "x")],
        [*REQUEST, ("connection", "close")],
        [*REQUEST, ("te", "gzip")],
        [(":status", "200"), *REQUEST],
        [*REQUEST, ("", "x")],
    ],
)
def test_a_request_that_is_not_well_formed(headers: list[tuple[str, str]]) -> None:
    assert well_formed([(name.encode(), value.encode()) for name, value in REQUEST])
    assert not well_formed([(name.encode(), value.encode()) for name, value in headers])


_NUMBERS = st.integers(0, 12)
_FRAMES = st.one_of(
    st.builds(frame, st.sampled_from(list(Kind)), st.integers(0, 255), _NUMBERS, st.binary(max_size=40)),
    st.builds(lambda number, flags: frame(Kind.HEADERS, flags, number, BLOCK), _NUMBERS, st.integers(0, 255)),
    st.builds(lambda number, size: frame(Kind.DATA, 0, number, bytes(size)), _NUMBERS, st.integers(0, MAX_FRAME)),
    st.binary(max_size=60),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_FRAMES, max_size=30), st.lists(st.integers(1, 5000), max_size=10))
def test_nothing_that_a_peer_sends_raises_anything_else_or_is_kept_without_bound(
    frames: list[bytes], cuts: list[int]
) -> None:
    told = Told()
    server = ServerConnection(told, max_streams=4)
    rest = BEGIN + b"".join(frames)
    with contextlib.suppress(Http2Error):
        for cut in [*cuts, len(rest)]:
            server.receive(rest[:cut], 1000)
            rest = rest[cut:]
            assert len(server._flows) <= 4
            assert sum(flow.unread for flow in server._flows.values()) <= WINDOW
            assert server._block is None or len(server._block[2]) <= MAX_HEADERS + MAX_FRAME


def test_blocks_of_references_mean_what_the_table_says_now() -> None:
    """A block that was seen before isn't decoded again, until the table has changed under it."""
    told = Told()
    connection = ServerConnection(told, max_streams=64)
    connection.receive(BEGIN, 9)
    encoder = hpack.Encoder()
    for number, version in enumerate(("1", "1", "1", "2", "2", "1", "3", "3")):
        headers = [*REQUEST, ("version", version)]
        stream = 2 * number + 1
        connection.receive(frame(Kind.HEADERS, END_HEADERS | END_STREAM, stream, encoder.encode(headers)), 9)
        assert told.headers[stream] == [(name.encode(), value.encode()) for name, value in headers]
    assert told.headers[3] is not told.headers[1]
    assert told.headers[5] is told.headers[3]
    assert told.headers[15] is not told.headers[13]


@settings(max_examples=50)
@given(st.lists(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("12345")), max_size=6), max_size=30))
def test_header_blocks_as_hpack_decodes_them(requests: list[list[tuple[str, str]]]) -> None:
    """With a table so small that entries are pushed out of it."""
    encoder, told = hpack.Encoder(), Told()
    encoder.header_table_size = 128
    connection = ServerConnection(told, max_streams=64)
    connection.receive(BEGIN, 9)
    for number, headers in enumerate(requests):
        stream = 2 * number + 1
        connection.receive(frame(Kind.HEADERS, END_HEADERS | END_STREAM, stream, encoder.encode(headers)), 9)
        assert told.headers[stream] == [(name.encode(), value.encode()) for name, value in headers]
