"""`Protect`: an ASGI application behind its sidecar, where every request has a verified caller.

What it relies on: only the sidecar can reach the application's unix socket, and the sidecar overwrites the identity
headers. What it checks all the same (requirement G2): each identity header comes once, the caller's SPIFFE ID is one,
the token's signature, issuer, audience and expiry are right, and the token speaks of the person that the sidecar let
in. Without these there is no answer but a refusal.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol

from rempart.kernel.errors import BadInput, RempartError, Unauthenticated, Unavailable
from rempart.kernel.ids import new_id
from rempart.kernel.principal import Person
from rempart.kernel.spiffe import SpiffeId

from .answers import GuardedSend
from .identity import Caller, current
from .metrics import Metrics
from .workload import Workload

if TYPE_CHECKING:
    from .http import ServiceClient

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_ONCE = ("x-spiffe-id", "x-rempart-subject", "x-rempart-role", "x-rempart-decision", "x-request-id", "authorization")
log = logging.getLogger("rempart.sdk")


class Verifier(Protocol):
    async def verify(self, token: str) -> Any:
        """`rempart.crypto.jose.Claims`; raises Unauthenticated or Unavailable."""


class Protect:
    """Wrap the whole application: `app = Protect(app)`, or `app.add_middleware(Protect)` in Starlette and FastAPI.

    `verifier` defaults to the keys that `people` publishes, by this service's own sidecar. `health` and `/metrics`
    answer without a caller, for the supervisor; the policy keeps everybody else from them.
    """

    def __init__(
        self, app: App, *, verifier: Verifier | None = None, health: str = "/healthz", metrics: Metrics | None = None
    ) -> None:
        self._app = app
        self._verifier = verifier
        self._health = health
        self._metrics = metrics or Metrics()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif not await self._own_paths(scope, send):
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers = _identity_headers(scope)
        request_id = (headers["x-request-id"] or [""])[0][:128] or new_id("req")
        decision_id = (headers["x-rempart-decision"] or [""])[0]
        guarded = GuardedSend(send, request_id=request_id, decision_id=decision_id)
        try:
            who = await self._identify(headers, request_id, decision_id, scope)
            token = current.set(who)
            try:
                await self._app(scope, receive, guarded)
            finally:
                current.reset(token)
            await guarded.finish()
        except RempartError as error:
            await guarded.refuse(error, token_sent=bool(headers["authorization"]))
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("request %s failed", request_id)
            await guarded.fail()
        finally:
            self._metrics.observe(scope["method"], guarded.status, time.perf_counter() - started)

    async def _identify(self, headers: dict[str, list[str]], request_id: str, decision_id: str, scope: Scope) -> Caller:
        for name, values in headers.items():
            if len(values) > 1:
                raise BadInput("duplicate_header", f"the header {name} is given {len(values)} times")
        if not headers["x-spiffe-id"]:
            raise Unauthenticated(
                "no_workload", "the request didn't come by the sidecar", "call the service through Rempart"
            )
        try:
            workload = SpiffeId.parse(headers["x-spiffe-id"][0])
        except BadInput as error:
            raise Unauthenticated("no_workload", error.reason) from None
        authorization = (headers["authorization"] or [""])[0]
        traceparent = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"traceparent"), "")
        person, claims = None, {}
        if authorization:
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() != "bearer" or not token:
                raise Unauthenticated(
                    "invalid_token", "the authorization isn't a bearer token", "log in, send the token"
                )
            verified = await self._the_verifier().verify(token.strip(" "))
            person, claims = Person(verified.subject, verified.role), verified.raw
        for name, ours in (
            ("x-rempart-subject", person and person.subject),
            ("x-rempart-role", person and person.role),
        ):
            if headers[name] and headers[name][0] != (ours or ""):
                raise Unauthenticated("identity_mismatch", f"{name} and the token speak of different people")
        return Caller(workload, person, claims, request_id, decision_id, traceparent, authorization)

    def _the_verifier(self) -> Verifier:
        if self._verifier is None:
            self._verifier = published_keys_verifier()
        return self._verifier

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
            who = await self._identify(headers, (headers["x-request-id"] or [""])[0], "", scope)
        except RempartError as error:
            # Closing before accepting is answered by 403 (ASGI specification, "Close - send event").
            await send({"type": "websocket.close", "code": 1008, "reason": error.code})
            return
        token = current.set(who)
        try:
            await self._app(scope, receive, send)
        finally:
            current.reset(token)


def published_keys_verifier(people: ServiceClient | None = None) -> Verifier:
    """Verifies with the keys at people's `/auth/jwks.json`; `people` must be among the service's `calls`."""
    from .http import ServiceClient
    from .tokens import PublishedKeys, TokenVerifier

    me = Workload.from_environment()
    if not me.issuer:
        raise Unavailable("keys_unavailable", "REMPART_ISSUER is not set, so no token can be trusted")
    keys = PublishedKeys((people or ServiceClient("people")).get_bytes)
    return TokenVerifier(keys, issuer=me.issuer, audience=me.trust_domain)


def _identity_headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {name: [] for name in _ONCE}
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1")
        if name in found:
            found[name].append(raw_value.decode("latin-1"))
    return found
