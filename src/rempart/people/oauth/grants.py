"""The grants that need no page: refresh, client credentials, password."""

from __future__ import annotations

from rempart.kernel.errors import BadInput, Unauthenticated
from rempart.people.authorize.id_tokens import IdTokens
from rempart.people.authorize.model import OFFLINE, OPENID
from rempart.people.refresh_tokens import RefreshTokens

from .demands import OF_PERSONS, audience_demanded, scope_demanded
from .model import Grant, Granted, TokenRequest
from .ports import PasswordLogin
from .token_endpoint import RecordedRefusal


class RefreshGrant:
    """RFC 6749 section 6: the client's own token only, and for a public client with the key that it is bound to.

    A narrower scope narrows the access token; the refresh token keeps its own. With scope `openid` there is a new ID
    token, too (OpenID Connect Core section 12.2).
    """

    grant = Grant.REFRESH_TOKEN

    def __init__(self, refresh: RefreshTokens, id_tokens: IdTokens) -> None:
        self._refresh, self._id_tokens = refresh, id_tokens

    async def redeem(self, request: TokenRequest) -> Granted:
        client, token = request.client, request.form.get("refresh_token", "")
        if not token:
            raise BadInput("invalid_request", "refresh_token is missing")
        key = str(request.binding) if client.public else ""
        scope: tuple[str, ...] | None = None
        if "scope" in request.form:  # before the rotation: who asks for too much keeps the token
            found = await self._refresh.find(token, client.id, key)
            if found is not None:
                scope = scope_demanded(request.form, found[0].scope.split(), ())
        redeemed = await self._refresh.redeem(token, client.id, key, request.origin)
        if redeemed is None:
            raise RecordedRefusal("invalid_grant", "the refresh token is not valid any more", "log in again")
        family, account = redeemed.family, redeemed.account
        if family.created_at < client.created_at:  # a client of the same id was deleted in between
            await self._refresh.end(family.id, "client_deleted", request.origin)
            raise BadInput("invalid_grant", "the refresh token was another registration's", "log in again")
        if scope is None:
            scope = tuple(family.scope.split())
        kept = tuple(one for one in scope if one in {*client.scopes, OFFLINE})  # the client may have lost one since
        if scope and not kept:
            raise BadInput("invalid_scope", "nothing of what was granted is the client's any more", "log in again")

        def id_token(access_token: str) -> str:
            return self._id_tokens.mint(
                account,
                client=client,
                session_id=family.session_id,
                amr=family.amr,
                auth_time=family.auth_time or family.created_at,
                access_token=access_token,
            )

        return Granted(
            account=account,
            scope=kept,
            amr=family.amr,
            auth_time=family.auth_time or family.created_at,
            acr=family.acr,
            session=family.id,
            audience=family.audience,
            refresh_token=redeemed.refresh_token,
            id_token=id_token if OPENID in kept else None,
        )


class ClientCredentialsGrant:
    """RFC 6749 section 4.4: the client acts for itself; no refresh token."""

    grant = Grant.CLIENT_CREDENTIALS

    def __init__(self, trust_domain: str) -> None:
        self._trust_domain = trust_domain

    async def redeem(self, request: TokenRequest) -> Granted:
        allowed = [scope for scope in request.client.scopes if scope not in OF_PERSONS]
        return Granted(
            account=None,
            scope=scope_demanded(request.form, allowed, allowed),
            audience=audience_demanded(request.form, request.client, self._trust_domain),
        )


class PasswordGrant:
    """RFC 6749 section 4.3, for a client whose operator asked for it: RFC 9700 section 2.4 says not to."""

    grant = Grant.PASSWORD

    def __init__(self, logins: PasswordLogin, trust_domain: str) -> None:
        self._logins, self._trust_domain = logins, trust_domain

    async def redeem(self, request: TokenRequest) -> Granted:
        form, client = request.form, request.client
        name, password = form.get("username", ""), form.get("password", "")
        if not name or not password:
            raise BadInput("invalid_request", "username and password are needed")
        scope = scope_demanded(form, client.scopes, [scope for scope in client.scopes if scope != "openid"])
        audience = audience_demanded(form, client, self._trust_domain)
        try:
            who = await self._logins.prove(name, password, form.get("otp"), request.origin)
        except Unauthenticated as error:
            raise RecordedRefusal("invalid_grant", error.reason, error.remedy) from None
        return Granted(
            account=who.account,
            scope=scope,
            amr=who.amr,
            auth_time=who.auth_time,
            audience=audience,
            refreshable=True,
        )
