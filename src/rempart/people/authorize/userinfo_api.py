"""The userinfo endpoint (OpenID Connect Core section 5.3).

Whoever was granted `openid` may ask, also with a token that `resource` made another server's (RFC 8707): that server
could ask as well, and is told what the token's scopes allow. Who doesn't want that asks for a token without `openid`.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.errors import BadInput

from ..access_tokens import SESSION
from ..requests import Origins, read_form
from .id_tokens import claims_of
from .model import OFFLINE, OPENID
from .ports import Bearers

_NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}


class UserinfoFace:
    def __init__(self, bearers: Bearers, origins: Origins, *, issuer: str) -> None:
        self._bearers, self._origins, self._issuer = bearers, origins, issuer

    def routes(self) -> list[BaseRoute]:
        return [Route("/auth/userinfo", self.userinfo, methods=["GET", "POST"])]

    def metadata(self) -> dict[str, object]:
        return {
            "userinfo_endpoint": f"{self._issuer}/userinfo",
            "scopes_supported": [OPENID, "profile", "email", "roles", OFFLINE, SESSION],
            "claims_supported": [
                *("iss", "sub", "aud", "azp", "iat", "exp", "auth_time", "nonce", "acr", "amr", "sid", "at_hash"),
                *("name", "updated_at", "email", "role", "payment_limit"),
            ],
        }

    async def userinfo(self, request: Request) -> Response:
        claims, account = await self._bearers.person(request, self._origins.of(request), scope=OPENID)
        if not {OPENID, SESSION} & set(claims.scope):
            challenge = 'Bearer realm="rempart", error="insufficient_scope", scope="openid"'
            document = {"error": "insufficient_scope", "error_description": "the token's scope lacks openid"}
            return JSONResponse(document, 403, {**_NO_STORE, "www-authenticate": challenge})  # RFC 6750 section 3.1
        if request.method == "POST" and "access_token" in await _form(request):
            challenge = 'Bearer realm="rempart", error="invalid_request"'
            document = {"error": "invalid_request", "error_description": "the token is sent in two ways"}
            return JSONResponse(document, 400, {**_NO_STORE, "www-authenticate": challenge})  # RFC 6750 section 2
        return JSONResponse(claims_of(account, claims.scope), headers=_NO_STORE)


async def _form(request: Request) -> dict[str, str]:
    """Empty for what is none: there is nothing that a body could say here."""
    try:
        return await read_form(request)
    except BadInput:
        return {}
