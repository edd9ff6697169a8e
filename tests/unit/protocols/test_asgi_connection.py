"""HTTP/1.1 as a connection understands it: strictly, one after another, and not for as long as a client likes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.asgi_support import line, running

from rempart.protocols import asgi_connection, asgi_server

HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await answer_hello(send)


async def answer_hello(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


class Recorder:
    """Answers with the method, path and body of each request; keeps their scopes."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        self.scopes.append(scope)
        self.bodies.append(body)
        told = f"{scope['method']} {scope['path']} {len(body)};".encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(told))]})
        await send({"type": "http.response.body", "body": told})


def ask(sent: bytes, app: Any = hello) -> bytes:
    """All that comes back until the server closes, which it is asked for where the request doesn't say so."""

    async def scenario() -> bytes:
        async with line(app) as (reader, writer):
            with contextlib.suppress(ConnectionError):
                writer.write(sent)
                return await asyncio.wait_for(reader.read(), 5)
            return b""

    return asyncio.run(scenario())


LAST = b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def test_requests_sent_ahead_are_answered_in_their_order_and_nothing_after_the_last() -> None:
    app = Recorder()
    ahead = b"".join(
        b"POST /%d HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (n, n, b"x" * n) for n in range(50)
    )
    answer = ask(ahead + LAST + b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n", app)
    assert [scope["path"] for scope in app.scopes] == [*(f"/{n}" for n in range(50)), "/last"]
    assert app.bodies == [*(b"x" * n for n in range(50)), b""]
    assert [part.split(b"\r\n\r\n")[1].split(b";")[0] for part in answer.split(b"HTTP/1.1 200 OK")[1:]] == [
        *(b"POST /%d %d" % (n, n) for n in range(50)),
        b"GET /last 0",
    ]


def test_what_an_application_is_told() -> None:
    app = Recorder()
    ask(b"GET /a%20b/%C3%A9?q=1&r=%20 HTTP/1.1\r\nHost: X\r\nX-One: 1\r\nx-one: 2\r\nconnection: close\r\n\r\n", app)
    scope = app.scopes[0]
    assert scope["path"] == "/a b/é"
    assert scope["raw_path"] == b"/a%20b/%C3%A9"
    assert scope["query_string"] == b"q=1&r=%20"
    assert scope["headers"] == [(b"host", b"X"), (b"x-one", b"1"), (b"x-one", b"2"), (b"connection", b"close")]
    assert (scope["type"], scope["method"], scope["scheme"], scope["http_version"]) == ("http", "GET", "http", "1.1")
    assert (scope["root_path"], scope["client"]) == ("", None)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost : x\r\n\r\n",
        b"GET / HTTP/1.1\nhost: x\n\n",
        b"GET /\x00 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: a\r\n b\r\nhost: y\rz\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"CONNECT other:443 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 201 + b"\r\n",
    ],
)
def test_what_could_be_understood_in_two_ways_is_refused(sent: bytes) -> None:
    reached = Recorder()
    answer = ask(sent, reached)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"connection: close" in answer
    assert b'"code": "bad_request"' in answer
    assert reached.scopes == []


def test_what_came_before_nonsense_is_answered() -> None:
    answer = ask(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n\x00nonsense")
    assert answer.startswith(HELLO + b"HTTP/1.1 400 ")


def test_nonsense_in_a_body_ends_the_request_and_nothing_is_kept_of_it() -> None:
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            told.append(message["type"])
            if message["type"] == "http.disconnect":
                return

    answer = ask(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", app)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert told[-1] == "http.disconnect"


def test_a_trailer_is_no_header() -> None:
    app = Recorder()
    chunked = (
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-spiffe-id: me\r\n\r\n"
    )
    ask(chunked + LAST, app)
    assert app.bodies == [b"abc", b""]
    assert all(name != b"x-spiffe-id" for scope in app.scopes for name, _ in scope["headers"])


def test_an_upgrade_is_not_taken_up() -> None:
    app = Recorder()
    asked = b"GET /up HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    answer = ask(asked + LAST, app)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"connection: close\r\n\r\nGET /up 0;")
    assert len(app.scopes) == 1


def test_http_1_0_ends_with_its_answer() -> None:
    answer = ask(b"GET / HTTP/1.0\r\n\r\n")
    assert answer == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"


def test_who_asks_whether_to_go_on_is_told_when_somebody_reads() -> None:
    app = Recorder()

    async def scenario() -> None:
        async with line(app) as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n")
            assert await asyncio.wait_for(reader.readexactly(25), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"abc")
            assert b"POST / 3;" in await asyncio.wait_for(reader.readuntil(b";"), 5)

    asyncio.run(scenario())


def test_where_nobody_reads_the_body_that_was_asked_about_the_connection_ends() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    answer = ask(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n", app)
    assert answer == b"HTTP/1.1 413 Request Entity Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def test_a_body_that_nobody_reads_is_not_taken_for_the_next_request() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    body = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n" * 10_000
    answer = ask(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body + LAST, app)
    assert answer.count(b"HTTP/1.1 200 OK") == 2


def test_a_client_that_sends_more_than_is_read_waits() -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()
        read = 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal read
            await go_on.wait()
            more = True
            while more:
                message = await receive()
                read, more = read + len(message["body"]), message["more_body"]
            await answer_hello(send)

        async with line(app) as (reader, writer):
            size = 64 << 20
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
            sent = 0

            async def send_on() -> None:
                nonlocal sent
                while sent < size:
                    writer.write(bytes(1 << 20))
                    sent += 1 << 20
                    await writer.drain()

            with pytest.raises(TimeoutError):
                await asyncio.wait_for(send_on(), 0.3)
            assert sent < 16 << 20
            go_on.set()
            await asyncio.wait_for(send_on(), 20)
            assert (await asyncio.wait_for(reader.readexactly(len(HELLO)), 10)) == HELLO
            assert read == size

    asyncio.run(scenario())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi_server, "_LOOK", 0.02)
    monkeypatch.setattr(asgi_connection, "HEAD_WITHIN", 0.1)
    monkeypatch.setattr(asgi_connection, "BODY_WITHIN", 0.1)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nhost: x\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HT",
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nabc",
    ],
)
@pytest.mark.usefixtures("impatient")
def test_nobody_is_waited_for_for_ever(sent: bytes) -> None:
    async def scenario() -> None:
        async with line(hello, keep_alive=0.1) as (reader, writer):
            writer.write(sent)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 5) in (b"", HELLO)

    asyncio.run(scenario())


@pytest.mark.usefixtures("impatient")
def test_an_application_is_waited_for() -> None:
    """Neither while it works, nor while it lets a client wait with its body."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.4)
        await hello(scope, receive, send)

    async def scenario() -> None:
        async with line(app, keep_alive=0.1) as (reader, writer):
            for size in (0, 3 << 20):
                writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size + bytes(size))
                assert await asyncio.wait_for(reader.readexactly(len(HELLO)), 5) == HELLO

    asyncio.run(scenario())


CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "begun", [b"GET / HTTP/1.1\r\nhost: ", b"GET /", CHUNKED + b"1;x=", CHUNKED + b"1\r\na\r\n0\r\nx: "]
)
def test_what_has_no_end_is_refused(begun: bytes) -> None:
    async def scenario() -> None:
        async with line(hello) as (reader, writer):
            writer.write(begun)
            with contextlib.suppress(ConnectionError):
                for _ in range(64):
                    writer.write(b"x" * (64 * 1024))
                    await writer.drain()
            with contextlib.suppress(ConnectionError):
                assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 400 ")

    asyncio.run(scenario())


def test_who_is_gone_is_told_to_the_application() -> None:
    async def scenario() -> None:
        told: asyncio.Queue[str] = asyncio.Queue()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            told.put_nowait("asked")
            told.put_nowait((await receive())["type"])
            await send({"type": "http.response.start", "status": 200, "headers": []})  # into nothing
            await send({"type": "http.response.body", "body": b"x"})
            told.put_nowait("ended")

        async with line(app) as (_, writer):
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert await asyncio.wait_for(told.get(), 5) == "asked"
            writer.close()
            assert await asyncio.wait_for(told.get(), 5) == "http.disconnect"
            assert await asyncio.wait_for(told.get(), 5) == "ended"

    asyncio.run(scenario())


@given(st.lists(st.binary(min_size=1, max_size=80), max_size=8))
@settings(max_examples=60, deadline=None)
def test_no_bytes_end_the_server(pieces: list[bytes]) -> None:
    async def scenario() -> None:
        async with running(hello) as (_, path):
            _, bad = await asyncio.open_unix_connection(str(path))
            with contextlib.suppress(ConnectionError):
                for piece in (b"POST / HTTP/1.1\r\n", *pieces):
                    bad.write(piece)
                    await bad.drain()
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert await asyncio.wait_for(reader.readexactly(len(HELLO)), 5) == HELLO
            bad.close()
            writer.close()

    asyncio.run(scenario())


@given(
    st.lists(st.tuples(st.sampled_from(("GET", "POST")), st.binary(max_size=300)), min_size=1, max_size=6), st.data()
)
@settings(max_examples=60, deadline=None)
def test_however_it_is_cut_into_pieces_it_is_understood_alike(
    asked: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    stream = b""
    for number, (method, body) in enumerate(asked):
        head = f"{method} /{number} HTTP/1.1\r\nhost: x\r\n".encode()
        if number % 2:
            stream += head + b"transfer-encoding: chunked\r\n\r\n"
            stream += (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
        else:
            stream += head + b"content-length: %d\r\n\r\n%b" % (len(body), body)
    stream += LAST
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    app = Recorder()

    async def scenario() -> bytes:
        async with line(app) as (reader, writer):
            for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
                writer.write(stream[start:end])
                await writer.drain()
                await asyncio.sleep(0)
            return await asyncio.wait_for(reader.read(), 5)

    answer = asyncio.run(scenario())
    assert app.bodies == [*(body for _, body in asked), b""]
    assert answer.count(b"HTTP/1.1 200 OK") == len(asked) + 1
