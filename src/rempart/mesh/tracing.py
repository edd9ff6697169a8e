"""Traces through every hop, as an option: each Envoy sends its spans to a collector (OTLP over HTTP).

A request's trace begins at the gateway: which are traced is decided there, and a stranger's `traceparent` is dropped,
so that nobody can have everything traced, or hide in the trace of somebody else. Whatever isn't traced has a trace id
all the same, the one in its events. Spans name no path: a query may hold what is nobody's business.
"""

from __future__ import annotations

from .model import Address, Settings, Tracing
from .shape import Json, address, seconds, typed

COLLECTOR_CLUSTER = "collector"


def tracing(settings: Settings) -> Json:
    """What a connection manager says of it; nothing without a collector."""
    collector = settings.tracing
    if collector is None:
        return {}
    target = {"uri": collector.url, "cluster": COLLECTOR_CLUSTER, "timeout": seconds(1)}
    provider = {
        "name": "envoy.tracers.opentelemetry",
        "typed_config": typed(
            "config.trace.v3.OpenTelemetryConfig", http_service={"http_uri": target}, service_name=settings.name
        ),
    }
    return {
        "tracing": {
            "random_sampling": {"value": collector.percent},
            "client_sampling": {"value": 0},
            "overall_sampling": {"value": 100},
            "max_path_tag_length": 1,
            "provider": provider,
        }
    }


def collector_cluster(collector: Tracing) -> Json:
    """With TLS the collector's certificate is verified for its name, by `ca` (PEM)."""
    where = Address(host=collector.host, port=collector.port)
    cluster: Json = {
        "name": COLLECTOR_CLUSTER,
        "type": "STRICT_DNS",
        "connect_timeout": seconds(1),
        "load_assignment": {
            "cluster_name": COLLECTOR_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(where)}}]}],
        },
    }
    if collector.ca:
        names = [{"san_type": "DNS", "matcher": {"exact": collector.host}}]
        trusted = {"trusted_ca": {"inline_string": collector.ca}, "match_typed_subject_alt_names": names}
        context = {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "validation_context": trusted,
        }
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": typed(
                "extensions.transport_sockets.tls.v3.UpstreamTlsContext", sni=collector.host, common_tls_context=context
            ),
        }
    return cluster
