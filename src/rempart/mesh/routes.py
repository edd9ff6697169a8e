"""Which path goes where. Paths that read differently to different programs are refused before anybody is asked."""

from __future__ import annotations

from collections.abc import Sequence

from .filters import BUFFER, EXT_AUTHZ, without
from .headers import FOR_PDP_ONLY, certificate_chain, decision_on_answer
from .model import Control, Route, Settings, Upstream
from .replies import direct_response
from .shape import Json, seconds

# After Envoy's normalisation: a path parameter (`;`), a backslash, a percent sign that is itself escaped, an escaped
# dot, NUL or control character. No honest client needs them, and some frameworks take them for another path.
_AMBIGUOUS = r".*(;|\\|%25|%5[cC]|%2[eEfF]|%3[bB]|%[01][0-9a-fA-F]|%7[fF]|/\.\.?(/|$)).*"
# RFC 9112 section 3.2: one Host, of these characters; Envoy would join two with a comma.
_ODD_HOST: Json = {
    "name": ":authority",
    "string_match": {"safe_regex": {"regex": r"([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?"}},
    "invert_match": True,
    "treat_missing_header_as_empty": True,
}
_METHODS_REFUSED = ("TRACE", "TRACK")


def table(
    settings: Settings,
    routes: Sequence[Route],
    upstreams: dict[str, Upstream],
    *,
    guarded: bool,
    certificate: bool = False,
) -> Json:
    """`guarded`: the connection manager has an ext_authz filter, which the answers made here skip. `certificate`: the
    client may have brought one, which goes on to the service."""
    skip = without(EXT_AUTHZ) if guarded else {}

    def refuse(match: Json, status: int, code: str, detail: str, remedy: str) -> Json:
        answer = direct_response(status, code, detail, remedy)
        return {"match": match, "direct_response": answer, "typed_per_filter_config": skip}

    def any_path(header: Json) -> Json:
        return {"prefix": "/", "headers": [header]}

    rows = [refuse({"connect_matcher": {}}, 405, "method_not_allowed", "no tunnels here", "use another method")]
    for method in _METHODS_REFUSED:
        match = any_path({"name": ":method", "string_match": {"exact": method}})
        rows.append(refuse(match, 405, "method_not_allowed", f"{method} is not accepted", "use another method"))
    if guarded:
        rows.append(refuse(any_path(_ODD_HOST), 400, "bad_host", "not exactly one host is named", "send one Host"))
        twice = any_path({"name": "authorization", "string_match": {"contains": ","}})
        rows.append(refuse(twice, 400, "bad_authorization", "more than one Authorization header", "send one"))
        if Control.NORMALIZE_PATH not in settings.unsafe_disabled:
            match = {"safe_regex": {"regex": _AMBIGUOUS}}
            rows.append(refuse(match, 400, "bad_path", "the path can be read in more than one way", "send it plain"))
    for route in sorted(routes, key=lambda route: (-len(route.prefix), route.prefix)):
        rows.append(_forward(settings, route, upstreams[route.upstream], guarded=guarded))
    if not any(route.prefix == "/" for route in routes):
        everything = {"prefix": "/"}
        rows.append(
            refuse(everything, 404, "no_route", "no service answers at this path", "see the routes in rempart.toml")
        )
    host: Json = {"name": "all", "domains": ["*"], "routes": rows}
    table: Json = {"virtual_hosts": [host]}
    if guarded:
        table["response_headers_to_add"] = [decision_on_answer()]
        table["request_headers_to_remove"] = [*FOR_PDP_ONLY, "x-envoy-external-address", "x-envoy-internal"]
    if certificate:  # Envoy acts on the host's headers before the table's
        host["request_headers_to_add"] = [certificate_chain()]
        table["request_headers_to_remove"].append("x-forwarded-client-cert")
    return table


def _forward(settings: Settings, route: Route, upstream: Upstream, *, guarded: bool) -> Json:
    """A request is sent again only where the first try never reached the service."""
    row: Json = {
        "match": {"prefix": "/"} if route.prefix == "/" else {"path_separated_prefix": route.prefix},
        "route": {
            "cluster": cluster_name(upstream),
            "timeout": seconds(settings.limits.response_s),
            "retry_policy": {"retry_on": "connect-failure,refused-stream,reset-before-request", "num_retries": 2},
        },
    }
    if upstream.http2 and guarded and Control.REQUEST_SIZE not in settings.unsafe_disabled:
        row["typed_per_filter_config"] = without(BUFFER)  # gRPC streams; it limits the size of each message itself
    return row


def cluster_name(upstream: Upstream) -> str:
    return f"to_{upstream.name}"
