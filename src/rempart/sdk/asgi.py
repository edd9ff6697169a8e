"""`Protect`: an ASGI application behind its sidecar, where every request has a verified caller (see `identify`)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from rempart.kernel.errors import RempartError
from rempart.telemetry.asgi import Traced

from .answers import GuardedSend
from .identify import Identifier, IdentityHeaders, Verifier
from .identity import current
from .metrics import Metrics
from .tracing import service_spans

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("rempart.sdk")


class Protect:
    """Wrap the whole application: `app = Protect(app)`, or `app.add_middleware(Protect)` in Starlette and FastAPI.

    `verifier` defaults to the keys that `people` publishes, by this service's own sidecar. `health` and `/metrics`
    answer without a caller, for the supervisor; the policy keeps everybody else from them.
    """

    def __init__(
        self, app: App, *, verifier: Verifier | None = None, health: str = "/healthz", metrics: Metrics | None = None
    ) -> None:
        self._app = app
        self._identifier = Identifier(verifier)
        self._health = health
        self._metrics = metrics or Metrics()
        spans = service_spans()
        self._answering: App = self._answer if spans is None else Traced(self._answer, spans)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif not await self._own_paths(scope, send):
            await self._answering(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers = _identity_headers(scope)
        guarded = GuardedSend(send, request_id=headers.request_id, decision_id=headers.decision_id)
        try:
            who = await headers.caller(self._identifier)
            token = current.set(who)
            try:
                await self._app(scope, receive, guarded)
            finally:
                current.reset(token)
            await guarded.finish()
        except RempartError as error:
            await guarded.refuse(error, token_sent=bool(headers.get("authorization")))
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("request %s failed", headers.request_id)
            await guarded.fail()
        finally:
            self._metrics.observe(scope["method"], guarded.status, time.perf_counter() - started)

    async def _own_paths(self, scope: Scope, send: Send) -> bool:
        """/healthz and /metrics tell nothing about anybody."""
        if scope["method"] not in ("GET", "HEAD") or scope["path"] not in (self._health, "/metrics"):
            return False
        if scope["path"] == "/metrics":
            body, content_type = self._metrics.page(), b"text/plain; version=0.0.4; charset=utf-8"
        else:
            body, content_type = b'{"status":"ok"}', b"application/json"
        headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return True

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _identity_headers(scope)
        try:
            who = await headers.caller(self._identifier)
        except RempartError as error:
            # Closing before accepting is answered by 403 (ASGI specification, "Close - send event").
            await send({"type": "websocket.close", "code": 1008, "reason": error.code})
            return
        token = current.set(who)
        try:
            await self._app(scope, receive, send)
        finally:
            current.reset(token)


def _identity_headers(scope: Scope) -> IdentityHeaders:
    return IdentityHeaders((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
