"""The HTTP connection manager: what is refused before any filter sees it, and how long anything may take."""

from __future__ import annotations

from . import access_log
from .headers import early_mutations
from .model import Control, Settings
from .replies import local_replies
from .shape import Json, seconds, typed
from .tracing import tracing

# What the Envoy before puts on top of what it let in (its word on the caller, a certificate's chain, traces): what
# passed there must not be too much here, since that would look like a service that is down.
_MORE_HEADERS, _MORE_KIB = 50, 64
_WINDOW = 65536  # bytes a peer may send on one HTTP/2 stream before we have read them


def connection_manager(
    settings: Settings,
    role: str,
    routes: Json,
    filters: list[Json],
    *,
    edge: bool,
    peer: bool,
    certificate: bool = False,
) -> Json:
    """`role` names its statistics. `edge`: callers are strangers. `peer`: callers have an mTLS certificate.
    `certificate`: strangers with one of their own.

    A connection ends after `max_connection_s`, at a moment when no request is lost: what a revoked certificate or a
    removed authority opened dies out.
    """
    limits, off = settings.limits, settings.unsafe_disabled
    fields: Json = {
        "stat_prefix": role,
        "route_config": {"name": role, **routes},
        "http_filters": filters,
        "access_log": access_log.refused_requests(settings.name),
        "local_reply_config": local_replies(),
        "early_header_mutation_extensions": [early_mutations(settings, edge=edge, peer=peer, certificate=certificate)],
        # Who calls is the other end of the connection; `x-forwarded-for` is ours to write.
        "use_remote_address": True,
        "xff_num_trusted_hops": 0,
        "skip_xff_append": True,
        "internal_address_config": {"unix_sockets": False, "cidr_ranges": []},
        "generate_request_id": True,
        "preserve_external_request_id": not edge,
        "always_set_request_id_in_response": True,
        "request_id_extension": {
            "typed_config": typed("extensions.request_id.uuid.v3.UuidRequestIdConfig", pack_trace_reason=False)
        },
        "server_header_transformation": "PASS_THROUGH",
        **tracing(settings),
        **_certificate_forwarding(settings, peer=peer, certificate=certificate),
        **_paths(settings),
        "max_request_headers_kb": limits.max_headers_kib + (_MORE_KIB if peer else 0),
        "common_http_protocol_options": {
            "idle_timeout": seconds(limits.connection_idle_s),
            "max_connection_duration": seconds(limits.max_connection_s),
            "max_headers_count": limits.max_headers + (_MORE_HEADERS if peer else 0),
            "max_requests_per_connection": limits.max_requests_per_connection,
            "headers_with_underscores_action": "ALLOW"
            if Control.REJECT_UNDERSCORE_HEADERS in off
            else "REJECT_REQUEST",
        },
        "http1_safe_max_connection_duration": True,
        "drain_timeout": seconds(5),
        "delayed_close_timeout": seconds(0.5),
        "http_protocol_options": {
            "accept_http_10": False,
            "allow_absolute_url": False,
            "allow_chunked_length": False,
            "enable_trailers": False,
        },
        "http2_protocol_options": {
            "max_concurrent_streams": limits.max_streams,
            "initial_stream_window_size": _WINDOW,
            "initial_connection_window_size": _WINDOW * 16,
            "max_outbound_frames": 2000,
            "max_outbound_control_frames": 500,
            "allow_connect": False,
        },
    }
    if Control.TIMEOUTS not in off:
        fields["request_timeout"] = seconds(limits.request_s)
        fields["request_headers_timeout"] = seconds(limits.headers_s)
        fields["stream_idle_timeout"] = seconds(limits.stream_idle_s)
    else:
        fields["stream_idle_timeout"] = seconds(0)
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": typed("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", **fields),
    }


def _paths(settings: Settings) -> Json:
    if Control.NORMALIZE_PATH in settings.unsafe_disabled:
        return {
            "normalize_path": False,
            "merge_slashes": False,
            "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        }
    return {"normalize_path": True, "merge_slashes": True, "path_with_escaped_slashes_action": "REJECT_REQUEST"}


def _certificate_forwarding(settings: Settings, *, peer: bool, certificate: bool) -> Json:
    """`x-forwarded-client-cert` names the last hop's certificate or is absent; nobody's claim is passed on. A
    stranger's is for `headers.certificate_chain` to take."""
    if certificate:
        return {
            "forward_client_cert_details": "SANITIZE_SET",
            "set_current_client_cert_details": {"cert": False, "chain": True},
        }
    if Control.SANITIZE_XFCC in settings.unsafe_disabled:
        return {"forward_client_cert_details": "ALWAYS_FORWARD_ONLY"}
    if peer:
        return {
            "forward_client_cert_details": "SANITIZE_SET",
            "set_current_client_cert_details": {"uri": True, "cert": False},
        }
    return {"forward_client_cert_details": "SANITIZE"}
