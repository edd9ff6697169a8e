"""Browsers are at one name: sessions, forms and passkeys belong to the issuer's.

A gateway may answer to more names (`[gateway] names`). Programs are served at each; a person who opens a page at
another one is sent to the same page at the issuer's, before anything is looked at.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_HEADERS = {"cache-control": "no-store", "vary": "host, sec-fetch-mode"}


class OneName:
    """`others`: origins that aren't the issuer's."""

    def __init__(self, app: ASGIApp, issuer: str, others: Collection[str]) -> None:
        parts = urlsplit(issuer)
        self._app, self._origin = app, f"{parts.scheme}://{parts.netloc}"
        self._others = frozenset(urlsplit(origin).netloc.encode() for origin in others)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._sent_away(scope):
            query = scope["query_string"].decode("latin-1")
            path = scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
            await RedirectResponse(self._origin + path, 307, _HEADERS)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _sent_away(self, scope: Scope) -> bool:
        if scope["method"] not in ("GET", "HEAD"):
            return False
        found = dict(scope["headers"])
        return found.get(b"host", b"").lower() in self._others and found.get(b"sec-fetch-mode") == b"navigate"
