"""What a connection of the Workload API writes when, over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Mapping

from tests.support import short_directory

from rempart.workloads.grpc_server import GrpcServer
from rempart.workloads.grpc_stream import Rpc, Stream
from rempart.workloads.http2 import ACK, END_HEADERS, END_STREAM, PREFACE, Kind, frame
from rempart.workloads.http2_headers import header_block
from rempart.workloads.process import Process

BEGIN = PREFACE + frame(Kind.SETTINGS, 0, 0)
PING = frame(Kind.PING, 0, 0, b"12345678")
PONG = frame(Kind.PING, ACK, 0, b"12345678")


def asking(stream: int) -> bytes:
    block = header_block(
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/test/Ask"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
    )
    headers = frame(Kind.HEADERS, END_HEADERS, stream, block)
    return headers + frame(Kind.DATA, END_STREAM, stream, b"\0\0\0\0\0")


class Asked:
    """Answers when `let` is set; a stream ends when `end` is."""

    def __init__(self, *, once: bool = True) -> None:
        self.let, self.end = asyncio.Event(), asyncio.Event()
        self.once = once

    def rpcs(self) -> Mapping[str, Rpc]:
        return {"/test/Ask": Rpc(self.answer, bytes, self.once)}

    async def answer(self, process: Process, stream: Stream) -> None:
        await stream.recv_message()
        await self.let.wait()
        await stream.send_message(b"answer")
        if not self.once:
            await self.end.wait()


@contextlib.asynccontextmanager
async def connected(service: Asked) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    server = GrpcServer([service])
    with short_directory() as directory, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "s"))
        listening.listen()
        await server.serve(listening)
        reader, writer = await asyncio.open_unix_connection(str(directory / "s"))
        async with asyncio.timeout(20):
            yield reader, writer
        writer.close()
        server.close()
        await asyncio.sleep(0)


async def conversation(*, at_once: bool, asked: int = 1) -> tuple[bytes, bytes]:
    """What came until the ping's answer, and until the last answer's trailers."""
    service = Asked()
    async with connected(service) as (reader, writer):
        if at_once:
            service.let.set()
        writer.write(BEGIN + PING + b"".join(asking(2 * number + 1) for number in range(asked)))
        first = await reader.readuntil(PONG)
        service.let.set()
        rest = b""
        while rest.count(b"grpc-status") < asked:
            rest += await reader.read(65536)
    return first, rest


def test_a_ping_is_answered_before_a_request_that_takes_long() -> None:
    first, rest = asyncio.run(conversation(at_once=False))
    assert b"answer" not in first
    assert b"answer" in rest


def test_a_ping_is_answered_before_the_answer_that_goes_with_it() -> None:
    first, rest = asyncio.run(conversation(at_once=True))
    assert b"answer" not in first
    assert b"answer" in rest


def test_a_ping_is_answered_with_nothing_to_go_with_it() -> None:
    async def main() -> None:
        async with connected(Asked()) as (reader, writer):
            writer.write(BEGIN)
            await reader.readuntil(frame(Kind.SETTINGS, ACK, 0))
            writer.write(PING)
            assert await reader.readexactly(len(PONG)) == PONG

    asyncio.run(main())


def test_an_answer_of_one_message_is_one_write() -> None:
    """Which wakes the client once; a stream's messages don't wait for its end."""

    async def main(*, once: bool) -> list[bytes]:
        service = Asked(once=once)
        async with connected(service) as (reader, writer):
            writer.write(BEGIN + asking(1))
            await reader.readuntil(frame(Kind.SETTINGS, ACK, 0))
            service.let.set()
            first = await reader.read(65536)
            service.end.set()
            rest = b"" if b"grpc-status" in first else await reader.read(65536)
        return [first, rest]

    whole, nothing = asyncio.run(main(once=True))
    assert b"answer" in whole
    assert b"grpc-status" in whole
    assert nothing == b""
    message, end = asyncio.run(main(once=False))
    assert b"answer" in message
    assert b"answer" not in end
    assert b"grpc-status" in end


def test_all_requests_of_a_connection_are_answered() -> None:
    _, rest = asyncio.run(conversation(at_once=True, asked=40))
    assert rest.count(b"answer") == 40
    assert rest.count(b"grpc-status") == 40


def test_not_a_word_before_it_is_known_who_is_there() -> None:
    """Who hears the server's first frames and executes another program then has been looked at before."""

    async def main() -> None:
        service, looked = Asked(), asyncio.get_running_loop().create_future()
        service.let.set()
        server = GrpcServer([service], greet=lambda process: looked)
        with short_directory() as directory, socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(directory / "s"))
            listening.listen()
            await server.serve(listening)
            reader, writer = await asyncio.open_unix_connection(str(directory / "s"))
            writer.write(BEGIN + PING + asking(1))
            first = asyncio.create_task(reader.read(65536))
            other, its_writer = await asyncio.open_unix_connection(str(directory / "s"))
            for _ in range(50):
                await asyncio.sleep(0)
            assert server.connections == 2
            assert not first.done()
            looked.set_result(None)
            async with asyncio.timeout(20):
                said = await first
                while b"grpc-status" not in said:
                    said += await reader.read(65536)
                assert await other.readexactly(9)  # its settings, though it said nothing
            assert PONG in said
            assert b"answer" in said
            writer.close()
            its_writer.close()
            server.close()
            await asyncio.sleep(0)

    asyncio.run(main())


def test_a_look_that_fails_is_told_to_who_asks_and_is_no_error_of_the_loop() -> None:
    unheard: list[object] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
        service = Asked()
        service.let.set()

        async def look() -> None:
            raise ConnectionError("the supervisor is away")

        server = GrpcServer([service], greet=lambda process: asyncio.create_task(look()))
        with short_directory() as directory, socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(directory / "s"))
            listening.listen()
            await server.serve(listening)
            reader, writer = await asyncio.open_unix_connection(str(directory / "s"))
            writer.write(BEGIN + PING)
            async with asyncio.timeout(20):
                await reader.readuntil(PONG)
            writer.close()
            server.close()
            await asyncio.sleep(0)

    asyncio.run(main())
    gc.collect()
    assert not unheard
