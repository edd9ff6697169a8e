"""The public face: logging in, refreshing, revoking, and what verifiers need to know."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rempart.crypto.jose import Claims
from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Unauthenticated
from rempart.kernel.event import Event, EventType, Severity

from .access_tokens import SESSION, AccessTokens
from .accounts import Accounts
from .collapse import Collapse
from .factors.model import SecondFactorNeeded
from .login import Logins
from .login_record import login_failed
from .model import Account, Origin
from .ports import Tally
from .refresh_tokens import Grant, RefreshTokens
from .requests import Body, Origins, oauth, read_form, read_json
from .signing_keys import SigningKeys

DEVICE_COOKIE = "__Host-rempart-device"
_YEAR = 365 * 86400


class LoginBody(Body, frozen=True):
    email: str
    password: str
    otp: str | None = None
    device: str | None = None


@dataclass(frozen=True)
class Bearers:
    """Who the bearer token of a request belongs to, as the account is now and not as it was at login."""

    tokens: AccessTokens
    accounts: Accounts
    refusals: Collapse
    clock: Clock

    async def person(self, request: Request, origin: Origin) -> tuple[Claims, Account]:
        """Raises Unauthenticated `missing_token` or `invalid_token`; a refused token is recorded."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("missing_token", "a bearer token is needed", "log in, and send authorization: Bearer")
        try:
            claims = self.tokens.verify(token.strip())
            account = await self.accounts.peek(claims.subject)
            if account is None or account.disabled:
                raise Unauthenticated(
                    "invalid_token", "the access token is not valid: the account is gone or disabled", "log in again"
                )
            if claims.raw.get("epoch", 0) < account.epoch:
                raise Unauthenticated(
                    "invalid_token", "the access token is not valid: it was superseded", "log in again"
                )
        except Unauthenticated as error:
            event = Event(
                type=EventType.TOKEN_REFUSED,
                at=self.clock.now(),
                success=False,
                severity=Severity.LOW,
                reason=error.reason,
                workload=origin.workload,
                ip=origin.ip,
                request_id=origin.request_id,
                details={"token": "access", "decision": origin.decision_id},  # nosec B105 - a kind
            )
            await self.refusals.record(event, origin.network, error.reason)
            raise
        return claims, account


class PublicFace:
    def __init__(
        self,
        logins: Logins,
        refresh: RefreshTokens,
        keys: SigningKeys,
        bearers: Bearers,
        origins: Origins,
        tally: Tally,
        *,
        issuer: str,
        jwks_max_age: int,
    ) -> None:
        self._logins, self._refresh, self._keys, self._bearers = logins, refresh, keys, bearers
        self._origins, self._tally = origins, tally
        self._issuer, self._jwks_max_age = issuer, jwks_max_age

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/login", self.login, methods=["POST"]),
            Route("/auth/token", oauth(self.token), methods=["POST"]),
            Route("/auth/revoke", oauth(self.revoke), methods=["POST"]),
            Route("/auth/jwks.json", self.jwks, methods=["GET"]),
            Route("/auth/userinfo", self.userinfo, methods=["GET", "POST"]),
            Route("/auth/.well-known/openid-configuration", self.metadata, methods=["GET"]),
            Route("/.well-known/oauth-authorization-server/auth", self.metadata, methods=["GET"]),
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
        response = JSONResponse({**_grant(grant), "device": device}, headers=_no_store())
        response.set_cookie(
            DEVICE_COOKIE, device, max_age=_YEAR, path="/", secure=True, httponly=True, samesite="strict"
        )
        return response

    async def token(self, request: Request) -> Response:
        """RFC 6749 section 6."""
        form = await read_form(request)
        kind = form.get("grant_type")
        if kind is None:
            raise BadInput("invalid_request", "grant_type is missing")
        if kind != "refresh_token":
            raise BadInput("unsupported_grant_type", "this grant type is not supported", "use refresh_token")
        token = form.get("refresh_token", "")
        if not token:
            raise BadInput("invalid_request", "refresh_token is missing")
        if form.get("scope", SESSION) != SESSION:
            raise BadInput("invalid_scope", "this scope was not granted")
        grant = await self._refresh.redeem(token, self._origins.of(request))
        self._tally.refresh("refused" if grant is None else "success")
        if grant is None:
            raise BadInput("invalid_grant", "the refresh token is not valid any more", "log in again")
        return JSONResponse(_grant(grant), headers=_no_store())

    async def revoke(self, request: Request) -> Response:
        """RFC 7009: 200 also for a token that nobody knows."""
        form = await read_form(request)
        if not form.get("token"):
            raise BadInput("invalid_request", "token is missing")
        await self._refresh.revoke(form["token"], self._origins.of(request))
        return Response(status_code=200, headers=_no_store())

    async def jwks(self, request: Request) -> Response:
        return _cached(request, self._keys.document, "application/jwk-set+json", self._jwks_max_age)

    async def userinfo(self, request: Request) -> Response:
        """The claims of OpenID Connect Core section 5.3 that we have, and the role."""
        _, account = await self._bearers.person(request, self._origins.of(request))
        document = {
            "sub": account.id,
            "name": account.name,
            "email": account.email,
            "role": str(account.role),
            "payment_limit": account.payment_limit,
            "updated_at": int(account.updated_at),
        }
        return JSONResponse(document, headers=_no_store())

    async def metadata(self, request: Request) -> Response:
        """RFC 8414: only what works today."""
        document: dict[str, Any] = {
            "issuer": self._issuer,
            "token_endpoint": f"{self._issuer}/token",
            "revocation_endpoint": f"{self._issuer}/revoke",
            "userinfo_endpoint": f"{self._issuer}/userinfo",
            "jwks_uri": f"{self._issuer}/jwks.json",
            "grant_types_supported": ["refresh_token"],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": ["none"],
            "revocation_endpoint_auth_methods_supported": ["none"],
            "scopes_supported": [SESSION],
            "subject_types_supported": ["public"],
        }
        return JSONResponse(document, headers={"cache-control": f"public, max-age={self._jwks_max_age}"})


def _grant(grant: Grant) -> dict[str, Any]:
    return {
        "access_token": grant.access_token,
        "token_type": "Bearer",  # nosec B105 - RFC 6750
        "expires_in": grant.expires_in,
        "refresh_token": grant.refresh_token,
        "scope": grant.scope,
    }


def _no_store() -> dict[str, str]:
    return {"cache-control": "no-store", "pragma": "no-cache"}


def _cached(request: Request, body: bytes, media_type: str, max_age: int) -> Response:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"cache-control": f"public, max-age={max_age}, must-revalidate", "etag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)
