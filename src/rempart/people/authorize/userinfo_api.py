"""The userinfo endpoint (OpenID Connect Core section 5.3).

Whoever was granted `openid` may ask, also with a token that `resource` made another server's (RFC 8707): that server
could ask as well, and is told what the token's scopes allow. Who doesn't want that asks for a token without `openid`.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ..access_tokens import SESSION
from ..requests import Origins
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
        return JSONResponse(claims_of(account, claims.scope), headers=_NO_STORE)
