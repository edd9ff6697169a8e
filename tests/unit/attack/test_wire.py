"""The attacker's HTTP client sends exactly what it is told, and reads what comes or says why nothing did."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.attack.handshakes import client_hello
from rempart.attack.wire import NoAnswer, Reply, encode, exchange, read_replies


def fed(data: bytes, use: Callable[[socket.socket], object]) -> object:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(1)

        def feed() -> None:
            theirs.sendall(data)
            theirs.shutdown(socket.SHUT_WR)

        feeder = threading.Thread(target=feed)
        feeder.start()
        try:
            return use(ours)
        finally:
            feeder.join()


def test_a_request_goes_out_as_it_was_given() -> None:
    raw = encode("GET", "//a/%2e%2e/b\\c", [("X_Spiffe_Id", "x"), ("X-A", "1\r\n folded"), ("host", "people")])
    lines = [b"GET //a/%2e%2e/b\\c HTTP/1.1", b"X_Spiffe_Id: x", b"X-A: 1", b" folded", b"host: people"]
    assert raw.split(b"\r\n") == [*lines, b"Connection: close", b"", b""]
    assert b"Content-Length: 2\r\n" in encode("POST", "/", (), b"{}")
    assert b"Content-Length" not in encode("POST", "/", [("Transfer-Encoding", "chunked")], b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 14\r\nX-A: 1\r\n\r\n" + b'{"code": "no"}', (403, "no")),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            (200, ""),
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, "")),
        (b'HTTP/1.0 400 Bad\r\n\r\n{"error": "invalid_grant"}', (400, "invalid_grant")),
    ],
)
def test_answers_are_read_however_they_are_framed(data: bytes, expected: tuple[int, str]) -> None:
    reply = fed(data, lambda channel: exchange(channel, b"x")[0])
    assert isinstance(reply, Reply)
    assert (reply.status, reply.code) == expected


def test_several_answers_on_one_connection_are_told_apart() -> None:
    one = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"
    replies = fed(one * 2, lambda channel: read_replies(channel, 3))
    assert isinstance(replies, list)
    assert [reply.status for reply in replies] == [400, 400]


@settings(max_examples=60)
@given(st.binary(max_size=200))
def test_anything_else_is_no_answer(data: bytes) -> None:
    try:
        fed(b"\x15\x03\x01" + data, lambda channel: exchange(channel, b"x"))
    except NoAnswer:
        return
    raise AssertionError("that was no HTTP")


@pytest.mark.parametrize("version", [0x0300, 0x0301, 0x0302, 0x0303])
def test_a_client_hello_has_consistent_lengths(version: int) -> None:
    record = client_hello(version, (0x002F, 0x0035))
    assert record[0] == 0x16
    assert int.from_bytes(record[3:5], "big") == len(record) - 5
    assert int.from_bytes(record[6:9], "big") == len(record) - 9
    assert int.from_bytes(record[9:11], "big") == version
