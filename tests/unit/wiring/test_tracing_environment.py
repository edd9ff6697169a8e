"""What programs are told of tracing: the variables that every OpenTelemetry SDK reads."""

from __future__ import annotations

import pytest

from rempart.mesh.model import Tracing
from rempart.sdk import tracing
from rempart.telemetry.exporter import Exporter
from rempart.wiring.tracing_environment import application_environment
from rempart.wiring.tracing_settings import told

TOLD = told(Tracing(host="collector.example", port=4318, ca="PEM", ca_file="/app/ca.pem", percent=10))


def test_a_program_samples_as_the_gateway_did_and_sends_to_the_same_collector() -> None:
    assert TOLD == {
        "url": "https://collector.example:4318/v1/traces",
        "ca": "PEM",
        "ca_file": "/app/ca.pem",
        "percent": 10,
    }
    given = application_environment(TOLD, "wallet")
    assert given["OTEL_SERVICE_NAME"] == "wallet"
    assert given["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] == TOLD["url"]
    assert given["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"] == "/app/ca.pem"
    assert given["OTEL_TRACES_SAMPLER"] == "parentbased_always_off"
    assert told(None) is None


def test_without_a_collector_a_service_makes_no_spans_and_with_a_bad_one_it_runs_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make = tracing.service_spans.__wrapped__
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    assert make() is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector.example/v1/traces")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/nowhere/ca.pem")
    assert make() is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1/v1/traces")
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")
    assert make() is None
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
    spans = make()
    assert isinstance(spans, Exporter)
    spans.close()
