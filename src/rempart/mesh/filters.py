"""The HTTP filters in the order a request meets them.

rate limit per address → token (verified here, judged by the PDP) → PDP → RBAC (sidecars) → whole body, within its
limit → router. The PDP is asked before the body is read: a refused request costs no memory.
"""

from __future__ import annotations

from .headers import CLAIMS, FROM_PDP, PEER, TO_PDP, answer_headers
from .model import Control, Settings, Tokens
from .shape import Json, seconds, typed

PDP_CLUSTER = "pdp"
JWKS_CLUSTER = "jwks"
EXT_AUTHZ = "envoy.filters.http.ext_authz"
BUFFER = "envoy.filters.http.buffer"
_SKEW_S = 5  # between the clocks of whoever signs and whoever verifies
_ALWAYS = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}


def answers(*, edge: bool) -> Json:
    """First in the list, so that the answers of all others pass through it."""
    return _filter(
        "envoy.filters.http.header_mutation",
        "header_mutation.v3.HeaderMutation",
        mutations={"response_mutations": answer_headers(edge=edge)},
    )


def rate_limit(settings: Settings) -> list[Json]:
    """A token bucket per source address (per /64 of IPv6), made when an address is first seen, the oldest forgotten."""
    if Control.RATE_LIMIT_IP in settings.unsafe_disabled:
        return []
    limits = settings.limits
    bucket = {
        "max_tokens": limits.ip_burst,
        "tokens_per_fill": limits.ip_requests_per_s,
        "fill_interval": seconds(1),
    }
    by_address = {"masked_remote_address": {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}}
    return [
        _filter(
            "envoy.filters.http.local_ratelimit",
            "local_ratelimit.v3.LocalRateLimit",
            stat_prefix="per_ip",
            # Envoy wants a bucket for what no descriptor matches; every request has an address, so this one is idle.
            token_bucket={"max_tokens": 4_000_000_000, "tokens_per_fill": 4_000_000_000, "fill_interval": seconds(1)},
            always_consume_default_token_bucket=False,
            filter_enabled={"runtime_key": "rempart.unused", **_ALWAYS},
            filter_enforced={"runtime_key": "rempart.unused", **_ALWAYS},
            rate_limits=[{"actions": [by_address]}],
            descriptors=[{"entries": [{"key": "masked_remote_address"}], "token_bucket": bucket}],
            max_dynamic_descriptors=20_000,
            response_headers_to_add=[
                {"header": {"key": "retry-after", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            ],
        )
    ]


def tokens(settings: Settings, expected: Tokens) -> Json:
    """Verify a bearer token where there is one and hand its payload to the PDP; a bad or absent one gives no payload.

    The PDP refuses then, so that the refusal is recorded with its reason. Verified tokens are cached until they end.
    """
    off = settings.unsafe_disabled
    provider: Json = {
        "from_headers": [
            {"name": "authorization", "value_prefix": "Bearer "},
            {"name": "authorization", "value_prefix": "DPoP "},  # whether its key is proved is for the PDP
        ],
        "forward": True,
        "forward_payload_header": CLAIMS,
        "require_expiration": True,
        "clock_skew_seconds": _SKEW_S,
        "jwt_cache_config": {"jwt_cache_size": expected.cache_size, "jwt_max_token_size": 4096},  # nosec B105 - a size
        "remote_jwks": {
            "http_uri": {
                "uri": f"http://{expected.jwks.name}{expected.jwks_path}",
                "cluster": JWKS_CLUSTER,
                "timeout": seconds(settings.limits.connect_s + 1),
            },
            "cache_duration": seconds(expected.refresh_s),
            "async_fetch": {"fast_listener": True, "failed_refetch_duration": seconds(0.5)},
        },
    }
    if Control.VERIFY_TOKEN_ISSUER not in off:
        provider["issuer"] = expected.issuer
    if Control.VERIFY_TOKEN_AUDIENCE not in off:
        provider["audiences"] = [expected.audience]
    either = {"requires_any": {"requirements": [{"provider_name": "people"}, {"allow_missing_or_failed": {}}]}}
    return _filter(
        "envoy.filters.http.jwt_authn",
        "jwt_authn.v3.JwtAuthentication",
        providers={"people": provider},
        rules=[{"match": {"prefix": "/"}, "requires": either}],
    )


def decision(settings: Settings) -> Json:
    """Ask the PDP; no answer, or one too late, is 503."""
    return _filter(
        EXT_AUTHZ,
        "ext_authz.v3.ExtAuthz",
        transport_api_version="V3",
        failure_mode_allow=False,
        status_on_error={"code": "ServiceUnavailable"},
        clear_route_cache=False,
        validate_mutations=True,
        allowed_headers={"patterns": [{"exact": name} for name in TO_PDP]},
        http_service={
            "server_uri": {
                "uri": "http://pdp",
                "cluster": PDP_CLUSTER,
                "timeout": seconds(settings.limits.authorization_s),
            },
            "path_prefix": "/authz",
            "authorization_response": {
                "allowed_upstream_headers": {"patterns": [{"exact": name} for name in FROM_PDP]},
                "allowed_client_headers": {
                    "patterns": [
                        {"exact": name}
                        for name in ("x-rempart-decision", "www-authenticate", "content-type", "retry-after")
                    ]
                },
            },
        },
    )


def callers_only(settings: Settings, callers: tuple[str, ...]) -> list[Json]:
    """Behind the PDP: the certificate's URI SANs, all of them together, must read as exactly one allowed caller."""
    if Control.PEER_ALLOW_LIST in settings.unsafe_disabled:
        return []
    principals = [{"header": {"name": PEER, "string_match": {"exact": caller}}} for caller in callers]
    return [
        _filter(
            "envoy.filters.http.rbac",
            "rbac.v3.RBAC",
            rules={
                "action": "ALLOW",
                "policies": {"callers": {"permissions": [{"any": True}], "principals": principals}},
            },
        )
    ]


def whole_body(settings: Settings) -> list[Json]:
    if Control.REQUEST_SIZE in settings.unsafe_disabled:
        return []
    return [_filter(BUFFER, "buffer.v3.Buffer", max_request_bytes=settings.limits.max_request_bytes)]


def router() -> Json:
    """Without a cluster's statistics by answer: they cost 3 % of a request, and listeners count the same."""
    return _filter("envoy.filters.http.router", "router.v3.Router", suppress_envoy_headers=True, dynamic_stats=False)


def without(*names: str) -> Json:
    """`typed_per_filter_config` of a route that skips these filters."""
    skipped = {
        EXT_AUTHZ: typed("extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute", disabled=True),
        BUFFER: typed("extensions.filters.http.buffer.v3.BufferPerRoute", disabled=True),
    }
    return {name: skipped[name] for name in names}


def _filter(name: str, message: str, **fields: object) -> Json:
    return {"name": name, "typed_config": typed(f"extensions.filters.http.{message}", **fields)}
