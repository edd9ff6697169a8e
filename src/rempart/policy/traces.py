"""Spans of decisions, and examples for the histogram of their times: of the requests that the gateway had traced."""

from __future__ import annotations

import time

from rempart.telemetry.spans import INTERNAL, SERVER, Place, Span, Spans, Value, new_span_id, parent_of

from .counters import Counters
from .record import Ruling

_MOST_OPEN = 1024


class DecisionTraces:
    """`decided`, then `recorded` once the batch is on disk, or could not be put there. One event loop."""

    def __init__(self, spans: Spans, counters: Counters) -> None:
        self._spans, self._counters = spans, counters
        self._open: list[tuple[Place, Ruling, int, int]] = []

    def decided(self, ruling: Ruling, elapsed: float) -> None:
        """`elapsed` in seconds."""
        parent = parent_of(ruling.traceparent)
        if parent is None or len(self._open) >= _MOST_OPEN:
            return
        now = time.time_ns()
        self._open.append((parent, ruling, now - int(elapsed * 1e9), now))
        self._counters.example(elapsed, parent.trace_id, now / 1e9)

    def recorded(self, failure: str = "") -> None:
        """`failure`: the code of why nothing was recorded and everything refused."""
        if not self._open:
            return
        rulings, self._open = self._open, []
        now = time.time_ns()
        for (trace_id, above), ruling, started, decided in rulings:
            own = new_span_id()
            said: dict[str, Value] = {
                "rempart.decision": ruling.id,
                "rempart.outcome": "allow" if ruling.allow and not failure else "deny",
                "rempart.pep": ruling.pep,
                "rempart.service": ruling.service,
                "rempart.rule": ruling.rule,
            }
            if code := failure or ruling.code:
                said["rempart.code"] = code
            failed = bool(failure) or ruling.status >= 500
            put = self._spans.put
            put(Span(trace_id, own, above, "decide", SERVER, started, now, said, failed))
            put(Span(trace_id, new_span_id(), own, "record", INTERNAL, decided, now, {}, bool(failure)))
