"""What is told of this server: RFC 8414 and OpenID Connect Discovery, assembled from what is enabled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rempart.crypto.dpop import origin_of

from .model import Method
from .profile import Profile

_ALIASED = (
    *("token_endpoint", "introspection_endpoint", "revocation_endpoint", "userinfo_endpoint"),
    *("pushed_authorization_request_endpoint", "device_authorization_endpoint"),
)
_METHODS = ("token_endpoint", "introspection_endpoint", "revocation_endpoint")


class Metadata:
    """`grants`: what the token endpoint takes, asked each time; `more`: what other rooms add, whose members win.
    `mtls_url`: the origin where clients are asked for certificates (RFC 8705 section 5), "" for none."""

    def __init__(
        self,
        profile: Profile,
        grants: Callable[[], Awaitable[Sequence[str]]],
        more: Mapping[str, Any],
        *,
        issuer: str,
        max_age: int,
        mtls_url: str = "",
    ) -> None:
        self._profile, self._grants, self._more = profile, grants, more
        self._issuer, self._max_age, self._mtls_url = issuer, max_age, mtls_url

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/auth/.well-known/openid-configuration", self.document, methods=["GET"]),
            Route("/auth/.well-known/oauth-authorization-server", self.document, methods=["GET"]),
            Route("/.well-known/oauth-authorization-server/auth", self.document, methods=["GET"]),
        ]

    async def document(self, request: Request) -> Response:
        profile = self._profile
        document: dict[str, Any] = {
            "issuer": self._issuer,
            "token_endpoint": f"{self._issuer}/token",
            "introspection_endpoint": f"{self._issuer}/introspect",
            "revocation_endpoint": f"{self._issuer}/revoke",
            "userinfo_endpoint": f"{self._issuer}/userinfo",
            "jwks_uri": f"{self._issuer}/jwks.json",
            "grant_types_supported": list(await self._grants()),
            "response_types_supported": [],
            "scopes_supported": ["openid", "session"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": list(profile.signing),
            "dpop_signing_alg_values_supported": list(profile.algorithms),
        }
        methods = sorted(str(method) for method in profile.methods)
        for endpoint in _METHODS:
            proving = [name for name in methods if endpoint != "introspection_endpoint" or name != Method.NONE]
            document[f"{endpoint}_auth_methods_supported"] = proving
            document[f"{endpoint}_auth_signing_alg_values_supported"] = list(profile.algorithms)
        if Method.TLS in profile.methods:
            document["tls_client_certificate_bound_access_tokens"] = True
        headers = {"cache-control": f"public, max-age={self._max_age}"}
        document |= self._more
        if self._mtls_url:
            document["mtls_endpoint_aliases"] = {
                name: url.replace(origin_of(self._issuer), self._mtls_url, 1)
                for name, url in document.items()
                if name in _ALIASED
            }
        return JSONResponse(document, headers=headers)
