"""What Envoy listens on: clients (gateway), peers (ingress), the own application (egress), whoever collects metrics."""

from __future__ import annotations

from . import access_log, filters
from .clusters import ADMIN_CLUSTER
from .http import connection_manager
from .model import Address, Control, Egress, GatewaySettings, Ingress, Route, Settings, SidecarSettings, Upstream
from .replies import direct_response
from .routes import table
from .shape import Json, address, seconds
from .tls import certificate_context, ingress_context, web_context

_BUFFER_BYTES = 65536
_OWNER_AND_GROUP = 0o660


def gateway_listeners(settings: GatewaySettings) -> list[Json]:
    """For everybody, and where there is one, for programs with a certificate of their own."""
    listeners = [_gateway_listener(settings, "gateway", settings.listen, web_context(settings), certificate=False)]
    if settings.mtls_listen is not None:
        context = certificate_context(settings)
        listeners.append(_gateway_listener(settings, "gateway_mtls", settings.mtls_listen, context, certificate=True))
    return listeners


def _gateway_listener(settings: GatewaySettings, name: str, where: Address, tls: Json, *, certificate: bool) -> Json:
    upstreams = {upstream.name: upstream for upstream in settings.upstreams}
    chain = [
        filters.answers(edge=True),
        *filters.rate_limit(settings),
        filters.tokens(settings, settings.tokens),
        filters.decision(settings),
        *filters.whole_body(settings),
        filters.router(),
    ]
    routes = table(settings, settings.routes, upstreams, guarded=True, certificate=certificate)
    manager = connection_manager(settings, name, routes, chain, edge=True, peer=False, certificate=certificate)
    return _listener(settings, name, where, manager, tls=tls)


def ingress_listener(settings: SidecarSettings, ingress: Ingress, application: Upstream) -> Json:
    chain = [
        filters.answers(edge=False),
        filters.tokens(settings, ingress.tokens),
        filters.decision(settings),
        *filters.callers_only(settings, ingress.callers),
        *filters.whole_body(settings),
        filters.router(),
    ]
    routes = table(settings, [Route("/", application.name)], {application.name: application}, guarded=True)
    manager = connection_manager(settings, "ingress", routes, chain, edge=False, peer=True)
    return _listener(settings, "ingress", ingress.listen, manager, tls=ingress_context(settings, ingress))


def egress_listener(settings: SidecarSettings, way: Egress) -> Json:
    """Only the application's own sidecar speaks for it: the other end checks the identity added here."""
    routes = table(settings, [Route("/", way.to.name)], {way.to.name: way.to}, guarded=False)
    chain = [filters.answers(edge=False), filters.router()]
    manager = connection_manager(settings, f"egress_{way.to.name}", routes, chain, edge=False, peer=False)
    return _listener(settings, f"egress_{way.to.name}", way.listen, manager)


def metrics_listener(settings: Settings) -> Json:
    """GET /metrics and nothing else of the administration interface."""
    only = {"path": "/metrics", "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]}
    routes = [
        {"match": only, "route": {"cluster": ADMIN_CLUSTER, "prefix_rewrite": "/stats/prometheus"}},
        {"match": {"prefix": "/"}, "direct_response": direct_response(404, "no_route", "only GET /metrics is here")},
    ]
    hosts = {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]}
    manager = connection_manager(settings, "metrics", hosts, [filters.router()], edge=False, peer=False)
    return _listener(settings, "metrics", Address(path=f"{settings.run_dir}/metrics.sock"), manager)


def _listener(settings: Settings, name: str, where: Address, manager: Json, *, tls: Json | None = None) -> Json:
    """TLS listeners count against the process's limit of connections; those of this host's own programs don't."""
    chain: Json = {"filters": [manager]}
    listener: Json = {
        "name": name,
        "address": address(where, mode=_OWNER_AND_GROUP),
        "filter_chains": [chain],
        "per_connection_buffer_limit_bytes": _BUFFER_BYTES,
        # With SO_REUSEPORT a second program of the same user could take a share of the connections, unnoticed.
        "enable_reuse_port": False,
        "ignore_global_conn_limit": tls is None,
    }
    if tls is not None:
        chain["transport_socket"] = tls
        if Control.TIMEOUTS not in settings.unsafe_disabled:
            chain["transport_socket_connect_timeout"] = seconds(settings.limits.handshake_s)
        listener["access_log"] = access_log.refused_handshakes(settings.name)
    return listener
