"""Where requests go: sidecars over mTLS, the application, the PDP and the Workload API over unix sockets."""

from __future__ import annotations

from .filters import PDP_CLUSTER
from .model import Address, Sds, Settings, Upstream
from .routes import cluster_name
from .shape import Json, address, seconds, typed
from .tls import SDS_CLUSTER, WEB_CLUSTER, upstream_context

ADMIN_CLUSTER = "admin"
# Many servers drop an idle connection after 5 s (Node.js, uvicorn) or 2 s (gunicorn); a request sent just then is lost.
_APPLICATION_IDLE_S = 1.5
HEALTH = "/auth/jwks.json"  # served whatever people's stores do: who answers it, answers by itself for them
_HEALTH: Json = {
    "timeout": seconds(1),
    "interval": seconds(1),
    "no_traffic_interval": seconds(1),
    "unhealthy_threshold": 2,
    "healthy_threshold": 1,
    "http_health_check": {"path": HEALTH, "host": "people"},
}
_BUFFER_BYTES = 65536


def upstream_cluster(settings: Settings, upstream: Upstream) -> Json:
    """Over mTLS where the upstream has a SPIFFE ID."""
    limits = settings.limits
    cluster = _cluster(
        cluster_name(upstream),
        upstream.address,
        connect_s=limits.connect_s,
        # Below the other side's idle timeout, so that it never closes a connection that we are about to use.
        idle_s=limits.connection_idle_s / 2 if upstream.spiffe_id else _APPLICATION_IDLE_S,
        protocol=_protocol(upstream.http2),
        max_connection_s=limits.max_connection_s,
    )
    if upstream.more:
        places = [{"endpoint": {"address": address(where)}} for where in (upstream.address, *upstream.more)]
        cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": places}]
        cluster["health_checks"] = [_HEALTH]
    if upstream.spiffe_id:
        cluster["transport_socket"] = upstream_context(settings, upstream)
    most = limits.max_connections
    cluster["circuit_breakers"] = {
        "thresholds": [{"max_connections": most, "max_pending_requests": most, "max_requests": most, "max_retries": 16}]
    }
    return cluster


def pdp_cluster(settings: Settings, socket: str) -> Json:
    most = settings.limits.max_connections
    cluster = _cluster(PDP_CLUSTER, Address(path=socket), connect_s=0.5, idle_s=3600, protocol=_protocol(False))
    cluster["circuit_breakers"] = {
        "thresholds": [{"max_connections": most, "max_pending_requests": most, "max_requests": most}]
    }
    return cluster


def workload_api_clusters(source: Sds) -> list[Json]:
    sockets = {SDS_CLUSTER: source.socket, **({WEB_CLUSTER: source.web_socket} if source.web_socket else {})}
    return [
        _cluster(name, Address(path=socket), connect_s=0.5, idle_s=3600, protocol=_protocol(True))
        for name, socket in sockets.items()
    ]


def admin_cluster(settings: Settings) -> Json:
    socket = Address(path=f"{settings.run_dir}/admin.sock")
    return _cluster(ADMIN_CLUSTER, socket, connect_s=0.5, idle_s=10, protocol=_protocol(False))


def _protocol(http2: bool | None) -> Json:
    if http2 is None:
        return {"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}}
    return {"explicit_http_config": {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}}}


def _cluster(
    name: str,
    where: Address,
    *,
    connect_s: float,
    idle_s: float,
    protocol: Json,
    max_connection_s: float | None = None,
) -> Json:
    common: Json = {"idle_timeout": seconds(idle_s)}
    if max_connection_s is not None:
        common["max_connection_duration"] = seconds(max_connection_s)
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": seconds(connect_s),
        "per_connection_buffer_limit_bytes": _BUFFER_BYTES,
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "extensions.upstreams.http.v3.HttpProtocolOptions", common_http_protocol_options=common, **protocol
            )
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(where)}}]}],
        },
    }
