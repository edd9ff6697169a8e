"""The first-party face: logging in, and the keys that verifiers need; and whose token a request carries."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rempart.crypto.jose import Claims
from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Denied, Unauthenticated
from rempart.kernel.event import Event, EventType, Severity

from .collapse import Collapse
from .devices import DEVICE_COOKIE, set_device
from .factors.model import SecondFactorNeeded
from .login import Logins
from .login_record import login_failed
from .model import Account, Origin
from .oauth.certificates import ClientCertificates
from .oauth.dpop import Dpop
from .oauth.live_tokens import LiveTokens, check_possession
from .refresh_tokens import Grant, RefreshTokens
from .requests import Body, Json, KeyProofNeeded, Origins, no_store, read_json
from .signing_keys import SigningKeys


class LoginBody(Body, frozen=True):
    email: str
    password: str
    otp: str | None = None
    device: str | None = None


@dataclass(frozen=True)
class Bearers:
    """Who the access token of a request belongs to, as the account is now and not as it was at login.

    `audience` is the trust domain: a token for somebody else opens nothing here but userinfo.
    """

    live: LiveTokens
    dpop: Dpop
    audience: str
    refusals: Collapse
    clock: Clock
    certificates: ClientCertificates

    async def person(self, request: Request, origin: Origin, *, scope: str = "") -> tuple[Claims, Account]:
        """With `scope` also who holds a token that has it and names another audience, unless by token exchange.

        Raises Unauthenticated `missing_token`, `invalid_token`, `invalid_dpop_proof` or `use_dpop_nonce`; a refused
        token is recorded."""
        claims, account = await self._holder(request, origin, person=True, scope=scope)
        assert account is not None  # nosec B101 - what `person` asked for
        return claims, account

    async def client(self, request: Request, origin: Origin, scope: str) -> str:
        """The client that acts for itself, with this scope. Raises as `person`, and Denied `insufficient_scope`."""
        claims, _ = await self._holder(request, origin, person=False)
        if scope not in claims.scope:
            raise Denied("insufficient_scope", f"this needs the scope {scope}", "register the client with it")
        return claims.subject

    async def _holder(
        self, request: Request, origin: Origin, *, person: bool, scope: str = ""
    ) -> tuple[Claims, Account | None]:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() not in ("bearer", "dpop") or not token:
            raise Unauthenticated("missing_token", "a bearer token is needed", "log in, and send authorization: Bearer")
        try:
            claims, account = await self.live.read(token.strip())
            audience = claims.raw.get("aud")
            anywhere = scope in claims.scope and "act" not in claims.raw
            if not anywhere and self.audience not in (audience if isinstance(audience, list) else [audience]):
                raise Unauthenticated("invalid_token", "the access token is not valid: wrong audience", "log in again")
            if person is (account is None):
                whose = "person's" if person else "client's own"
                raise Unauthenticated("invalid_token", f"the access token is not valid: it is no {whose}", "log in")
            certificate = self.certificates.thumbprint(request, origin)
            await check_possession(request, claims.raw, token.strip(), self.dpop, certificate)
        except (Unauthenticated, BadInput) as error:
            if error.code == "use_dpop_nonce":
                raise KeyProofNeeded(error.code, error.reason, nonce=self.dpop.nonce()) from None
            event = origin.stamp(
                Event(
                    type=EventType.TOKEN_REFUSED,
                    at=self.clock.now(),
                    success=False,
                    severity=Severity.LOW,
                    reason=error.reason,
                    details={"token": "access"},  # nosec B105 - a kind
                )
            )
            await self.refusals.record(event, origin.network, error.reason)
            if isinstance(error, BadInput) or scheme.lower() == "dpop":  # RFC 9449 section 7.1
                raise KeyProofNeeded(error.code, error.reason, nonce=self.dpop.nonce()) from None
            raise
        return claims, account


class PublicFace:
    def __init__(
        self,
        logins: Logins,
        refresh: RefreshTokens,
        keys: SigningKeys,
        origins: Origins,
        *,
        jwks_max_age: int,
    ) -> None:
        self._logins, self._refresh, self._keys = logins, refresh, keys
        self._origins, self._jwks_max_age = origins, jwks_max_age

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/login", self.login, methods=["POST"]),
            Route("/auth/jwks.json", self.jwks, methods=["GET"]),
        ]

    async def login(self, request: Request) -> Response:
        body = await read_json(request, LoginBody)
        device = body.device or request.cookies.get(DEVICE_COOKIE)
        origin = self._origins.of(request)
        found = await self._logins.authenticate(body.email, body.password, body.otp, device, origin, in_steps=False)
        if isinstance(found, SecondFactorNeeded):
            raise login_failed()
        grant = await self._refresh.open(found.account, found.amr, origin)
        device = self._logins.remember(found.account)
        response = Json({**_grant(grant), "device": device}, headers=no_store())
        set_device(response, device)
        return response

    async def jwks(self, request: Request) -> Response:
        return _cached(request, self._keys.document, "application/jwk-set+json", self._jwks_max_age)


def _grant(grant: Grant) -> dict[str, Any]:
    return {
        "access_token": grant.access_token,
        "token_type": "Bearer",  # nosec B105 - RFC 6750
        "expires_in": grant.expires_in,
        "refresh_token": grant.refresh_token,
        "scope": grant.scope,
    }


def _cached(request: Request, body: bytes, media_type: str, max_age: int) -> Response:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"cache-control": f"public, max-age={max_age}, must-revalidate", "etag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)
