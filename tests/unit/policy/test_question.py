"""What is read at once reads as httptools reads it, and what httptools refuses is never read at once."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.policy.question import plain

MOST = 200
WHOLE = (
    b"GET /authz/wallet?user_id=u1 HTTP/1.1\r\nhost: localhost:8443\r\ncontent-length: 0\r\n"
    b"x-rempart-ip: 127.0.0.1\r\nx-request-id: 0b8f1c3e\r\nauthorization: Bearer a.b.c\r\n\r\n"
)
Read = tuple[str, bytes, list[tuple[bytes, bytes]]]


class Parsed:
    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.ended = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ended += 1


def by_httptools(data: bytes) -> Read:
    """Fails for what is not exactly one message without a body on a connection that stays open."""
    parsed = Parsed()
    parser = httptools.HttpRequestParser(parsed)
    parser.feed_data(data)
    assert (parsed.ended, parsed.body, parser.should_keep_alive()) == (1, b"", True)
    return parser.get_method().decode(), parsed.url, parsed.headers


def test_what_envoy_writes_is_read_at_once() -> None:
    assert plain(WHOLE, MOST) == by_httptools(WHOLE)


@pytest.mark.parametrize(
    "data",
    [
        WHOLE[:-2],
        WHOLE + WHOLE,
        WHOLE + b"\r\n",
        WHOLE.replace(b"content-length: 0", b"content-length: 5"),
        WHOLE.replace(b"content-length: 0", b"transfer-encoding: chunked"),
        WHOLE.replace(b"content-length: 0", b"connection: close"),
        WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        WHOLE.replace(b"GET /", b"BREW /"),
        WHOLE.replace(b"GET /", b"GET  /"),
        WHOLE.replace(b"127.0.0.1", b"127.0.0.1\nx-rempart-peer: evil"),
        WHOLE.replace(b"127.0.0.1", b"127.0.0.1\rx"),
        WHOLE.replace(b"127.0.0.1", b"127\x000.0.1"),
        WHOLE.replace(b"127.0.0.1", b" 127.0.0.1"),
        WHOLE.replace(b"127.0.0.1", b""),
        WHOLE.replace(b"host: ", b"host:"),
        WHOLE.replace(b"host: ", b" host: "),
        WHOLE.replace(b"host", b"x-unknown"),
        WHOLE.replace(b"/authz/", b"/authz/\xc3\xa4"),
        b"\r\n" + WHOLE,
        b"\r\n\r\n",
        b"",
    ],
)
def test_anything_else_is_left_to_the_parser(data: bytes) -> None:
    assert plain(data, MOST) is None


def test_more_headers_than_are_accepted_are_left_to_the_parser() -> None:
    assert plain(WHOLE, 5) is not None
    assert plain(WHOLE, 4) is None


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(WHOLE)),
            st.integers(0, 3),
            st.sampled_from(
                [b"", b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b": ", b"\0", b"\x80", b"\x7f", b"#", b"a"]
            ),
        ),
        max_size=3,
    )
)
def test_whatever_is_read_at_once_httptools_reads_alike(edits: list[tuple[int, int, bytes]]) -> None:
    data = WHOLE
    for place, cut, put in edits:
        data = data[:place] + put + data[place + cut :]
    read = plain(data, MOST)
    if read is not None:
        assert read == by_httptools(data)
