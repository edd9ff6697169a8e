"""The auditors' read-only face: `GET /logs`, `GET /opa/policies`, `GET /metrics` (requirement F9).

`/logs/` is the log itself as c2sp.org/tlog-tiles has it: `/logs/checkpoint`, `/logs/tile/…`.

The PDP has decided before a request comes here; this face checks again who asks, so that a mistake in a policy does not
open the record: the caller is the gateway, the token is valid, the role is `audit`, the method is GET.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from rempart.kernel.errors import (
    BadInput,
    Denied,
    MethodNotAllowed,
    NotFound,
    RempartError,
    Unauthenticated,
    Unavailable,
)
from rempart.kernel.principal import Role
from rempart.protocols.http_answers import Handler, refusal
from rempart.telemetry.exposition import CONTENT_TYPE as METRICS_TYPE

from .collect import collect
from .exposition import OPENMETRICS
from .ports import Answer, MetricsSource, Reader, TokenVerifier

LOG_PARAMETERS = (
    *("person", "workload", "type", "since", "until", "limit", "before", "decision", "rule", "path", "text", "fresh"),
)
MAX_EVENTS = 1000
_TILES = ("/logs/checkpoint", "/logs/tile/")


def observer_app(
    *,
    gateway: str,
    tokens: TokenVerifier,
    log: Reader,
    policies: Reader,
    metrics: Mapping[str, MetricsSource],
) -> ASGIApp:
    """`gateway` is the SPIFFE ID that requests must come from."""
    routes: Mapping[str, Handler] = {
        "/logs": partial(_logs, log),
        "/opa/policies": partial(_policies, policies),
        "/metrics": partial(_metrics, metrics),
    }

    async def answer(request: Request) -> Response:
        if request.scope["path"] == "/healthz":
            return JSONResponse({"ready": True})
        request.state.auditor = await _authorise(request, gateway, tokens)
        path = request.scope["path"]
        handler = partial(_tile, log) if path.startswith(_TILES) else routes.get(path)
        if handler is None:
            raise NotFound("no_such_resource", "nothing is at this path", "ask for /logs, /opa/policies or /metrics")
        if request.method != "GET":
            raise MethodNotAllowed("read_only", "auditors only read", "use GET")
        return await handler(request)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await answer(request)
        except RempartError as error:
            response = _refusal(error, request)
        response.headers["cache-control"] = "no-store"
        await response(scope, receive, send)

    return app


async def _authorise(request: Request, gateway: str, tokens: TokenVerifier) -> str:
    """Who asks."""
    if request.headers.getlist("x-spiffe-id") != [gateway]:
        raise Denied("not_the_gateway", "requests come through the gateway only", "ask at the gateway's address")
    given = request.headers.getlist("authorization")
    scheme, _, token = (given[0] if len(given) == 1 else "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("no_token", "one bearer token is needed", "log in and send the access token")
    verified = await tokens.verify(token.strip())
    if verified.role != Role.AUDIT:
        raise Denied("role_not_allowed", "only role audit may read this", "ask an auditor")
    return verified.subject


def _refusal(error: RempartError, request: Request) -> Response:
    headers = {}
    if error.status == 401:
        headers["www-authenticate"] = f'Bearer error="invalid_token", error_description="{error.code}"'
    if error.status == 405:
        headers["allow"] = "GET"
    return refusal(error, decision_id=request.headers.get("x-rempart-decision", ""), headers=headers)


async def _logs(log: Reader, request: Request) -> Response:
    asked = _log_parameters(request) | {"asker": request.state.auditor}  # so that auditors take turns
    return _pass_on(await log.get("/search", asked), "the record")


def _log_parameters(request: Request) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in LOG_PARAMETERS:
            raise BadInput("unknown_parameter", f"{name[:50]!r} is not a parameter", "use " + ", ".join(LOG_PARAMETERS))
        if name in parameters:
            raise BadInput("repeated_parameter", f"{name} is given more than once", "give it once")
        if not value or len(value) > 500 or not value.isprintable():
            raise BadInput("bad_parameter", f"{name} is empty, too long or not printable", "give a plain value")
        parameters[name] = value
    limit = parameters.get("limit", "100")
    if not (limit.isascii() and limit.isdecimal() and len(limit) <= 5 and 1 <= int(limit) <= MAX_EVENTS):
        raise BadInput("bad_limit", f"limit is not a number from 1 to {MAX_EVENTS}", "page with since and until")
    return parameters | {"limit": str(int(limit))}


async def _tile(log: Reader, request: Request) -> Response:
    return _pass_on(await log.get(request.scope["path"].removeprefix("/logs"), {}), "the log")


async def _policies(policies: Reader, request: Request) -> Response:
    return _pass_on(await policies.get("/policies", {}), "the PDP")


def _pass_on(answer: Answer, of_what: str) -> Response:
    if answer.status >= 500:
        raise Unavailable("upstream_unavailable", f"{of_what} can't be read now", "see `rempart status`")
    return Response(answer.body, answer.status, media_type=answer.content_type)


async def _metrics(sources: Mapping[str, MetricsSource], request: Request) -> Response:
    """As OpenMetrics, with exemplars, to whom asks for it."""
    openmetrics = "application/openmetrics-text" in request.headers.get("accept", "")
    page = await collect(sources, openmetrics=openmetrics)
    return Response(page, media_type=OPENMETRICS if openmetrics else METRICS_TYPE)
