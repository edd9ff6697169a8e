"""What is written in one turn of the loop goes out together, in order, and nothing is held back longer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp
from tests.support import short_directory

from rempart.servers.asgi import _OneWrite, asgi_server, metrics_alone


class Wire:
    """A transport that keeps what it was given."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        assert not self.closing
        self.got.append(data)

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing


def test_one_turn_is_one_write_and_closing_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        wire: Any = Wire()
        transport = _OneWrite(wire)
        transport.write(b"head ")
        transport.write(b"body")
        assert wire.got == []
        await asyncio.sleep(0)
        assert wire.got == [b"head body"]
        transport.write(b"last")
        transport.close()
        assert (wire.got, transport.is_closing()) == ([b"head body", b"last"], True)
        transport.write(b"too late")
        await asyncio.sleep(0)
        assert wire.got == [b"head body", b"last"]

    asyncio.run(scenario())


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    with short_directory() as directory, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "s"))
        listening.listen()
        server = asgi_server(app)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        reader, writer = await asyncio.open_unix_connection(str(directory / "s"))
        try:
            yield reader, writer
        finally:
            writer.close()
            server.should_exit = True
            await serving


async def head_of(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)


def test_a_stream_arrives_as_it_is_made() -> None:
    async def scenario() -> None:
        more = asyncio.Event()

        async def parts() -> AsyncIterator[str]:
            yield "first"
            await more.wait()
            yield "second"

        async def stream(request: Request) -> Response:
            return StreamingResponse(parts())

        async with served(Starlette(routes=[Route("/", stream)])) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b" 200 " in await head_of(reader)
            assert await asyncio.wait_for(reader.readexactly(10), 5) == b"5\r\nfirst\r\n"
            more.set()
            assert await asyncio.wait_for(reader.readexactly(16), 5) == b"6\r\nsecond\r\n0\r\n\r\n"

    asyncio.run(scenario())


def test_who_makes_more_than_is_read_waits() -> None:
    async def scenario() -> None:
        made = 0

        async def parts() -> AsyncIterator[bytes]:
            nonlocal made
            for _ in range(2000):
                made += 1
                yield bytes(16 * 1024)

        async def stream(request: Request) -> Response:
            return StreamingResponse(parts())

        async with served(Starlette(routes=[Route("/", stream)])) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await head_of(reader)
            assert made < 500  # of 32 MiB
            rest = 0
            while rest < 2000 * 16 * 1024:
                rest += len(await asyncio.wait_for(reader.read(1 << 20), 10))
            assert made == 2000

    asyncio.run(scenario())


@pytest.mark.parametrize(("method", "status", "body"), [("GET", 200, b"hello"), ("HEAD", 200, b""), ("PUT", 204, b"")])
def test_answers_with_and_without_a_body_on_one_connection(method: str, status: int, body: bytes) -> None:
    async def scenario() -> None:
        async def answer(request: Request) -> Response:
            return Response(status_code=204) if request.method == "PUT" else PlainTextResponse("hello")

        app = Starlette(routes=[Route("/", answer, methods=["GET", "PUT"])])
        async with served(app) as (reader, writer):
            for _ in range(3):
                writer.write(f"{method} / HTTP/1.1\r\nhost: x\r\n\r\n".encode())
                head = await head_of(reader)
                assert head.startswith(f"HTTP/1.1 {status} ".encode())
                assert await asyncio.wait_for(reader.readexactly(len(body)), 5) == body
            writer.write(f"{method} / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
            assert (await asyncio.wait_for(reader.read(), 5)).endswith(b"\r\n\r\n" + body)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/metrics", 200),
        ("GET", "/healthz", 200),
        ("POST", "/metrics", 404),
        ("GET", "/risks", 404),
        ("DELETE", "/risks/usr_1", 404),
        ("POST", "/silences", 404),
        ("GET", "/metrics/../risks", 404),
    ],
)
def test_who_may_read_metrics_is_no_operator(method: str, path: str, status: int) -> None:
    reached = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])
        await PlainTextResponse("done")(scope, receive, send)

    async def scenario() -> int:
        async with served(metrics_alone(app)) as (reader, writer):
            writer.write(f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".encode())
            return int((await head_of(reader)).split()[1])

    assert asyncio.run(scenario()) == status
    assert bool(reached) == (status == 200)
