"""Bytes on the wire: an attacker's HTTP client, which sends what a well-behaved one never would."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

TIMEOUT = 8.0
_MAX_ANSWER = 4 * 1024 * 1024


class NoAnswer(Exception):
    """The peer refused, closed, or said nothing in time; the text says which."""


@dataclass(frozen=True)
class Reply:
    """One HTTP answer. Header names in lower case; of repeated headers the last, but every `Set-Cookie`."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    set_cookies: tuple[str, ...] = ()

    @cached_property
    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def code(self) -> str:
        document = self.json
        return str(document.get("code") or document.get("error") or "") if isinstance(document, dict) else ""

    @property
    def decision(self) -> str:
        return self.headers.get("x-rempart-decision", "")

    @property
    def evidence(self) -> str:
        """The decision, else the request id: both are in the record."""
        return self.decision or self.headers.get("x-request-id", "")

    @property
    def said(self) -> str:
        return f"{self.status} {self.code}".rstrip()


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int


def connect(
    address: Address,
    context: ssl.SSLContext | None = None,
    *,
    name: str = "localhost",
    source: str = "",
    timeout: float = TIMEOUT,
) -> socket.socket:
    """A connection, with TLS when `context` is given; raises NoAnswer."""
    try:
        plain = socket.create_connection(
            (address.host, address.port), timeout, source_address=(source, 0) if source else None
        )
    except OSError as error:
        raise NoAnswer(f"no connection: {error.strerror or error}") from None
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is None:
        return plain
    try:
        return context.wrap_socket(plain, server_hostname=name)
    except OSError as error:
        plain.close()
        raise NoAnswer(f"handshake refused: {_reason(error)}") from None


def encode(
    method: str,
    target: str,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes | None = None,
    *,
    host: str = "localhost",
) -> bytes:
    """A request just as told: nothing is normalised, checked or added but Host, Content-Length and Connection."""
    given = {name.lower() for name, _ in headers}
    lines = [f"{method} {target} HTTP/1.1"]
    if "host" not in given:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None and not given & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    if "connection" not in given:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + (body or b"")


def exchange(connection: socket.socket, data: bytes, *, replies: int = 1) -> list[Reply]:
    """Send, and read up to `replies` answers or until the peer closes; raises NoAnswer when there is none."""
    with contextlib.suppress(OSError):  # the peer may have answered and closed before it read everything
        connection.sendall(data)
    return read_replies(connection, replies)


def read_replies(connection: socket.socket, replies: int = 1) -> list[Reply]:
    reader = _Reader(connection)
    answers: list[Reply] = []
    while len(answers) < replies:
        try:
            answer = reader.reply()
        except NoAnswer:
            if answers:
                break
            raise
        if answer.status >= 200:
            answers.append(answer)
    return answers


def ask(
    address: Address,
    context: ssl.SSLContext | None,
    method: str,
    target: str,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes | None = None,
    *,
    source: str = "",
    timeout: float = TIMEOUT,
) -> Reply:
    """One request on a connection of its own; raises NoAnswer."""
    with connect(address, context, source=source, timeout=timeout) as connection:
        return exchange(connection, encode(method, target, headers, body))[0]


class _Reader:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""

    def _more(self) -> bool:
        try:
            chunk = self._connection.recv(65536)
        except TimeoutError:
            raise NoAnswer("no answer in time") from None
        except OSError as error:
            raise NoAnswer(f"connection broken: {_reason(error)}") from None
        self._buffer += chunk
        if len(self._buffer) > _MAX_ANSWER:
            raise NoAnswer("the answer has no end")
        return bool(chunk)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            if not self._more():
                raise NoAnswer("closed without an answer")
        part, self._buffer = self._buffer.split(mark, 1)
        return part

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._more():
                raise NoAnswer("closed within an answer")
        part, self._buffer = self._buffer[:size], self._buffer[size:]
        return part

    def reply(self) -> Reply:
        start, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        if not start.startswith("HTTP/1.") or not start[9:12].isdigit():
            raise NoAnswer(f"not HTTP: {start[:40]!r}")
        headers, cookies = {}, []
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
            if name.strip().lower() == "set-cookie":
                cookies.append(value.strip())
        status = int(start[9:12])
        return Reply(status, headers, self._body(status, headers), tuple(cookies))

    def _body(self, status: int, headers: Mapping[str, str]) -> bytes:
        if status < 200 or status in (204, 304):
            return b""
        if "chunked" in headers.get("transfer-encoding", ""):
            parts = []
            while size := int(self._until(b"\r\n").split(b";")[0], 16):
                parts.append(self._exactly(size))
                self._until(b"\r\n")
            self._until(b"\r\n")
            return b"".join(parts)
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"]))
        try:
            while self._more():
                pass
        except NoAnswer:
            pass
        part, self._buffer = self._buffer, b""
        return part


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return error.strerror or type(error).__name__
