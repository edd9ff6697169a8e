"""Answers wait here until their records are on disk.

Measured: an inline `fdatasync` beats handing batches to a thread or to the kernel's asynchronous I/O, where the PDP and
Envoy wait for each other in lockstep (the latter made the PDP alone 7 % faster and Envoy with it 40 % slower). A batch
ends when it is full, or when a whole turn of the loop brought no further question: while one turn's questions are
decided the next arrive, so a flush at the end of every turn makes batches of half the connections only (16 connections:
8 records a batch, 148 µs of CPU a decision, against 16 and 136). A lone question waits one more empty poll, some
microseconds.

While many ask at once, a batch of one or two is not written at once either: its sync would hold up, for longer than
deciding takes, the questions that are on their way. It waits for half of what the last batches had, for as long as a
sync takes at most (on the whole path a quarter of all syncs were for one record; 3 % more requests a second without
them). Who asks alone never waits for others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from rempart.kernel.errors import RempartError

from .answer import refusal_response
from .counters import Counters
from .ports import DecisionJournal
from .traces import DecisionTraces

BATCH = 16
PATIENCE = 0.0002  # seconds


class Outbox:
    """Keeps the order of answers per connection. One event loop, not thread-safe."""

    def __init__(
        self,
        journal: DecisionJournal,
        counters: Counters,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._journal = journal
        self._counters = counters
        self._loop = loop
        self._pending: list[tuple[asyncio.Transport, bytes, bool]] = []
        self._scheduled = False
        self._seen = 0
        self._clock = clock
        self._usual = 0  # records worth a sync, by what the last batches had
        self._until = 0.0
        self.last_failure = ""
        self.traces: DecisionTraces | None = None

    def put(self, transport: asyncio.Transport, response: bytes, payload: bytes | None, *, close: bool = False) -> None:
        """Send `response` once `payload` is durable; when it can't be made so, a 503 goes out in its place."""
        if payload is not None:
            try:
                self._journal.append(payload)
            except RempartError as error:
                response = self._unavailable(error)
        self._pending.append((transport, response, close))
        if len(self._pending) >= BATCH:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._seen = 0
            self._until = self._clock() + PATIENCE
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Once a turn of the loop while anything waits."""
        waiting = len(self._pending)
        if waiting != self._seen:
            self._seen = waiting
            self._loop.call_soon(self._turn)
            return
        if 0 < waiting < self._usual and self._clock() < self._until:
            self._loop.call_soon(self._turn)
            return
        self._scheduled = False
        if waiting:
            self.flush()

    def flush(self) -> None:
        pending, self._pending = self._pending, []
        self._usual = max(len(pending) // 2, self._usual * 3 // 4)
        refused = b""
        try:
            self._journal.commit()
        except Exception as error:  # whatever it was: not on disk, so not decided
            refused = self._unavailable(error)
        if self.traces is not None:
            self.traces.recorded("audit_unavailable" if refused else "")
        for transport, response, close in pending:
            if transport.is_closing():  # a lost client must not stop the batch
                continue
            transport.write(refused or response)
            if close:
                transport.close()

    def _unavailable(self, error: Exception) -> bytes:
        self._counters.unrecorded += 1
        self.last_failure = error.code if isinstance(error, RempartError) else type(error).__name__
        return refusal_response(503, "audit_unavailable", "the decision could not be recorded, so there is none")
