"""What Prometheus may read of a protected application."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Metrics:
    """`rempart_app_requests_total{method,status}` and `rempart_app_request_seconds`; an application may register more.

    Labels come from closed sets only, so that no caller can make series without end.
    """

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self.registry: CollectorRegistry = CollectorRegistry()
        self._requests = Counter(
            "rempart_app_requests", "Requests answered.", ("method", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "rempart_app_request_seconds",
            "Time from request to answer.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )

    def observe(self, method: str, status: int, seconds: float) -> None:
        self._requests.labels(method if method in _METHODS else "other", str(status)).inc()
        self._seconds.observe(seconds)

    def page(self) -> bytes:
        """The text exposition format, version 0.0.4."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
