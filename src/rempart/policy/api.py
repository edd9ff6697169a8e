"""Envoy's questions, with as little Python for each as can be."""

from __future__ import annotations

import asyncio

import httptools

from .answer import refusal_response
from .decide import PREFIX, Decider, Point
from .outbox import Outbox
from .question import plain

MAX_REQUEST = 128 << 10  # bytes of one question; Envoy's own limit on headers is below
MAX_HEADERS = 200


class PepConnection(asyncio.Protocol):
    """One connection of Envoy. Pipelined questions are answered in order; a malformed one gets 400 and ends it."""

    def __init__(self, point: Point, decider: Decider, outbox: Outbox) -> None:
        self._point = point
        self._decider = decider
        self._outbox = outbox
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._size = 0
        self._broken = False
        self._between = True  # nothing of a message is with the parser

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        if self._broken or self._transport is None:
            return
        if self._between and len(data) <= MAX_REQUEST and (question := plain(data, MAX_HEADERS)) is not None:
            self._asked(*question, close=False)
            return
        self._size += len(data)
        if self._size > MAX_REQUEST + len(data):
            self._refuse("the question is too large")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse("an upgrade is not a question")
        except httptools.HttpParserError:
            self._refuse("the question is not HTTP/1.1")

    # httptools calls these
    def on_message_begin(self) -> None:
        self._between = False
        self._url = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self._headers) >= MAX_HEADERS:
            raise ValueError("too many headers")
        self._headers.append((name.lower(), value))

    def on_message_complete(self) -> None:
        self._size = 0
        self._between = True
        method = self._parser.get_method().decode("ascii", "replace")
        self._asked(method, self._url, self._headers, close=not self._parser.should_keep_alive())

    def _asked(self, method: str, url: bytes, headers: list[tuple[bytes, bytes]], *, close: bool) -> None:
        transport = self._transport
        if transport is None or self._broken:
            return
        if not url.startswith(PREFIX) or url[len(PREFIX) : len(PREFIX) + 1] not in (b"/", b"?", b""):
            self._refuse("the address does not begin with /authz")
            return
        response, payload = self._decider.decide(self._point, method, url, headers)
        self._outbox.put(transport, response, payload, close=close)
        if close:
            self._broken = True

    def _refuse(self, why: str) -> None:
        self._broken = True
        self._decider.counters.malformed += 1
        if self._transport is not None:
            self._outbox.put(self._transport, refusal_response(400, "bad_request", why), None, close=True)
