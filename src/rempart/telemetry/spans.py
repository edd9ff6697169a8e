"""Spans, and the one that is under way. Which requests are traced was decided at the gateway: here it is only obeyed.

A span holds names, counts and codes, never what says something about a person, and no secret: whoever reads traces may
not read the record.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import NamedTuple, Protocol

INTERNAL, SERVER = 1, 2  # opentelemetry-proto, trace.proto, Span.SpanKind
Value = str | int | bool

# W3C Trace Context section 3.2.2; the flag `sampled` is the lowest bit of the last field.
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f][13579bdf](?:-[\x21-\x7e]{0,64})?"
)


class Span(NamedTuple):
    """Ids in lower-case hex, times in nanoseconds since the epoch. `parent_id` is empty where a trace begins."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value]
    failed: bool = False


class Spans(Protocol):
    """Where finished spans go."""

    def put(self, span: Span) -> None:
        """Never blocks, never raises: what can't be taken is dropped and counted."""


class Place(NamedTuple):
    """A span in its trace, for those below it."""

    trace_id: str
    span_id: str

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-01"


class _Live(NamedTuple):
    place: Place
    spans: Spans


_live: ContextVar[_Live | None] = ContextVar("rempart_span", default=None)


def parent_of(traceparent: str) -> Place | None:
    """The caller's span where the caller traces; None where it doesn't, or says so in no proper form."""
    match = _TRACEPARENT.fullmatch(traceparent)
    return Place(match[1], match[2]) if match else None


def new_span_id() -> str:
    return os.urandom(8).hex()


def new_trace_id() -> str:
    return os.urandom(16).hex()


def under_way() -> Place | None:
    """The span of what this task does now."""
    live = _live.get()
    return live.place if live else None


class Work:
    """`with Work(name, …)`: a span, parent of all that is begun inside. With `parent` None it begins a trace."""

    __slots__ = ("_kind", "_name", "_parent", "_spans", "_start", "_token", "attributes", "failed", "place")

    def __init__(self, spans: Spans, parent: Place | None, name: str, kind: int = INTERNAL) -> None:
        self._spans, self._parent, self._name, self._kind = spans, parent, name, kind
        self.place = Place(parent.trace_id if parent else new_trace_id(), new_span_id())
        self.attributes: dict[str, Value] = {}
        self.failed = False
        self._start = 0
        self._token: Token[_Live | None] | None = None

    def rename(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> Work:
        self._start = time.time_ns()
        self._token = _live.set(_Live(self.place, self._spans))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _live.reset(self._token)
        if kind is not None:
            self.failed = True
            self.attributes["error.type"] = getattr(error, "code", "") or kind.__name__
        (trace_id, span_id), parent = self.place, self._parent.span_id if self._parent else ""
        end = time.time_ns()
        self._spans.put(
            Span(trace_id, span_id, parent, self._name, self._kind, self._start, end, self.attributes, self.failed)
        )


class step:
    """A span below the one under way; nothing where none is."""

    __slots__ = ("_name", "_work")

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: Work | None = None

    def __enter__(self) -> None:
        live = _live.get()
        if live is not None:
            self._work = Work(live.spans, live.place, self._name).__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._work is not None:
            self._work.__exit__(kind, error, trace)
