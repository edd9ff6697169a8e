"""How a ruling is told to the enforcement point: HTTP, written by hand since it is the same few lines every time."""

from __future__ import annotations

import json

from rempart.kernel.problem import CONTENT_TYPE, problem

from .record import Ruling

REASONS = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict"}
REASONS |= {429: "Too Many Requests", 503: "Service Unavailable"}
_TOKEN_IS_OVER = ("invalid_token", "token_superseded", "session_ended")
_STEP_UP = "insufficient_user_authentication"  # RFC 9470 section 3
_NO_STATE = "tracestate: \r\n"  # an empty list replaces what came (W3C Trace Context section 3.3.1.1)


def granted(ruling: Ruling) -> bytes:
    state = _NO_STATE if ruling.new_state else ""
    return (
        f"HTTP/1.1 200 OK\r\nx-rempart-decision: {ruling.id}\r\nx-rempart-subject: {ruling.person}\r\n"
        f"x-rempart-role: {ruling.role}\r\nx-spiffe-id: {ruling.workload}\r\ntraceparent: {ruling.traceparent}\r\n"
        f"{state}content-length: 0\r\n\r\n"
    ).encode("ascii")


def refused(ruling: Ruling, realm: str, retry_after: int) -> bytes:
    """`realm` may hold only what needs no quoting in `www-authenticate`; `retry_after` is in seconds."""
    extra = ""
    if ruling.status == 401:
        error = ', error="invalid_token"' if ruling.code in _TOKEN_IS_OVER else ""
        if ruling.code == _STEP_UP:
            error = f', error="{_STEP_UP}"'
        extra = f'www-authenticate: Bearer realm="{realm}"{error}\r\n'
    elif ruling.status == 429:
        extra = f"retry-after: {retry_after or 60}\r\n"
    return refusal_response(ruling.status, ruling.code, ruling.reason, decision_id=ruling.id, extra=extra)


def refusal_response(status: int, code: str, reason: str, *, decision_id: str = "", extra: str = "") -> bytes:
    body = json.dumps(problem(status, code, reason, decision_id=decision_id)).encode()
    decision = f"x-rempart-decision: {decision_id}\r\n" if decision_id else ""
    head = (
        f"HTTP/1.1 {status} {REASONS.get(status, 'Refused')}\r\n{decision}{extra}content-type: {CONTENT_TYPE}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body
