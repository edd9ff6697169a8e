"""The one generator of Envoy's configuration, for the gateway and for every sidecar: a pure function, no I/O.

Its parts: `tls` (who may connect), `http` (what a request may look like), `headers` (what means identity), `filters`
(token, PDP, limits), `routes`, `replies` (problem documents), `clusters`, `listeners`, `access_log`.
"""

from __future__ import annotations

from .clusters import admin_cluster, pdp_cluster, upstream_cluster, workload_api_clusters
from .filters import JWKS_CLUSTER, PDP_CLUSTER
from .listeners import egress_listener, gateway_listeners, ingress_listener, metrics_listener
from .model import GatewaySettings, Sds, Settings, SidecarSettings, Tokens, Upstream
from .routes import cluster_name
from .shape import Json, typed
from .tracing import collector_cluster

_HEAP_BYTES = 1 << 30
_OWNER_ONLY = 0o600


def envoy_config(settings: Settings) -> Json:
    """Envoy's bootstrap, ready for `json.dumps`. The directory `run_dir` and those of its sockets must exist."""
    if isinstance(settings, GatewaySettings):
        listeners, clusters = _gateway(settings)
    else:
        listeners, clusters = _sidecar(settings)
    listeners.append(metrics_listener(settings))
    clusters.append(admin_cluster(settings))
    if settings.tracing is not None:
        clusters.append(collector_cluster(settings.tracing))
    if isinstance(settings.certificates, Sds):
        clusters += workload_api_clusters(settings.certificates)
    return {
        "node": {"id": settings.spiffe_id, "cluster": settings.name},
        "admin": {"address": {"pipe": {"path": f"{settings.run_dir}/admin.sock", "mode": _OWNER_ONLY}}},
        "static_resources": {"listeners": listeners, "clusters": clusters},
        "overload_manager": _overload(settings),
        "layered_runtime": {
            "layers": [
                {
                    "name": "fixed",
                    "static_layer": {
                        # One connection can't keep a worker to itself, nor open and reset streams without end.
                        "http": {"max_requests_per_io_cycle": 10},
                        "re2": {"max_program_size": {"error_level": 1000}},
                        "overload": {
                            "premature_reset_total_stream_count": 200,
                            "premature_reset_min_stream_lifetime_seconds": 1,
                        },
                    },
                }
            ]
        },
        "stats_config": {"use_all_default_tags": True},
    }


def _gateway(settings: GatewaySettings) -> tuple[list[Json], list[Json]]:
    clusters = {cluster_name(one): upstream_cluster(settings, one) for one in settings.upstreams}
    clusters[JWKS_CLUSTER] = _jwks_cluster(settings, settings.tokens)
    clusters[PDP_CLUSTER] = pdp_cluster(settings, settings.pdp_socket)
    return gateway_listeners(settings), list(clusters.values())


def _sidecar(settings: SidecarSettings) -> tuple[list[Json], list[Json]]:
    targets = tuple(way.to for way in settings.egress)
    listeners = [egress_listener(settings, way) for way in settings.egress]
    clusters = {cluster_name(one): upstream_cluster(settings, one) for one in targets}
    if settings.ingress is not None:
        ingress = settings.ingress
        application = Upstream("application", ingress.application, http2=ingress.http2, more=ingress.more)
        clusters[cluster_name(application)] = upstream_cluster(settings, application)
        clusters[JWKS_CLUSTER] = _jwks_cluster(settings, ingress.tokens)
        clusters[PDP_CLUSTER] = pdp_cluster(settings, ingress.pdp_socket)
        listeners.insert(0, ingress_listener(settings, ingress, application))
    return listeners, list(clusters.values())


def _jwks_cluster(settings: Settings, tokens: Tokens) -> Json:
    """One of its own, since Envoy fetches keys over HTTP/1.1 and asks no route."""
    source = Upstream("jwks", tokens.jwks.address, tokens.jwks.spiffe_id, http2=False)
    return {**upstream_cluster(settings, source), "name": JWKS_CLUSTER}


def _overload(settings: Settings) -> Json:
    limits = settings.limits
    return {
        "refresh_interval": "0.250s",
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": typed(
                    "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    max_active_downstream_connections=limits.max_connections,
                ),
            },
            {
                "name": "envoy.resource_monitors.fixed_heap",
                "typed_config": typed(
                    "extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=_HEAP_BYTES
                ),
            },
        ],
        "actions": [
            {
                "name": "envoy.overload_actions.stop_accepting_requests",
                "triggers": [{"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": 0.95}}],
            }
        ],
    }
