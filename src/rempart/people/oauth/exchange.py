"""Token exchange (RFC 8693): how a service acts for the person whose token it was sent.

The service is the client, so the actor is known without an `actor_token`. What it gets speaks for the same person, is
for one of the client's `audiences`, has no scope that the person's token or the client lacks, lives no longer, falls
with the person's session, and names in `act` who acts: the chain of those who did before is kept. Whatever is wrong
with the subject token is `invalid_request` (section 2.2.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rempart.kernel.errors import BadInput, Unauthenticated

from .demands import audience_demanded, scope_demanded
from .live_tokens import LiveTokens
from .model import Client, Grant, Granted, TokenRequest

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # nosec B105 - a registered name
JWT = "urn:ietf:params:oauth:token-type:jwt"
MAX_ACTORS = 4


class TokenExchangeGrant:
    grant = Grant.TOKEN_EXCHANGE

    def __init__(self, live: LiveTokens, trust_domain: str) -> None:
        self._live, self._trust_domain = live, trust_domain

    async def redeem(self, request: TokenRequest) -> Granted:
        form, client = request.form, request.client
        if "actor_token" in form or "actor_token_type" in form:
            raise BadInput("invalid_request", "the client itself is the actor: send no actor_token")
        if form.get("subject_token_type") not in (ACCESS_TOKEN, JWT) or not form.get("subject_token"):
            raise BadInput("invalid_request", "subject_token and its type, that of an access token, are needed")
        wanted = form.get("requested_token_type", ACCESS_TOKEN)
        if wanted not in (ACCESS_TOKEN, JWT):
            raise BadInput("invalid_request", "only access tokens are issued")
        try:
            claims, account = await self._live.read(form["subject_token"])
        except Unauthenticated as error:
            raise BadInput("invalid_request", error.reason.replace("access token", "subject token")) from None
        if account is None:
            raise BadInput("invalid_request", "the subject token speaks for no person")
        given = claims.raw.get("aud")
        for_whom = set(given if isinstance(given, list) else [given])
        if not for_whom & {self._trust_domain, client.id, *client.serves}:
            raise BadInput("invalid_request", "the subject token was not meant for this client")
        allowed = [scope for scope in claims.scope if scope in client.scopes]
        return Granted(
            account=account,
            scope=scope_demanded(form, allowed, allowed),
            amr=claims.amr,
            auth_time=claims.auth_time,
            acr=str(claims.raw.get("acr", "")),
            session=str(claims.raw.get("sid", "")),
            audience=audience_demanded(form, client, self._trust_domain),
            actor=_actor(client, claims.raw.get("act")),
            until=claims.expires_at,
            members={"issued_token_type": wanted},
        )


def _actor(client: Client, before: object) -> Mapping[str, Any]:
    """Section 4.1. Raises BadInput `invalid_request` for a chain that is too long."""
    actor: dict[str, Any] = {"sub": client.spiffe_id or client.id, "client_id": client.id}
    if isinstance(before, Mapping):
        depth, inner = 1, before
        while isinstance(inner.get("act"), Mapping):
            depth, inner = depth + 1, inner["act"]
        if depth >= MAX_ACTORS:
            raise BadInput("invalid_request", f"at most {MAX_ACTORS} may act one for the other")
        actor["act"] = dict(before)
    return actor
