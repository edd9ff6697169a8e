"""What an application says is checked before it is written, and what it half said is not made to look whole."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rempart.protocols.asgi_exchange import Exchange

App = Callable[[Any, Any, Any], Awaitable[None]]


class Wire:
    """A connection that keeps what it was given."""

    def __init__(self) -> None:
        self.sent = b""
        self.writes = 0
        self.answers: list[Exchange] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.sent += data
        self.writes += 1

    async def drained(self) -> None:
        return None

    def taken(self) -> None:
        return None

    def answered(self, exchange: Exchange) -> None:
        self.answers.append(exchange)

    def abort(self) -> None:
        self.aborted = True


def run(app: App, method: str = "GET", version: str = "1.1") -> Wire:
    async def scenario() -> Wire:
        wire = Wire()
        scope = {"type": "http", "method": method, "path": "/links/single-use", "http_version": version}
        exchange = Exchange(wire, scope, keep_alive=version == "1.1", expects=False)
        exchange.ended()
        await exchange.run(app)
        await asyncio.sleep(0)
        return wire

    return asyncio.run(scenario())


def saying(*messages: dict[str, Any]) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


def start(status: int = 200, **headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": pairs}


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def test_an_answer_is_one_write() -> None:
    wire = run(saying(start(content_length="2", Content_Type="text/plain"), part(b"ok")))
    assert (wire.writes, len(wire.answers)) == (1, 1)
    assert wire.sent == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: text/plain\r\n\r\nok"


def test_an_answer_without_a_length_is_in_chunks_and_an_empty_part_ends_nothing() -> None:
    wire = run(saying(start(), part(b"", more=True), part(b"abc", more=True), part(b"", more=True), part(b"d")))
    assert wire.sent == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"


def test_http_1_0_knows_no_chunks() -> None:
    wire = run(saying(start(), part(b"abc")), version="1.0")
    assert wire.sent == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"
    assert not wire.answers[0].keep_alive


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_what_has_no_body_gets_none(method: str, status: int) -> None:
    wire = run(saying(start(status), part(b"abc" if method == "HEAD" else b"")), method)
    assert wire.sent.endswith(b"\r\n\r\n")
    assert b"abc" not in wire.sent
    assert b"chunked" not in wire.sent
    assert wire.answers


@pytest.mark.parametrize(
    "messages",
    [
        (start(x="a\r\nset-cookie: b"), part(b"")),
        (start(x="a\nb"), part(b"")),
        (start(x="a\0b"), part(b"")),
        (start(**{"x: y\r\nz": "1"}), part(b"")),
        (start(transfer_encoding="chunked"), part(b"")),
        (start(content_length="3"), part(b"abcd")),
        (start(content_length="3"), part(b"ab")),
        (start(204), part(b"abc")),
        (part(b"before its head"),),
        (start(), start()),
        (start(),),
        (),
    ],
)
def test_what_makes_no_sense_is_a_failure_that_says_so(
    messages: tuple[dict[str, Any], ...], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "rempart.asgi"):
        wire = run(saying(*messages))
    assert wire.sent.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b'"code": "internal_error"' in wire.sent
    assert b"set-cookie" not in wire.sent
    assert not wire.answers[0].keep_alive
    assert caplog.records


def test_a_failure_tells_the_log_and_not_the_client(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("the colour of the key")

    with caplog.at_level(logging.ERROR, "rempart.asgi"):
        wire = run(app)
    assert wire.sent.startswith(b"HTTP/1.1 500 ")
    assert b"colour" not in wire.sent
    assert "colour" in caplog.text
    assert "single-use" not in caplog.text


def test_what_fails_after_its_answer_takes_nothing_back(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(content_length="2"))
        await send(part(b"ok"))
        raise ValueError

    with caplog.at_level(logging.ERROR, "rempart.asgi"):
        wire = run(app)
    assert wire.sent.endswith(b"\r\n\r\nok")
    assert (wire.aborted, len(wire.answers)) == (False, 1)
    assert caplog.records


def test_half_an_answer_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send(part(b"half", more=True))
        raise ValueError

    wire = run(app)
    assert wire.aborted
    assert not wire.sent.endswith(b"0\r\n\r\n")
    assert not wire.answers


def test_a_head_does_not_wait_for_its_first_part() -> None:
    async def scenario() -> None:
        wire, go_on = Wire(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(start())
            await go_on.wait()
            await send(part(b"x"))

        scope = {"type": "http", "method": "GET", "path": "/", "http_version": "1.1"}
        exchange = Exchange(wire, scope, keep_alive=True, expects=False)
        running = asyncio.create_task(exchange.run(app))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert wire.sent.endswith(b"chunked\r\n\r\n")
        go_on.set()
        await running
        assert wire.sent.endswith(b"\r\n\r\n1\r\nx\r\n0\r\n\r\n")

    asyncio.run(scenario())
