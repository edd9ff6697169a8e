"""What is written by hand is read by the published schema (opentelemetry-proto)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from rempart.telemetry.otlp import encode_request, encode_span
from rempart.telemetry.spans import Span

_hex = st.binary(min_size=16, max_size=16).map(bytes.hex)
_short = st.binary(min_size=8, max_size=8).map(bytes.hex)
_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
_values = st.one_of(_text, st.booleans(), st.integers(-(2**63), 2**63 - 1))
_times = st.integers(0, 2**63 - 1)
_spans = st.builds(
    Span,
    _hex,
    _short,
    st.one_of(st.just(""), _short),
    _text,
    st.integers(1, 5),
    _times,
    _times,
    st.dictionaries(_text, _values, max_size=4),
    st.booleans(),
)


@settings(max_examples=100)
@given(st.lists(_spans, max_size=3))
def test_a_request_is_what_the_schema_says(spans: list[Span]) -> None:
    body = encode_request(map(encode_span, spans), {"service.name": "pdp"}, "rempart", "1")
    read = ExportTraceServiceRequest.FromString(body)
    assert read.SerializeToString(deterministic=True)
    (resource_spans,) = read.resource_spans
    (resource,) = resource_spans.resource.attributes
    assert (resource.key, resource.value.string_value) == ("service.name", "pdp")
    (scope_spans,) = resource_spans.scope_spans
    assert (scope_spans.scope.name, scope_spans.scope.version) == ("rempart", "1")
    assert len(scope_spans.spans) == len(spans)
    for got, span in zip(scope_spans.spans, spans, strict=True):
        assert (got.trace_id.hex(), got.span_id.hex()) == (span.trace_id, span.span_id)
        assert got.parent_span_id.hex() == span.parent_id
        assert (got.name, got.kind) == (span.name, span.kind)
        assert (got.start_time_unix_nano, got.end_time_unix_nano) == (span.start_ns, span.end_ns)
        assert (got.status.code == got.status.STATUS_CODE_ERROR) == span.failed
        told = {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in got.attributes}
        assert told == dict(span.attributes)


def test_a_long_value_is_cut() -> None:
    span = Span("0" * 31 + "1", "0" * 15 + "1", "", "n" * 9000, 1, 1, 2, {"a": "b" * 9000})
    assert len(encode_span(span)) < 1000
