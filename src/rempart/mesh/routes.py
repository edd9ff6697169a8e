"""Which path goes where. Paths that read differently to different programs are refused before anybody is asked."""

from __future__ import annotations

from collections.abc import Iterable

from .filters import BUFFER, EXT_AUTHZ, without
from .headers import FOR_PDP_ONLY, decision_on_answer
from .model import Control, Route, Settings, Upstream
from .replies import direct_response
from .shape import Json, seconds

# After Envoy's normalisation: a path parameter (`;`), a backslash, a percent sign that is itself escaped, an escaped
# dot, NUL or control character. No honest client needs them, and some frameworks take them for another path.
_AMBIGUOUS = r".*(;|\\|%25|%5[cC]|%2[eEfF]|%3[bB]|%[01][0-9a-fA-F]|%7[fF]|/\.\.?(/|$)).*"
_METHODS_REFUSED = ("TRACE", "TRACK", "CONNECT")


def table(settings: Settings, routes: Iterable[Route], upstreams: dict[str, Upstream], *, guarded: bool) -> Json:
    """`guarded`: the connection manager has an ext_authz filter, which the answers made here skip."""
    skip = without(EXT_AUTHZ) if guarded else {}
    rows: list[Json] = []
    for method in _METHODS_REFUSED:
        match: Json = {"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": method}}]}
        answer = direct_response(405, "method_not_allowed", f"{method} is not accepted", "use another method")
        rows.append({"match": match, "direct_response": answer, "typed_per_filter_config": skip})
    if Control.NORMALIZE_PATH not in settings.unsafe_disabled:
        answer = direct_response(400, "bad_path", "the path can be read in more than one way", "send it plain")
        match = {"safe_regex": {"regex": _AMBIGUOUS}}
        rows.append({"match": match, "direct_response": answer, "typed_per_filter_config": skip})
    if guarded:
        answer = direct_response(400, "bad_authorization", "more than one Authorization header", "send one")
        twice = {"name": "authorization", "string_match": {"contains": ","}}
        match = {"prefix": "/", "headers": [twice]}
        rows.append({"match": match, "direct_response": answer, "typed_per_filter_config": skip})
    for route in sorted(routes, key=lambda route: (-len(route.prefix), route.prefix)):
        rows.append(_forward(settings, route, upstreams[route.upstream], guarded=guarded))
    if not any(row["match"] == {"prefix": "/"} for row in rows):
        answer = direct_response(404, "no_route", "no service answers at this path", "see the routes in rempart.toml")
        rows.append({"match": {"prefix": "/"}, "direct_response": answer, "typed_per_filter_config": skip})
    table: Json = {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": rows}]}
    if guarded:
        table["response_headers_to_add"] = [decision_on_answer()]
        table["request_headers_to_remove"] = [*FOR_PDP_ONLY, "x-envoy-external-address"]
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
