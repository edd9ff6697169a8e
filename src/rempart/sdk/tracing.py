"""Spans of this service, where Rempart said that requests are traced (`[tracing]` in rempart.toml).

By the environment that every OpenTelemetry SDK reads: a program that brings its own is traced as well.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from functools import cache
from pathlib import Path

from rempart.telemetry.exporter import Collector, Exporter
from rempart.telemetry.spans import SERVER, Spans, Work, parent_of


@cache
def service_spans() -> Spans | None:
    """None: nothing is traced. One exporter for each process, begun at the first call."""
    url = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    file = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "")
    if not url or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf") != "http/protobuf":
        return None
    try:
        collector = Collector(url, Path(file).read_text("ascii") if file else "")
        exporter = Exporter(collector, os.environ.get("OTEL_SERVICE_NAME", "unknown_service")).start()
    except (OSError, ValueError):  # a service runs without its traces
        return None
    atexit.register(exporter.close)
    return exporter


def request_span(traceparent: str, name: str) -> contextlib.AbstractContextManager[object]:
    """A span of the request being answered; nothing where its caller is not traced."""
    spans = service_spans()
    parent = parent_of(traceparent) if spans is not None else None
    return Work(spans, parent, name, SERVER) if spans is not None and parent is not None else contextlib.nullcontext()
