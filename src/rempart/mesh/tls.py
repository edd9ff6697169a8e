"""TLS contexts: the gateway's towards clients, mTLS of a sidecar's listener, mTLS towards another sidecar.

Peers are checked by Envoy's SPIFFE validator (the bundle of the trust domain that the certificate names) and by an
exact match of the SPIFFE ID; only the trust domains of the IDs that may be there are trusted at all. Envoy alone
accepts a leaf with two URI SANs, takes the bundle of the first and matches any of them: so `x-rempart-peer` shows all
of them to the PDP, which refuses more than one, and RBAC looks at the whole.
Sessions are never resumed in the mesh: a resumed one would skip the check of the peer's certificate.
"""

from __future__ import annotations

from collections.abc import Collection

from rempart.kernel.spiffe import SpiffeId

from .model import Certificates, Control, Files, Ingress, Sds, Settings, Upstream
from .shape import Json, seconds, typed

# RFC 9325 section 4.2: forward secrecy and AEAD only, for TLS 1.2; TLS 1.3 has no others.
_CIPHERS = [
    "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]",
    "[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
]
_WEAK_CIPHERS = ["ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA", "AES128-SHA"]
SDS_CLUSTER, WEB_CLUSTER = "workload_api", "web_certificates"


def web_context(settings: Settings) -> Json:
    """Server authentication only, under the certificate `web`."""
    return _socket(
        "DownstreamTlsContext",
        common_tls_context={
            "tls_params": _parameters(settings),
            "alpn_protocols": ["h2", "http/1.1"],
            **_certificate(settings.certificates, "web"),
        },
        require_client_certificate=False,
    )


def certificate_context(settings: Settings) -> Json:
    """As `web_context`, and the client is asked for a certificate, whosever: TLS proves its key, whose it is, is for
    others to say. Who brings none is served as everybody. A resumed session would bring none, so there are none."""
    context = web_context(settings)
    common = context["typed_config"]["common_tls_context"]
    # Envoy asks for a certificate only where there is something to hold it against. A hash that fits none does: an
    # authority's name would be told to clients, and some then send nothing.
    common["validation_context"] = {
        "trust_chain_verification": "ACCEPT_UNTRUSTED",
        "verify_certificate_hash": ["00" * 32],
    }
    context["typed_config"] |= {
        "disable_stateless_session_resumption": True,
        "disable_stateful_session_resumption": True,
    }
    return context


def ingress_context(settings: Settings, ingress: Ingress) -> Json:
    """mTLS: a certificate of a known trust domain, and of one of the callers."""
    callers = () if Control.PEER_ALLOW_LIST in settings.unsafe_disabled else ingress.callers
    return _socket(
        "DownstreamTlsContext",
        common_tls_context={
            "tls_params": _parameters(settings),
            "alpn_protocols": ["h2", "http/1.1"],
            **_certificate(settings.certificates, settings.spiffe_id),
            **_peers(settings.certificates, callers),
        },
        require_client_certificate=True,
        disable_stateless_session_resumption=True,
        disable_stateful_session_resumption=True,
    )


def upstream_context(settings: Settings, upstream: Upstream) -> Json:
    """mTLS under the own SPIFFE ID to exactly the upstream's."""
    return _socket(
        "UpstreamTlsContext",
        common_tls_context={
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
            **_certificate(settings.certificates, settings.spiffe_id),
            **_peers(settings.certificates, (upstream.spiffe_id,)),
        },
        max_session_keys=0,
    )


def _socket(message: str, **context: object) -> Json:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": typed(f"extensions.transport_sockets.tls.v3.{message}", **context),
    }


def _parameters(settings: Settings) -> Json:
    if Control.TLS_VERSION in settings.unsafe_disabled:
        return {"tls_minimum_protocol_version": "TLSv1_0", "cipher_suites": _CIPHERS + _WEAK_CIPHERS}
    return {
        "tls_minimum_protocol_version": "TLSv1_2",
        "tls_maximum_protocol_version": "TLSv1_3",
        "cipher_suites": _CIPHERS,
    }


def _secret(name: str, cluster: str = SDS_CLUSTER) -> Json:
    return {
        "name": name,
        "sds_config": {
            "resource_api_version": "V3",
            "initial_fetch_timeout": seconds(0),  # wait: a listener without its certificate is of no use
            "api_config_source": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": cluster}}],
            },
        },
    }


def _certificate(source: Certificates, name: str) -> Json:
    if isinstance(source, Sds):
        cluster = WEB_CLUSTER if name == "web" and source.web_socket else SDS_CLUSTER
        return {"tls_certificate_sds_secret_configs": [_secret(name, cluster)]}
    web = name == "web"
    chain, key = (source.web_certificate, source.web_key) if web else (source.certificate, source.key)
    return {"tls_certificates": [{"certificate_chain": {"filename": chain}, "private_key": {"filename": key}}]}


def _peers(source: Certificates, allowed: tuple[str, ...]) -> Json:
    names: Json = {}
    if allowed:
        names["match_typed_subject_alt_names"] = [{"san_type": "URI", "matcher": {"exact": one}} for one in allowed]
    domains = {SpiffeId.parse(one).trust_domain for one in allowed}
    if isinstance(source, Files):
        return {"validation_context": {**names, "custom_validator_config": _spiffe_validator(source, domains)}}
    return {
        "combined_validation_context": {
            "default_validation_context": names,
            "validation_context_sds_secret_config": _secret(
                f"spiffe://{domains.pop()}" if len(domains) == 1 else "ALL"
            ),
        }
    }


def _spiffe_validator(source: Files, domains: Collection[str]) -> Json:
    bundles = [one for one in source.bundles if not domains or one[0] in domains]
    return {
        "name": "envoy.tls.cert_validator.spiffe",
        "typed_config": typed(
            "extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
            trust_domains=[{"name": name, "trust_bundle": {"filename": bundle}} for name, bundle in bundles],
        ),
    }
