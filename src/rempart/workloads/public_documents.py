"""What others need to trust this trust domain, for everybody to read, behind identity's own sidecar and the gateway.

`GET /workloads/.well-known/openid-configuration` (OpenID Connect Discovery 1.0 section 4) and `GET /workloads/keys`
(RFC 7517): with these a cloud takes JWT-SVIDs for what they are. `GET /workloads/bundle`: the SPIFFE bundle, profile
https_web (SPIFFE_Federation.md section 5.2.1).
"""

from __future__ import annotations

from typing import Any

from rempart.protocols.http_pages import Ask, Page, Route, json_page

from .identities import Identities
from .workload_api import spiffe_bundle

PATH = "/workloads"


def _cached(seconds: int) -> dict[str, str]:
    return {"cache-control": f"public, max-age={seconds}"}


def discovery(issuer: str) -> dict[str, Any]:
    """There is nowhere to log in: a workload gets its tokens from its own host."""
    return {
        "issuer": issuer,
        "jwks_uri": f"{issuer}/keys",
        "authorization_endpoint": "",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }


class PublicDocuments:
    """`issuer` is what JWT-SVIDs say in `iss`."""

    def __init__(self, identities: Identities, issuer: str) -> None:
        self._identities, self._issuer = identities, issuer

    def routes(self) -> list[Route]:
        return [
            Route("GET", PATH + "/.well-known/openid-configuration", self.configuration),
            Route("GET", PATH + "/keys", self.keys),
            Route("GET", PATH + "/bundle", self.bundle),
        ]

    async def configuration(self, ask: Ask) -> Page:
        return json_page(discovery(self._issuer), _cached(self._identities.refresh_hint))

    async def keys(self, ask: Ask) -> Page:
        names = ("kty", "crv", "x", "y", "kid", "alg")
        known = self._identities.bundle().jwt_keys
        keys = [{**{name: jwk[name] for name in names}, "use": "sig"} for jwk in known]
        return json_page({"keys": keys}, _cached(self._identities.refresh_hint))

    async def bundle(self, ask: Ask) -> Page:
        return json_page(spiffe_bundle(self._identities.bundle()), _cached(self._identities.refresh_hint))
