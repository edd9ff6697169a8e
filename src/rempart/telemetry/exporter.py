"""Sends spans to a collector by OTLP over HTTP, on a thread of its own; whoever makes a span never waits.

At most `MOST_WAITING` spans wait. What comes beyond is dropped and counted, and so is what the collector refuses: a
trace is a help, nothing depends on it. One that is away, or asks to be left alone (429, 502, 503, 504: OTLP
specification, "Failures"), is asked again with growing pauses, meanwhile its batch waits.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from rempart import __version__

from .exposition import Exposition
from .otlp import encode_request, encode_span
from .spans import Span

MOST_WAITING = 4096
_BATCH = 512
_EVERY = 1.0  # seconds
_TIMEOUT = 5.0
_WITHIN = 10.0  # the whole of an answer
_LONGEST_PAUSE = 30.0
_AGAIN = frozenset((429, 502, 503, 504))
_LARGEST_ANSWER = 4096


@dataclass(frozen=True, slots=True)
class Collector:
    """`url` of the traces, whole; `ca` is PEM, needed with https. `percent`: of what begins a trace here."""

    url: str
    ca: str = ""
    percent: int = 100


Post = Callable[[bytes], int]  # sends one request; returns the status of the answer, raises OSError


class Exporter:
    """Implements `spans.Spans`; `put` is safe from every thread. `start` begins sending, `close` sends what is left."""

    def __init__(self, collector: Collector, service: str, post: Post | None = None) -> None:
        self._service = service
        self._connection = _Connection(collector)
        self._post = post or self._connection.post
        self._share = collector.percent / 100
        self._waiting: deque[Span] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.sent = 0
        self.dropped = 0

    def put(self, span: Span) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append(span)
        if len(self._waiting) == _BATCH:
            self._wake.set()

    def begins(self) -> bool:
        """Whether work that no request began is traced this time."""
        return random.random() < self._share  # nosec B311 - which work is looked at, nothing secret

    def start(self) -> Exporter:
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()
        return self

    def close(self, within: float = 1.0) -> None:
        """Blocks for at most `within` seconds; what could not be sent by then is lost."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(within)

    def metrics(self) -> str:
        """For the process's page, in Prometheus' text format."""
        to = Exposition()
        for name, about, value in self.counts():
            to.single(name, "counter", about, value)
        return to.text()

    def counts(self) -> tuple[tuple[str, str, int], ...]:
        """Name, what it says, value."""
        return (
            ("rempart_spans_sent_total", "Spans that the collector took", self.sent),
            ("rempart_spans_dropped_total", "Spans lost: too many, or refused by the collector", self.dropped),
        )

    def _run(self) -> None:
        last = False
        while not last:
            self._wake.wait(_EVERY)
            self._wake.clear()
            last = self._closing.is_set()
            while self._waiting:
                self._send_batch()
        self._connection.close()

    def _send_batch(self) -> None:
        encoded: list[bytes] = []
        while self._waiting and len(encoded) < _BATCH:
            encoded.append(encode_span(self._waiting.popleft()))
            time.sleep(0)  # lets the event loop's thread run: it must never wait for a whole batch
        resource = {"service.name": self._service, "service.version": __version__}
        body = encode_request(encoded, resource, "rempart", __version__)
        if self._deliver(body):
            self.sent += len(encoded)
        else:
            self.dropped += len(encoded)

    def _deliver(self, body: bytes) -> bool:
        """Whether the collector took it; tries until it says so or refuses for good, or until `close`."""
        pause = 0.5
        while True:
            try:
                status = self._post(body)
            except (OSError, http.client.HTTPException, ValueError):  # ValueError: an answer that is no HTTP
                status = 503
            if status not in _AGAIN or self._closing.is_set():
                return 200 <= status < 300
            self._closing.wait(pause * random.uniform(0.75, 1.0))  # nosec B311 - spreads the attempts, nothing more
            pause = min(_LONGEST_PAUSE, pause * 2)


class _Connection:
    """One connection to the collector, kept. Follows no redirect, uses no proxy of the environment."""

    def __init__(self, collector: Collector) -> None:
        parts = urlsplit(collector.url)
        host, self._path = parts.hostname or "", parts.path
        self._http: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context(cadata=collector.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._http = http.client.HTTPSConnection(host, parts.port or 443, timeout=_TIMEOUT, context=context)
        else:
            self._http = http.client.HTTPConnection(host, parts.port or 80, timeout=_TIMEOUT)

    def post(self, body: bytes) -> int:
        """Of an answer only its status counts: where its length isn't said, or is large, nothing of it is read."""
        try:
            self._http.request("POST", self._path, body, {"content-type": "application/x-protobuf"})
            late = threading.Timer(_WITHIN, _end, (self._http.sock,))
            late.daemon = True
            late.start()
            try:
                answer = self._http.getresponse()
                if answer.length is None or answer.length > _LARGEST_ANSWER:
                    self._http.close()
                else:
                    answer.read()
            finally:
                late.cancel()
            return answer.status
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._http.close()


def _end(connection: socket.socket) -> None:
    """Whoever reads from it reads its end: a collector that answers without end keeps the thread no longer."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
