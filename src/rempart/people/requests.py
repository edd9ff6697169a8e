"""Reading requests strictly, and answering refusals: the HTTP edge of this room.

What comes in is bounded, decoded once and refused as 400 when it is not exactly what was asked for. What goes out as a
refusal is a problem document (RFC 9457), or an OAuth error (RFC 6749 section 5.2) where OAuth says so.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput, NotFound, RempartError, Throttled, Unauthenticated
from rempart.kernel.problem import CONTENT_TYPE, problem

from .model import Origin

MAX_BODY = 16 * 1024
DEVICE_PROOF_COOKIE = "__Host-rempart-bound"
_log = logging.getLogger(__name__)
T = TypeVar("T")


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of request bodies: unknown fields are refused, types are exact."""


class KeyProofNeeded(Unauthenticated):
    """A token that is bound to a key came without a good proof of it; `nonce` is for the next one (RFC 9449 9)."""

    def __init__(self, code: str, reason: str, *, nonce: str) -> None:
        super().__init__(code, reason, "send a new DPoP proof")
        self.nonce = nonce


class BodyTooLarge(BadInput):
    status = 413


class Json(JSONResponse):
    """For what is asked often."""

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


class Problem(JSONResponse):
    media_type = CONTENT_TYPE


async def read_body(request: Request, most: int = MAX_BODY) -> bytes:
    """Raises BodyTooLarge `body_too_large`."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise BodyTooLarge("body_too_large", f"the body is larger than {most} bytes")
    except ClientDisconnect:
        raise BadInput("incomplete", "the request ended before its body") from None
    return bytes(body)


async def read_json(request: Request, kind: type[T], *, most: int = MAX_BODY) -> T:
    """Raises BadInput `bad_content_type`, `body_too_large`, `bad_json` or `bad_body`."""
    if _media_type(request) != "application/json":
        raise BadInput("bad_content_type", "the body must be JSON", "send content-type: application/json")
    value = strict_json.loads(await read_body(request, most))
    try:
        return msgspec.convert(value, kind, strict=True)
    except (msgspec.ValidationError, RecursionError) as error:
        raise BadInput("bad_body", str(error)[:200], "see docs/people.md for the fields") from None


async def read_form(request: Request) -> dict[str, str]:
    """RFC 6749 section 3.2: form-encoded, no parameter twice, one without a value is as none.

    Raises BadInput `invalid_request`.
    """
    if _media_type(request) != "application/x-www-form-urlencoded":
        raise BadInput("invalid_request", "the body must be application/x-www-form-urlencoded")
    try:
        pairs = parse_qsl(
            (await read_body(request)).decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=32
        )
    except (ValueError, UnicodeError):
        raise BadInput("invalid_request", "the body is not a proper form") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise BadInput("invalid_request", "a parameter is given twice")
    return {name: value for name, value in form.items() if value}


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def query_int(request: Request, name: str, default: int, *, most: int) -> int:
    """BadInput `bad_query`."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise BadInput("bad_query", f"{name} must be 1 to {most}")
    return int(text)


class Origins:
    """Reads where a request came from out of what our own sidecar set.

    `x-forwarded-for` (the setting `client_ip_header`) is believed only from the gateway, which wrote it itself;
    another workload counts as its SPIFFE ID, whatever it says. Raises BadInput `duplicate_header`.
    """

    def __init__(self, *, gateway: str, client_ip_header: str) -> None:
        self._gateway, self._header = gateway, client_ip_header
        self._once = frozenset({"x-spiffe-id", "authorization", client_ip_header})

    def of(self, request: Request) -> Origin:
        headers: dict[str, str] = {}
        for raw, value in request.scope["headers"]:  # once: each look-up by name would go through them all
            name = raw.decode("latin-1")
            if name in headers and name in self._once:
                raise BadInput("duplicate_header", "a header that says who asks is there twice", "send it once")
            headers.setdefault(name, value.decode("latin-1"))
        workload = headers.get("x-spiffe-id")
        ip = headers.get(self._header, "").rpartition(",")[2].strip() if workload == self._gateway else ""
        return Origin(
            ip=ip[:64] or None,
            workload=workload,
            request_id=_clip(headers.get("x-request-id")),
            trace_id=_trace_id(headers.get("traceparent")),
            decision_id=_clip(headers.get("x-rempart-decision")),
            user_agent=(headers.get("user-agent") or "")[:200],
            locale=headers.get("accept-language", "").partition(",")[0].partition(";")[0].strip()[:20],
            device_proof=request.cookies.get(DEVICE_PROOF_COOKIE, "")[:128],
        )


def _clip(text: str | None) -> str | None:
    return text[:128] if text else None


def _trace_id(traceparent: str | None) -> str | None:
    """W3C Trace Context section 3.2."""
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else None


def application(routes: Sequence[BaseRoute]) -> Starlette:
    """An application whose every refusal is a problem document. A path with one slash more is another path: the
    framework's redirect for it names the scheme that it sees itself, which is plain http."""
    app = Starlette(
        routes=routes,
        exception_handlers={RempartError: _refused, HTTPException: _http_refused, Exception: _failed},
    )
    app.router.redirect_slashes = False
    return app


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RempartError)  # nosec B101 - how Starlette types its handlers
    return refuse(request, error)


def refuse(request: Request, error: RempartError) -> Response:
    decision = request.headers.get("x-rempart-decision", "")[:128]
    document = problem(error.status, error.code, error.reason, remedy=error.remedy, decision_id=decision)
    headers = {"cache-control": "no-store"}
    if isinstance(error, Throttled):
        headers["retry-after"] = str(error.retry_after)
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = challenge(error)
    if isinstance(error, KeyProofNeeded):
        headers["dpop-nonce"] = error.nonce
    if error.status >= 500:
        _log.error("%s %s: %s", request.method, request.url.path, error.code)
    return Problem(document, error.status, headers)


def challenge(error: Unauthenticated) -> str:
    """RFC 6750 section 3: with an error only when a token was presented; RFC 9449 section 7.1."""
    if isinstance(error, KeyProofNeeded):
        return f'DPoP error="{error.code}", algs="ES256 EdDSA Ed25519 PS256"'
    if error.code == "invalid_token":
        why = error.reason.replace('"', "'").replace("\\", "/")
        return f'Bearer realm="rempart", error="invalid_token", error_description="{why}"'
    return 'Bearer realm="rempart"'


async def _http_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # nosec B101 - how Starlette types its handlers
    if error.status_code == 404:
        return refuse(request, NotFound("no_such_route", "there is nothing at this path"))
    code = {405: "method_not_allowed"}.get(error.status_code, "bad_request")
    decision = request.headers.get("x-rempart-decision", "")[:128]
    document = problem(error.status_code, code, str(error.detail), decision_id=decision)
    return Problem(document, error.status_code, dict(error.headers or {}))


async def _failed(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return Problem(problem(500, "internal", "the server failed; this is not the request's fault"), 500)


Endpoint = Callable[[Request], Awaitable[Response]]


def no_store() -> dict[str, str]:
    """RFC 6749 section 5.1."""
    return {"cache-control": "no-store", "pragma": "no-cache"}


def oauth(endpoint: Endpoint) -> Endpoint:
    """Answer refusals as RFC 6749 section 5.2 says; `code` and `detail` are as in problem documents.

    A refusal whose code is a registered error keeps it; all are 400 but those of authentication (401 with a
    challenge), too large bodies (413, RFC 9126 section 2.3), too many requests (429) and our own failing (5xx).
    """

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except RempartError as error:
            known = error.code if error.code in OAUTH_ERRORS else _OAUTH_BY_STATUS.get(error.status, "invalid_request")
            body: dict[str, Any] = {
                "error": known,
                "error_description": _DESCRIPTION.sub("'", error.reason)[:300],
                "code": error.code,
                "detail": error.reason,
            }
            headers = no_store()
            if isinstance(error, Throttled):
                headers["retry-after"] = str(error.retry_after)
            if isinstance(error, Unauthenticated):
                headers["www-authenticate"] = 'Basic realm="rempart"' if known == "invalid_client" else challenge(error)
            if error.status >= 500:
                _log.error("%s %s: %s", request.method, request.url.path, error.code)
            kept = error.status in (401, 413, 429) or error.status >= 500
            return JSONResponse(body, error.status if kept else 400, headers)

    return answer


OAUTH_ERRORS = frozenset(
    {
        *("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type"),
        *("invalid_scope", "access_denied", "unsupported_response_type", "temporarily_unavailable"),  # RFC 6749
        *("request_not_supported", "registration_not_supported", "login_required"),  # OpenID Connect Core 3.1.2.6
        "unmet_authentication_requirements",  # OpenID Connect Core Unmet Authentication Requirements 1.0
        *("authorization_pending", "slow_down", "expired_token"),  # RFC 8628
        "invalid_target",  # RFC 8707
        *("unsupported_token_type", "invalid_token"),  # RFC 7009, RFC 6750
        *("invalid_dpop_proof", "use_dpop_nonce"),  # RFC 9449
        *("invalid_redirect_uri", "invalid_client_metadata"),  # RFC 7591
    }
)
_OAUTH_BY_STATUS = {401: "invalid_client", 429: "slow_down", 503: "temporarily_unavailable"}
_DESCRIPTION = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")  # what `error_description` may not hold
