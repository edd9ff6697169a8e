"""How our processes answer over HTTP: JSON, and problem documents (RFC 9457) for every refusal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from rempart.kernel.errors import RempartError

from .http_pages import refused

Handler = Callable[[Request], Awaitable[Response]]


def served(answer: Handler) -> ASGIApp:
    """Its refusals become problem documents; nothing that it answers is to be kept by caches."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            response = await answer(Request(scope, receive))
        except RempartError as error:
            response = refusal(error)
        except ClientDisconnect:
            return
        response.headers["cache-control"] = "no-store"
        await response(scope, receive, send)

    return app


def refusal(error: RempartError, *, decision_id: str = "", headers: Mapping[str, str] | None = None) -> Response:
    page = refused(error, decision_id)
    return Response(page.content, page.status, {**(headers or {}), **page.headers}, page.kind)


def json_response(document: Any, status: int = 200, media_type: str = "application/json") -> Response:
    return Response(msgspec.json.encode(document), status, media_type=media_type)
