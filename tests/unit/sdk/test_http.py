"""Calls to other services over real unix sockets: what is passed on, what errors become, and what is asked twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sdk_support import ScriptedTransport
from tests.support import short_directory

from rempart.kernel.errors import Denied, NotFound, RempartError, Throttled, Unavailable
from rempart.kernel.spiffe import SpiffeId
from rempart.sdk import Answer, Caller, Question, ServiceClient, SocketTransport
from rempart.sdk.identity import current
from rempart.sdk.problems import decode
from rempart.sdk.workload import Address

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
Serve = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def served(answer: Serve) -> AsyncIterator[tuple[SocketTransport, list[bytes], list[int]]]:
    """A server that reads whole requests and lets `answer` write; what it read, and its number of connections."""
    with short_directory() as directory:
        path = str(directory / "s")
        read: list[bytes] = []
        connections = [0]
        writers: list[asyncio.StreamWriter] = []

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections[0] += 1
            writers.append(writer)
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while not writer.is_closing():
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = next(
                        (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0
                    )
                    read.append(head + await reader.readexactly(length))
                    await answer(read[-1], writer)
            writer.close()

        server = await asyncio.start_unix_server(connected, path)
        transport = SocketTransport(Address(path=path), name="people", connections=4)
        try:
            yield transport, read, connections
        finally:
            await transport.close()
            server.close()
            for writer in writers:
                writer.transport.abort()
            await asyncio.sleep(0.01)  # transports close in the next turns of the loop


async def ok(request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)


def play(answer: Serve, body: Callable[[SocketTransport, list[bytes], list[int]], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with served(answer) as (transport, read, connections):
            return await body(transport, read, connections)

    return asyncio.run(run())


def test_connections_are_kept_and_shared() -> None:
    async def body(transport: SocketTransport, read: list[bytes], connections: list[int]) -> None:
        for _ in range(5):
            assert (await transport.send(Question("GET", "/a?b=c"), 5)).status == 200
        assert connections == [1]
        await asyncio.gather(*(transport.send(Question("GET", "/"), 5) for _ in range(40)))
        assert connections[0] <= 4
        assert len(read) == 45
        assert read[0].startswith(b"GET /a?b=c HTTP/1.1\r\nhost: people\r\n")

    play(ok, body)


def test_a_body_is_sent_whole() -> None:
    async def body(transport: SocketTransport, read: list[bytes], connections: list[int]) -> None:
        await transport.send(Question("POST", "/", {"x": "y"}, b"hello"), 5)
        assert read[0].endswith(b"content-length: 5\r\n\r\nhello")
        await transport.send(Question("POST", "/"), 5)
        assert b"content-length: 0\r\n" in read[1]

    play(ok, body)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
def test_answers_of_several_forms(answer: bytes) -> None:
    async def write(request: bytes, writer: asyncio.StreamWriter) -> None:
        for byte in answer:
            writer.write(bytes([byte]))
            await writer.drain()

    async def body(transport: SocketTransport, read: list[bytes], connections: list[int]) -> None:
        for _ in range(2):
            found = await transport.send(Question("GET", "/"), 5)
            assert (found.status, found.body) == (200, b"{}")

    play(write, body)


@pytest.mark.parametrize(
    "garbage", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", b"\x00" * 100]
)
def test_what_is_no_answer_is_unavailable(garbage: bytes) -> None:
    async def write(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(garbage)
        await writer.drain()
        writer.close()

    async def body(transport: SocketTransport, read: list[bytes], connections: list[int]) -> None:
        with pytest.raises(Unavailable) as refused:
            await transport.send(Question("GET", "/"), 5)
        assert refused.value.code == "upstream_unavailable"

    play(write, body)


def test_too_long_a_wait_is_unavailable_and_the_late_answer_is_nobody_elses() -> None:
    async def write(request: bytes, writer: asyncio.StreamWriter) -> None:
        if b"GET /slow" in request:
            await asyncio.sleep(0.15)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow")
        else:
            writer.write(OK)

    async def body(transport: SocketTransport, read: list[bytes], connections: list[int]) -> None:
        with pytest.raises(Unavailable):
            await transport.send(Question("GET", "/slow"), 0.05)
        assert (await transport.send(Question("GET", "/quick"), 5)).body == b"{}"

    play(write, body)


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        (Question("GET", "/"), 2),
        (Question("POST", "/", {"idempotency-key": "k"}), 2),
        (Question("POST", "/"), 1),
        (Question("PATCH", "/"), 1),
    ],
)
def test_only_what_may_happen_twice_is_asked_twice(question: Question, asked: int) -> None:
    first = [True]

    async def write(request: bytes, writer: asyncio.StreamWriter) -> None:
        if first.pop() if first else False:
            writer.close()
        else:
            writer.write(OK)

    async def body(transport: SocketTransport, read: list[bytes], connections: list[int]) -> None:
        if asked == 2:
            assert (await transport.send(question, 5)).status == 200
        else:
            with pytest.raises(Unavailable):
                await transport.send(question, 5)
        assert len(read) == asked

    play(write, body)


def test_nobody_there(tmp_path: Path) -> None:
    transport = SocketTransport(Address(path=str(tmp_path / "none")), name="people")
    with pytest.raises(Unavailable):
        asyncio.run(transport.send(Question("GET", "/"), 1))


@pytest.mark.parametrize("target", ["/a b", "/a\r\nx: y", "/é", "/a\tb"])
def test_a_request_line_can_not_be_broken(target: str) -> None:
    with pytest.raises(ValueError, match="characters"):
        asyncio.run(SocketTransport(Address(path="/x"), name="people").send(Question("GET", target), 1))


def test_what_is_passed_on() -> None:
    transport = ScriptedTransport(lambda question: Answer(200, {}, b"{}"))
    client = ServiceClient("people", transport)
    who = Caller(
        SpiffeId.parse("spiffe://bank.example/rempart/gateway"),
        request_id="req-9",
        traceparent="00-aa-bb-01",
        authorization="Bearer t",
    )

    async def run() -> None:
        reset = current.set(who)
        await client.get_json("/a", dict[str, Any], query={"q": "x y&z"})
        await client.send_json("POST", "/b", {"n": 1}, dict[str, Any], headers={"idempotency-key": "k"})
        current.reset(reset)
        await client.get_bytes("/c")

    asyncio.run(run())
    first, second, third = transport.asked
    assert first.target == "/a?q=x+y%26z"
    assert (first.headers["authorization"], first.headers["x-request-id"]) == ("Bearer t", "req-9")
    assert first.headers["traceparent"] == "00-aa-bb-01"
    assert (second.body, second.headers["idempotency-key"]) == (b'{"n":1}', "k")
    assert "authorization" not in third.headers
    assert "Bearer" not in repr(first)


def refusal(status: int, body: bytes, **headers: str) -> RempartError:
    return decode(status, headers, body, of="people")


def test_refusals_come_back_as_what_they_were() -> None:
    error = refusal(403, b'{"code": "limit_exceeded", "detail": "too much", "remedy": "less", "decision_id": "dec_7"}')
    assert isinstance(error, Denied)
    assert (error.code, error.reason, error.remedy, error.decision_id) == (
        "limit_exceeded",
        "too much",
        "less",
        "dec_7",
    )
    assert isinstance(refusal(404, b'{"code": "x", "detail": "y"}'), NotFound)
    slow = decode(429, {"retry-after": "9"}, b'{"code": "x", "detail": "y"}', of="people")
    assert isinstance(slow, Throttled)
    assert slow.retry_after == 9
    assert refusal(403, b'{"code": "x", "decision_id": "a\\r\\nb: c"}').decision_id == ""


@given(st.integers(100, 599).filter(lambda s: not 200 <= s < 300), st.binary(max_size=80))
def test_any_other_answer_is_unavailable(status: int, body: bytes) -> None:
    error = refusal(status, body)
    assert isinstance(error, Unavailable)
    assert error.code == "upstream_failed"


def test_an_answer_of_another_shape_is_unavailable() -> None:
    class Account(msgspec.Struct):
        id: str

    for body in (b"", b"[]", b"{}", b'{"id": 1}', b"\xff", b"[" * 100_000):
        client = ServiceClient("people", ScriptedTransport(lambda question, body=body: Answer(200, {}, body)))  # type: ignore[misc]  # mypy can't infer a lambda with a default
        with pytest.raises(Unavailable) as refused:
            asyncio.run(client.get_json("/a", Account))
        assert refused.value.code == "bad_answer"
