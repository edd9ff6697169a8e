"""Where this process's spans go, as the supervisor said; nowhere without `[tracing]`."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .boot import Boot

if TYPE_CHECKING:
    from prometheus_client import Metric

    from rempart.telemetry.exporter import Exporter


def exporter(boot: Boot) -> Exporter | None:
    """Begun, and closed when the process ends. None: nothing is traced."""
    if not boot.tracing:
        return None
    from rempart.telemetry.exporter import Collector, Exporter  # an HTTP client, for who has a collector

    told = boot.tracing
    begun = Exporter(Collector(told["url"], told["ca"], told["percent"]), boot.name).start()
    atexit.register(begun.close)
    return begun


class SpanCounts:
    """A collector for a registry of prometheus_client; see `Exporter.metrics`."""

    def __init__(self, spans: Exporter) -> None:
        self._spans = spans

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily

        for name, about, value in self._spans.counts():
            yield CounterMetricFamily(name, about, value)
