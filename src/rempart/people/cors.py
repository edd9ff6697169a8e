"""Cross-origin reads for browser applications (Fetch standard, CORS protocol): which endpoints, for whom, no cookies.

An origin is let in when a public client has a redirect URI there, compared whole; no other page may read an answer.
It is no protection of the endpoints: these ask for codes, tokens and keys, whoever calls. Pages, the account and the
administration are in no list, and credentials (cookies) are never allowed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rempart.kernel.clock import Clock
from rempart.kernel.errors import Unavailable

REMEMBERED = 2.0  # seconds that a registered or deleted client may take to be noticed
PREFLIGHT_LIFE = 600  # seconds that a browser may keep the answer
METHODS: Mapping[str, str] = {
    "/auth/token": "POST",
    "/auth/revoke": "POST",
    "/auth/par": "POST",
    "/auth/userinfo": "GET, POST",
    "/auth/jwks.json": "GET",
    "/auth/.well-known/openid-configuration": "GET",
    "/auth/.well-known/oauth-authorization-server": "GET",
    "/.well-known/oauth-authorization-server/auth": "GET",
}
_HEADERS = "authorization, content-type, dpop"
_EXPOSED = "dpop-nonce, www-authenticate, retry-after"
_ORIGIN = re.compile(r"https?://[a-z0-9.:\[\]-]{1,260}")
_PAGE = 500


class PublicClient(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def public(self) -> bool: ...
    @property
    def redirect_uris(self) -> Sequence[str]: ...


class PublicClients(Protocol):
    """`people.oauth.clients.Clients`."""

    async def page(self, after: str, limit: int) -> Sequence[PublicClient]: ...


class BrowserApplications:
    """The origins of public clients' redirect URIs, read anew at most every `REMEMBERED` seconds whoever asks."""

    def __init__(self, clients: PublicClients, clock: Clock) -> None:
        self._clients, self._clock = clients, clock
        self._known: frozenset[str] = frozenset()
        self._until = float("-inf")
        self._reading = asyncio.Lock()

    async def include(self, origin: str) -> bool:
        """Raises Unavailable."""
        if not _ORIGIN.fullmatch(origin):
            return False
        async with self._reading:
            if self._clock.monotonic() >= self._until:
                self._known = await self._read()
                self._until = self._clock.monotonic() + REMEMBERED
        return origin in self._known

    async def _read(self) -> frozenset[str]:
        found: set[str] = set()
        after = ""
        while page := await self._clients.page(after, _PAGE):
            found.update(origin for client in page if client.public for origin in origins_of(client.redirect_uris))
            after = page[-1].id
        return frozenset(found)


def origins_of(redirect_uris: Iterable[str]) -> Iterable[str]:
    """As browsers write them: lower case, no default port. Own schemes have none."""
    for uri in redirect_uris:
        parts = urlsplit(uri)
        if parts.scheme in ("https", "http") and parts.hostname:
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            default = {"https": 443, "http": 80}[parts.scheme]
            yield f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in (None, default) else "")


class CrossOrigin:
    """Around the application. A refused preflight is 403: the browser asks no further."""

    def __init__(self, app: ASGIApp, applications: BrowserApplications) -> None:
        self._app, self._applications = app, applications

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        methods = METHODS.get(scope.get("path", "")) if scope["type"] == "http" else None
        if methods is None:
            await self._app(scope, receive, send)
            return
        origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
        if not origins and scope["method"] == "POST":  # no page: nothing to vary by in what no cache keeps
            await self._app(scope, receive, send)
            return
        origin = origins[0] if len(origins) == 1 else ""
        try:
            allowed = bool(origin) and await self._applications.include(origin)
            gone = False
        except Unavailable:
            allowed, gone = False, True
        if scope["method"] == "OPTIONS" and origins and "access-control-request-method" in Headers(scope=scope):
            await _preflight(origin, methods, allowed, gone)(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.add_vary_header("origin")
                if allowed:
                    headers["access-control-allow-origin"] = origin
                    headers["access-control-expose-headers"] = _EXPOSED
            await send(message)

        await self._app(scope, receive, sent)


def _preflight(origin: str, methods: str, allowed: bool, gone: bool) -> Response:
    headers = {"vary": "origin", "cache-control": "no-store"}
    if not allowed:
        return Response(status_code=503 if gone else 403, headers=headers)
    headers |= {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": methods,
        "access-control-allow-headers": _HEADERS,
        "access-control-max-age": str(PREFLIGHT_LIFE),
    }
    return Response(status_code=204, headers=headers)
