"""What clients ask about tokens: introspection (RFC 7662) and revocation (RFC 7009)."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rempart.crypto.jose import Claims
from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Unauthenticated
from rempart.kernel.event import Event, EventType, Recorder
from rempart.people.access_tokens import AccessTokens
from rempart.people.model import Origin
from rempart.people.refresh_tokens import RefreshTokens
from rempart.people.requests import Json, Origins, no_store, oauth, read_form

from .client_authentication import ClientAuthentication
from .live_tokens import LiveTokens
from .model import FIRST_PARTY_CLIENT, Client

_SHOWN = ("sub", "client_id", "scope", "aud", "iss", "exp", "iat", "auth_time", "acr", "amr", "jti", "sid", "role")


class TokenFaces:
    """Callers are authenticated; what is not theirs to know is inactive, and not theirs to revoke stays."""

    def __init__(
        self,
        authentication: ClientAuthentication,
        tokens: AccessTokens,
        live: LiveTokens,
        refresh: RefreshTokens,
        origins: Origins,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._authentication, self._tokens, self._live, self._refresh = authentication, tokens, live, refresh
        self._origins, self._recorder, self._clock = origins, recorder, clock

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/auth/introspect", oauth(self.introspect), methods=["POST"]),
            Route("/auth/revoke", oauth(self.revoke), methods=["POST"]),
        ]

    async def introspect(self, request: Request) -> Response:
        """A public client can't prove itself, so it learns nothing here (RFC 7662 section 4)."""
        origin = self._origins.of(request)
        form = await read_form(request)
        client = await self._authentication.client(request, form, origin)
        if client.public:
            raise Unauthenticated("invalid_client", "a public client can't prove itself", "use a confidential client")
        token = form.get("token")
        if not token:
            raise BadInput("invalid_request", "token is missing")
        document = await self._about_refresh(client, token) if token.startswith("fam_") else None
        if document is None:
            document = await self._about_access(client, token)
        return Json(document or {"active": False}, headers=no_store())

    async def _about_refresh(self, client: Client, token: str) -> dict[str, Any] | None:
        found = await self._refresh.find(token, client.id, "")
        if found is None:
            return None
        family, newest = found
        if not newest or family.created_at < client.created_at or not await self._refresh.alive(family):
            return None
        return {
            "active": True,
            "sub": family.account_id,
            "client_id": family.client_id,
            "scope": family.scope,
            "iss": self._tokens.issuer,
            "exp": int(family.expires_at),
            "iat": int(family.created_at),
        }

    async def _about_access(self, client: Client, token: str) -> dict[str, Any] | None:
        try:
            claims, _ = await self._live.read(token)
        except Unauthenticated:
            return None
        if not _meant_for(client, claims):
            return None
        bound = claims.raw.get("cnf")
        document: dict[str, Any] = {
            "active": True,
            "token_type": "DPoP" if isinstance(bound, dict) and "jkt" in bound else "Bearer",
        }
        names = (*_SHOWN, "cnf", "act", "payment_limit")
        return {**document, **{name: claims.raw[name] for name in names if name in claims.raw}}

    async def revoke(self, request: Request) -> Response:
        """200 also for what nobody knows (section 2.2); `invalid_grant` for what another client holds (2.1). Who
        logged in without a client names none."""
        origin = self._origins.of(request)
        form = await read_form(request)
        client = FIRST_PARTY_CLIENT
        if self._authentication.named(request, form):
            client = await self._authentication.client(request, form, origin)
        token = form.get("token")
        if not token:
            raise BadInput("invalid_request", "token is missing")
        if not await self._refresh.revoke(token, client.id, origin):
            await self._revoke_access(client, token, origin)
        return Response(status_code=200, headers=no_store())

    async def _revoke_access(self, client: Client, token: str, origin: Origin) -> None:
        try:
            claims = self._tokens.read(token)
        except Unauthenticated:
            return
        if claims.raw.get("client_id") != client.id:
            raise BadInput("invalid_grant", "the token was issued to another client")
        if await self._live.revoke(claims):
            await self._recorder.record(
                origin.stamp(
                    Event(
                        type=EventType.TOKEN_REVOKED,
                        at=self._clock.now(),
                        success=True,
                        person=None if claims.subject == client.id else claims.subject,
                        details={"token": claims.token_id, "client": client.id},
                    )
                )
            )


def _meant_for(client: Client, claims: Claims) -> bool:
    """Its own, or one whose audience it is."""
    given = claims.raw.get("aud")
    audiences = set(given if isinstance(given, list) else [given])
    return claims.raw.get("client_id") == client.id or bool(audiences & {client.id, *client.serves})
