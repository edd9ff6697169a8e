"""Call other services by the way Rempart gave: `REMPART_<SERVICE>_URL`, where this service's own sidecar listens.

The sidecar proves who we are (SVID, mTLS); the client passes on who we act for: the person's token, the request id
and the trace context of the request being answered.

    people = ServiceClient("people")
    account = await people.get_json(f"/accounts/{user_id}/payment", Account)
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

import msgspec

from rempart.kernel.errors import Unavailable
from rempart.telemetry.spans import under_way

from .connection import ConnectionLost, Pool
from .identity import Caller, current
from .problems import decode
from .workload import Address, Workload

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """`target` is path and query as sent; header names in lower case. `headers` may hold a token: not in the repr."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """The seam: what carries a question to a service."""

    async def send(self, question: Question, within: float) -> Answer:
        """Raises Unavailable `upstream_unavailable` when no whole answer came `within` so many seconds."""

    async def close(self) -> None: ...


class SocketTransport:
    """HTTP/1.1 over a pool of connections to one address.

    A question whose connection broke is asked once more only when that can't do harm: the method is idempotent (RFC
    9110 section 9.2.2) or it carries an Idempotency-Key.
    """

    def __init__(self, address: Address, *, name: str, connections: int = 32) -> None:
        self._name = name
        self._pool = Pool(address, limit=connections)

    async def send(self, question: Question, within: float) -> Answer:
        repeatable = question.method in ("GET", "HEAD", "PUT", "DELETE") or "idempotency-key" in question.headers
        wire = self._encode(question)
        try:
            async with asyncio.timeout(within):
                try:
                    return Answer(*await self._pool.exchange(wire, head=question.method == "HEAD"))
                except ConnectionLost as lost:
                    if not (repeatable or lost.unsent):
                        raise
                    return Answer(*await self._pool.exchange(wire, head=question.method == "HEAD", fresh=True))
        except (OSError, TimeoutError, ConnectionLost):
            raise Unavailable(
                "upstream_unavailable",
                f"no answer from {self._name}",
                f"see `rempart status` and `rempart logs {self._name}`",
            ) from None

    def _encode(self, question: Question) -> bytes:
        headers = {"host": self._name, **question.headers}
        if question.body or question.method in ("POST", "PUT", "PATCH"):
            headers["content-length"] = str(len(question.body))
        lines = [f"{question.method} {question.target} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        for line in (question.target.replace(" ", "\n"), *lines):  # a space would end the target
            if not line.isprintable() or not line.isascii():
                raise ValueError("a request line or header has characters that HTTP/1.1 can't carry")
        return "\r\n".join([*lines, "", ""]).encode("ascii") + question.body

    async def close(self) -> None:
        self._pool.close()


class ServiceClient:
    """Asks one service. Answers of 4xx come back as the RempartError that their problem document stands for."""

    def __init__(self, service: str, transport: Transport | None = None, *, timeout: float = 5.0) -> None:
        self.service = service
        self._timeout = timeout
        self._transport = transport or SocketTransport(Workload.from_environment().way_to(service), name=service)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """An answer of 2xx; `body` is sent as JSON. Raises RempartError."""
        target = f"{path}?{urlencode(query)}" if query else path
        sent = {"accept": "application/json", **_passed_on(current.get()), **(headers or {})}
        data = b""
        if body is not None:
            data = msgspec.json.encode(body)
            sent["content-type"] = "application/json"
        answer = await self._transport.send(Question(method, target, sent, data), self._timeout)
        if not 200 <= answer.status < 300:
            raise decode(answer.status, answer.headers, answer.body, of=self.service)
        return answer

    async def get_json(self, path: str, kind: type[T], *, query: Mapping[str, str | int] | None = None) -> T:
        return self.read((await self.ask("GET", path, query=query)).body, kind)

    async def send_json(
        self, method: str, path: str, body: Any, kind: type[T], *, headers: Mapping[str, str] | None = None
    ) -> T:
        return self.read((await self.ask(method, path, body=body, headers=headers)).body, kind)

    async def get_bytes(self, path: str) -> bytes:
        return (await self.ask("GET", path)).body

    def read(self, body: bytes, kind: type[T]) -> T:
        """Raises Unavailable `bad_answer` when the service's JSON isn't a `kind`."""
        try:
            return msgspec.json.decode(body, type=kind) if kind is not dict else json.loads(body)
        except (msgspec.MsgspecError, UnicodeError, ValueError, RecursionError):
            raise Unavailable("bad_answer", f"{self.service} answered something unexpected") from None

    async def close(self) -> None:
        await self._transport.close()


def _passed_on(who: Caller | None) -> dict[str, str]:
    if who is None:
        return {}
    here = under_way()
    trace = here.traceparent if here else who.traceparent
    given = {"authorization": who.authorization, "x-request-id": who.request_id, "traceparent": trace}
    return {name: value for name, value in given.items() if value}
