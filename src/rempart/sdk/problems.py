"""Errors at the HTTP edge: to problem documents (RFC 9457) and back."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any

from rempart.kernel.errors import OF_STATUS, RempartError, Throttled, Unavailable
from rempart.kernel.problem import CONTENT_TYPE, problem

Headers = list[tuple[bytes, bytes]]

_DECISION = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CODES = {
    400: "bad_request",
    401: "unauthenticated",
    403: "denied",
    404: "not_found",
    405: "method_not_allowed",
    500: "service_failed",
}


def encode(error: RempartError, *, decision_id: str = "", token_sent: bool = False) -> tuple[int, Headers, bytes]:
    """Status, headers and body of the answer that `error` stands for."""
    document = problem(
        error.status, error.code, error.reason, remedy=error.remedy, decision_id=error.decision_id or decision_id
    )
    headers = _headers(error.status, token_sent=token_sent)
    if isinstance(error, Throttled):
        headers.append((b"retry-after", str(error.retry_after).encode()))
    return error.status, headers, json.dumps(document).encode()


def from_foreign(status: int, content_type: str, body: bytes, *, decision_id: str = "") -> tuple[int, Headers, bytes]:
    """A framework's own refusal (its 404, 405, 422…) told as a problem document; a JSON body is kept under `errors`."""
    code = _CODES.get(status, f"http_{status}")
    document = problem(status, code, "the service answered so", decision_id=decision_id)
    document["detail"] = document["title"]
    if status < 500 and content_type.startswith("application/json"):
        with contextlib.suppress(ValueError, RecursionError):
            document["errors"] = json.loads(body)
    return status, _headers(status), json.dumps(document).encode()


def _headers(status: int, *, token_sent: bool = False) -> Headers:
    headers: Headers = [(b"content-type", CONTENT_TYPE.encode()), (b"cache-control", b"no-store")]
    if status == 401:
        # RFC 6750 section 3: no error code unless a token was sent.
        headers.append((b"www-authenticate", b'Bearer error="invalid_token"' if token_sent else b"Bearer"))
    return headers


def decode(status: int, headers: Mapping[str, str], body: bytes, *, of: str) -> RempartError:
    """The error that a refusing answer of service `of` stands for; what isn't a 4xx problem document is Unavailable."""
    document: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(body)
    if not isinstance(document, dict) or not isinstance(document.get("code"), str):
        return Unavailable("upstream_failed", f"{of} answered {status}", f"see `rempart logs {of}`")
    error = _told(status, document, headers.get("retry-after", ""), of)
    decision_id = document.get("decision_id")
    if isinstance(decision_id, str) and _DECISION.fullmatch(decision_id):
        error.decision_id = decision_id
    return error


def _told(status: int, document: dict[str, Any], wait: str, of: str) -> RempartError:
    code, detail, remedy = document["code"], str(document.get("detail", "")), str(document.get("remedy", ""))
    if status in OF_STATUS:
        return OF_STATUS[status](code, detail, remedy)
    if status == 429:
        return Throttled(code, detail, remedy, retry_after=int(wait) if wait.isascii() and wait.isdigit() else 1)
    return Unavailable("upstream_failed", f"{of} answered {status}", f"see `rempart logs {of}`")
