"""A span of each request that comes with a sampled `traceparent`; whatever else comes passes untouched."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from .spans import SERVER, Place, Spans, Work, parent_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Traced:
    """Wrap the whole application. Spans are named by method and route, never by what a caller wrote."""

    def __init__(self, app: App, spans: Spans) -> None:
        self._app, self._spans = app, spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parent = _parent(scope) if scope["type"] == "http" else None
        if parent is None:
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        with Work(self._spans, parent, method, SERVER) as work:

            async def watched(message: Any) -> None:
                if message["type"] == "http.response.start":
                    work.attributes["http.response.status_code"] = message["status"]
                    work.failed = message["status"] >= 500
                await send(message)

            work.attributes["http.request.method"] = method
            try:
                await self._app(scope, receive, watched)
            finally:
                if found := route(scope):
                    work.rename(f"{method} {found}")
                    work.attributes["http.route"] = found


def route(scope: Scope) -> str:
    """The template of the route that answered, as Starlette and FastAPI leave it in `scope`; empty where none did."""
    return str(getattr(scope.get("route"), "path", ""))


def _parent(scope: Scope) -> Place | None:
    for name, value in scope["headers"]:
        if name == b"traceparent":
            return parent_of(value.decode("latin-1"))
    return None
