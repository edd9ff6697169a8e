"""Applications on sockets: answers as they are made, a stop that ends nothing half, and who asks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from tests.asgi_support import line, running

from rempart.protocols.asgi_server import AsgiServer


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

        async with line(Starlette(routes=[Route("/", stream)])) as (reader, writer):
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

        async with line(Starlette(routes=[Route("/", stream)])) as (reader, writer):
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
        async with line(app) as (reader, writer):
            for _ in range(3):
                writer.write(f"{method} / HTTP/1.1\r\nhost: x\r\n\r\n".encode())
                head = await head_of(reader)
                assert head.startswith(f"HTTP/1.1 {status} ".encode())
                assert await asyncio.wait_for(reader.readexactly(len(body)), 5) == body
            writer.write(f"{method} / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
            assert (await asyncio.wait_for(reader.read(), 5)).endswith(b"\r\n\r\n" + body)

    asyncio.run(scenario())


async def get(path: Path) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)), timeout=5) as client:
        return await client.get("http://x/")


def test_a_stop_waits_for_what_is_in_flight_and_for_nothing_else() -> None:
    async def scenario() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow(request: Request) -> Response:
            begun.set()
            await go_on.wait()
            return PlainTextResponse("whole")

        async with running(Starlette(routes=[Route("/", slow)])) as (server, path):
            idle_reader, idle = await asyncio.open_unix_connection(str(path))
            asking = asyncio.create_task(get(path))
            await begun.wait()
            stopping = asyncio.create_task(server.stop(5))
            assert await asyncio.wait_for(idle_reader.read(), 5) == b""  # nobody waits for a request that may come
            idle.close()
            go_on.set()
            answer = await asking
            assert (answer.text, answer.headers["connection"]) == ("whole", "close")
            await asyncio.wait_for(stopping, 5)
            with pytest.raises(httpx.ConnectError):
                await get(path)
            await server.stop()

    asyncio.run(scenario())


def test_a_stop_ends_what_takes_too_long() -> None:
    async def scenario() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def endless(request: Request) -> Response:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            raise AssertionError

        async with running(Starlette(routes=[Route("/", endless)])) as (server, path):
            asking = asyncio.create_task(get(path))
            await begun.wait()
            await server.stop(0.05)
            with pytest.raises(httpx.RemoteProtocolError):
                await asking
            assert ended.is_set()

    asyncio.run(scenario())


def test_an_operator_is_named_by_the_kernel() -> None:
    import os

    async def who(request: Request) -> Response:
        return PlainTextResponse(request.client.host if request.client else "nobody")

    async def scenario(*, name_operator: bool) -> str:
        async with running(Starlette(routes=[Route("/", who)]), name_operator=name_operator) as (_, path):
            return (await get(path)).text

    assert asyncio.run(scenario(name_operator=True)) == f"uid:{os.getuid()}"
    assert asyncio.run(scenario(name_operator=False)) == "nobody"


def test_many_at_once_over_tcp_too() -> None:
    async def echo(request: Request) -> Response:
        return Response(await request.body(), headers={"x-from": str(request.client.host if request.client else "")})

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = AsgiServer(Starlette(routes=[Route("/", echo, methods=["POST"])]))
            await server.listen(listening)
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
            async with httpx.AsyncClient(timeout=10) as client:
                bodies = [bytes([number]) * (number * 4096) for number in range(60)]
                answers = await asyncio.gather(*(client.post(url, content=body) for body in bodies))
            assert [one.content for one in answers] == bodies
            assert {one.headers["x-from"] for one in answers} == {"127.0.0.1"}
            await server.stop()
            assert not server.connections

    asyncio.run(scenario())
