"""What an application's own programs are told of tracing, in their environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def application_environment(collector: Mapping[str, Any], service: str) -> dict[str, str]:
    """By which every OpenTelemetry SDK, and ours, sends its spans to the same collector, of the requests that the
    gateway chose (OpenTelemetry specification, "Environment Variable Specification")."""
    environment = {
        "OTEL_SERVICE_NAME": service,
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": collector["url"],
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_TRACES_SAMPLER": "parentbased_always_off",
        "OTEL_PROPAGATORS": "tracecontext",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    if collector["ca_file"]:
        environment["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"] = collector["ca_file"]
    return environment
