"""Two sockets, one JSON line each way: `control.sock` for the operator, `supervisor.sock` for the identity process.

Who asks is what the kernel says (SO_PEERCRED, unix(7)), never what is written on the line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from rempart.kernel.errors import BadInput, Denied, RempartError

MAX_LINE = 1 << 16
IDLE_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Peer:
    pid: int
    uid: int


def peer_of(writer: asyncio.StreamWriter) -> Peer:
    connection: socket.socket = writer.get_extra_info("socket")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", raw)
    return Peer(pid, uid)


Answer = Callable[[Peer, dict[str, Any]], AsyncIterator[dict[str, Any]]]


class LineServer:
    """Serves a listening socket: each line is a question, each answer one or several lines."""

    def __init__(self, listening: socket.socket, answer: Answer) -> None:
        self._listening = listening
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, sock=self._listening, limit=MAX_LINE)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in tuple(self._open):
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError, asyncio.LimitOverrunError, ValueError, TimeoutError):
            peer = peer_of(writer)
            while True:
                async with asyncio.timeout(IDLE_TIMEOUT):
                    line = await reader.readline()
                if not line:
                    break
                await self._one(peer, line, writer)
        writer.close()

    async def _one(self, peer: Peer, line: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            try:
                question = json.loads(line)
            except (ValueError, RecursionError):
                question = None
            if not isinstance(question, dict):
                raise BadInput("bad_question", "a question is one JSON object on one line")
            async for answer in self._answer(peer, question):
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except RempartError as error:
            problem = {"error": error.reason, "code": error.code, "remedy": error.remedy, "exit": error.exit_code}
            writer.write(json.dumps(problem).encode() + b"\n")
            await writer.drain()


Who = Callable[[int], dict[str, Any]]
Program = Callable[[int, bool], Awaitable[dict[str, Any]]]
Sign = Callable[[str, str], Awaitable[str]]
Roots = Callable[[str, list[str]], Awaitable[dict[str, Any]]]


def for_identity(who: Who, program: Program, sign: Sign, roots: Roots, asker: str = "identity") -> Answer:
    """Answers `{"who": PID, "hash": true?}`, `{"sign": KIND, "csr": PEM}` and `{"roots": KIND, "published": [SHA256]}`,
    to the process `identity` (on another host, its agent: `asker`) and to nobody else."""

    async def answer(peer: Peer, question: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        asking = who(peer.pid)
        if asking.get("name") != asker or asking.get("kind") != "system":
            raise Denied("not_identity", f"process {peer.pid} is not the identity process")
        if isinstance(pid := question.get("who"), int) and not isinstance(pid, bool):
            about = await program(pid, question.get("hash") is True)
            known = who(pid)
            same = known.get("start_time", about.get("start_time")) == about.get("start_time")
            yield {**about, **known} if same else known
        elif isinstance(kind := question.get("sign"), str) and isinstance(csr := question.get("csr"), str):
            yield {"certificate": await sign(kind, csr)}
        elif isinstance(kind := question.get("roots"), str) and isinstance(shown := question.get("published"), list):
            yield await roots(kind, [one for one in shown if isinstance(one, str)])
        else:
            raise BadInput("bad_question", "ask who, sign or roots")

    return answer


def for_operator(who: Who, operations: dict[str, Answer]) -> Answer:
    """Answers `{"op": NAME, …}` to the user who ran `up` (and to root), but to no process that the supervisor runs."""

    async def answer(peer: Peer, question: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        if peer.uid not in (0, os.geteuid()) or who(peer.pid).get("name") is not None:
            raise Denied("not_operator", "only the user who ran `rempart up` may ask this")
        name = question.get("op")
        operation = operations.get(name) if isinstance(name, str) else None
        if operation is None:
            raise BadInput("bad_question", f"there is no operation {name!r}", f"there are: {', '.join(operations)}")
        async for line in operation(peer, question):
            yield line

    return answer
