"""What Envoy answers by itself, as problem documents (RFC 9457) with stable codes.

Mappers are tried in order and the first match wins. The PDP's and a direct response's own documents pass unchanged.
"""

from __future__ import annotations

import json

from rempart.kernel.problem import CONTENT_TYPE, problem

from .headers import DECISION
from .shape import Json, typed

_DOWN = ("unavailable", "a part that this request needs is down: failed closed", "try again in a moment")
# status → (code, detail, remedy)
_BY_STATUS: dict[int, tuple[str, str, str]] = {
    400: (
        "bad_request",
        "the request is malformed, or of a form that is not accepted here",
        "send plain HTTP/1.1 or 2",
    ),
    403: ("forbidden", "this caller may not come here", ""),
    404: ("no_route", "no service answers at this path", "see the routes in rempart.toml"),
    408: ("request_timeout", "the request took too long to arrive", "send it whole and at once"),
    413: ("body_too_large", "the body is larger than what is accepted", "send less"),
    426: ("http_version", "this version of HTTP is not spoken here", "use HTTP/1.1 or HTTP/2"),
    429: ("rate_limited", "too many requests from this address", "wait as long as Retry-After says"),
    431: ("headers_too_large", "the headers are too many or too large", "send fewer"),
    500: _DOWN,
    502: _DOWN,
    503: _DOWN,
    504: ("timeout", "the service took too long to answer", "try again in a moment"),
}
_REQUEST_ID = {
    "header": {"key": "x-request-id", "value": "%START_TIME(%s%6f)%-%CONNECTION_ID%"},
    "append_action": "ADD_IF_ABSENT",
}
# With what the PDP adds the headers were more than may be. Envoy calls the PDP's answer invalid; they are the sender's.
_TOO_MUCH_WITH_OURS = "response.code_details == 'ext_authz_invalid'"
_ALREADY_SAID = "response.code_details in ['ext_authz_denied', 'direct_response']"


def local_replies() -> Json:
    """Errors of the codec (400, 431) come before a request id is made; they get one of time and connection."""
    unchanged = {"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}, "content_type": CONTENT_TYPE}
    mappers: list[Json] = [{"filter": _details(_ALREADY_SAID), "body_format_override": unchanged}]
    code, detail, remedy = _BY_STATUS[431]
    too_much = _json(problem(431, code, detail, remedy=remedy, decision_id=f"%REQ({DECISION})%"))
    mappers.append({"filter": _details(_TOO_MUCH_WITH_OURS), "status_code": 431, "body_format_override": too_much})
    for status, (code, detail, remedy) in _BY_STATUS.items():
        document = problem(status, code, detail, remedy=remedy, decision_id=f"%REQ({DECISION})%")
        mappers.append(
            {
                "filter": _status(status),
                "body_format_override": _json(document),
                "headers_to_add": [_REQUEST_ID] if status in (400, 408, 426, 431) else [],
            }
        )
    # Envoy says 501 to an odd Transfer-Encoding; that is the sender's mistake and no failure of ours.
    code, detail, remedy = _BY_STATUS[400]
    odd = _json(problem(400, code, detail, remedy=remedy))
    mappers.append(
        {"filter": _status(501), "status_code": 400, "body_format_override": odd, "headers_to_add": [_REQUEST_ID]}
    )
    other = problem(400, "refused", "the request was refused", decision_id=f"%REQ({DECISION})%")
    return {"mappers": mappers, "body_format": _json({**other, "title": "Refused", "status": "%RESPONSE_CODE%"})}


def direct_response(status: int, code: str, detail: str, remedy: str = "") -> Json:
    return {"status": status, "body": {"inline_string": json.dumps(problem(status, code, detail, remedy=remedy))}}


def _json(document: Json) -> Json:
    return {"json_format": document, "content_type": CONTENT_TYPE, "omit_empty_values": True}


def _status(status: int) -> Json:
    value = {"default_value": status, "runtime_key": "rempart.unused"}  # Envoy wants a key; no runtime layer sets it
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _details(expression: str) -> Json:
    return {
        "extension_filter": {
            "name": "envoy.access_loggers.extension_filters.cel",
            "typed_config": typed("extensions.access_loggers.filters.cel.v3.ExpressionFilter", expression=expression),
        }
    }
