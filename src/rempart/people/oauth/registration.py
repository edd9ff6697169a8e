"""Dynamic registration (RFC 7591): off by default, and only with an initial access token of the operator's.

Such a token is 256 random bits, good once within its time and kept as SHA-256. What is registered this way can act for
nobody but people who are asked for consent, and never gets scope `session`. There is no later management (RFC 7592):
the operator deletes the client.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Unauthenticated
from rempart.kernel.event import Event, EventType, Recorder, Severity
from rempart.kernel.ids import new_id
from rempart.people.collapse import Collapse
from rempart.people.model import Origin
from rempart.people.ports import OnceStore
from rempart.people.requests import Origins, no_store, oauth, read_json

from .admin_api import DEFAULT_SCOPES, parse_grant, parse_method
from .client_rules import check_client
from .clients import Clients, new_secret
from .model import SECRETS, Client, Grant, Method

LONGEST = 7 * 86400  # seconds that an initial access token may be good
_KIND = "client-registration"
_GRANTS = frozenset({Grant.AUTHORIZATION_CODE, Grant.REFRESH_TOKEN, Grant.DEVICE_CODE, Grant.CLIENT_CREDENTIALS})


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The client metadata that is understood (section 2); other members are passed over, as it says."""

    redirect_uris: tuple[str, ...] = ()
    token_endpoint_auth_method: str = str(Method.SECRET_BASIC)
    grant_types: tuple[str, ...] = (str(Grant.AUTHORIZATION_CODE),)
    response_types: tuple[str, ...] | None = None
    client_name: str = ""
    scope: str | None = None
    jwks: Mapping[str, Any] | None = None
    post_logout_redirect_uris: tuple[str, ...] = ()
    backchannel_logout_uri: str = ""
    dpop_bound_access_tokens: bool = False
    id_token_signed_response_alg: str = ""


class Invitations:
    """Initial access tokens."""

    def __init__(self, once: OnceStore, recorder: Recorder, clock: Clock) -> None:
        self._once, self._recorder, self._clock = once, recorder, clock

    async def make(self, ttl: int, origin: Origin) -> str:
        """Raises BadInput `bad_ttl`."""
        if not 60 <= ttl <= LONGEST:
            raise BadInput("bad_ttl", f"an initial access token is good for 60 to {LONGEST} seconds")
        token, now = new_secret(), self._clock.now()
        await self._recorder.record(
            Event(
                type=EventType.CLIENT_CHANGED,
                at=now,
                success=True,
                severity=Severity.MEDIUM,
                operator=origin.operator,
                request_id=origin.request_id,
                details={"invitation": True, "until": now + ttl},
            )
        )
        await self._once.put(_KIND, _key(token), b"", now + ttl)
        return token

    async def good(self, token: str) -> bool:
        return await self._once.peek(_KIND, _key(token)) is not None

    async def use(self, token: str) -> bool:
        return await self._once.take(_KIND, _key(token)) is not None


class RegistrationFace:
    def __init__(
        self, clients: Clients, invitations: Invitations, origins: Origins, refusals: Collapse, clock: Clock
    ) -> None:
        self._clients, self._invitations, self._origins = clients, invitations, origins
        self._refusals, self._clock = refusals, clock

    def routes(self) -> list[BaseRoute]:
        return [Route("/auth/register", oauth(self.register), methods=["POST"])]

    async def register(self, request: Request) -> Response:
        origin = self._origins.of(request)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not await self._invitations.good(token):
            await self._refused(origin)
            raise Unauthenticated("invalid_token", "an initial access token is needed", "ask the operator for one")
        asked = await _metadata(request)
        client = _client(asked)
        secret = new_secret() if client.method in SECRETS else None
        check_client(self._clients.proved_by(client, secret), self._clients.profile)  # before the token is used up
        if not await self._invitations.use(token):
            raise Unauthenticated("invalid_token", "the initial access token was used", "ask for another one")
        kept = await self._clients.add(client, secret, origin)
        return JSONResponse(_answer(kept, secret), 201, no_store())

    async def _refused(self, origin: Origin) -> None:
        event = origin.stamp(
            Event(
                type=EventType.CLIENT_REFUSED,
                at=self._clock.now(),
                success=False,
                severity=Severity.LOW,
                reason="no good initial access token",
                details={"registration": True},
            )
        )
        await self._refusals.record(event, origin.network, "registration")


async def _metadata(request: Request) -> Asked:
    """Strict JSON; BadInput `invalid_client_metadata`."""
    try:
        return await read_json(request, Asked)
    except BadInput as error:
        raise BadInput("invalid_client_metadata", error.reason, error.remedy) from None


def _client(asked: Asked) -> Client:
    grants = tuple(parse_grant(name) for name in asked.grant_types)
    if not set(grants) <= _GRANTS:
        raise BadInput("invalid_client_metadata", "a grant type is not for clients that register themselves")
    expected = ("code",) if Grant.AUTHORIZATION_CODE in grants else ()
    if asked.response_types not in (None, expected):
        raise BadInput("invalid_client_metadata", "response_types doesn't fit grant_types", "use code, or leave it out")
    method = parse_method(asked.token_endpoint_auth_method)
    if method is Method.TLS:
        raise BadInput("invalid_client_metadata", "mTLS clients are registered by the operator")
    keys = (asked.jwks or {}).get("keys", [])
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise BadInput("invalid_client_metadata", "jwks is not a key set")
    scopes = DEFAULT_SCOPES if asked.scope is None else tuple(asked.scope.split())
    if not set(scopes) <= set(DEFAULT_SCOPES):
        raise BadInput("invalid_client_metadata", "a scope is not for clients that register themselves")
    client_id = new_id("cli")
    return Client(
        id=client_id,
        name=asked.client_name or client_id,
        method=method,
        jwks=tuple(keys),
        redirect_uris=asked.redirect_uris,
        post_logout_redirect_uris=asked.post_logout_redirect_uris,
        backchannel_logout_uri=asked.backchannel_logout_uri,
        grants=grants,
        scopes=scopes,
        consent=True,
        dpop_bound=asked.dpop_bound_access_tokens,
        id_token_signed_response_alg=asked.id_token_signed_response_alg,
        registered="dynamic",
    )


def _answer(client: Client, secret: str | None) -> dict[str, Any]:
    """Section 3.2.1: what was registered, whatever was asked for."""
    code = Grant.AUTHORIZATION_CODE in client.grants
    answer: dict[str, Any] = {
        "client_id": client.id,
        "client_id_issued_at": int(client.created_at),
        "client_name": client.name,
        "token_endpoint_auth_method": str(client.method),
        "grant_types": list(client.grants),
        "response_types": ["code"] if code else [],
        "redirect_uris": list(client.redirect_uris),
        "scope": " ".join(client.scopes),
        "dpop_bound_access_tokens": client.dpop_bound,
    }
    optional: Mapping[str, Any] = {
        "post_logout_redirect_uris": list(client.post_logout_redirect_uris),
        "backchannel_logout_uri": client.backchannel_logout_uri,
        "jwks": {"keys": list(client.jwks)} if client.jwks else None,
        "id_token_signed_response_alg": client.id_token_signed_response_alg,
    }
    answer |= {name: value for name, value in optional.items() if value}
    if secret:
        answer |= {"client_secret": secret, "client_secret_expires_at": 0}  # nosec B105 - 0: it doesn't expire
    return answer


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
