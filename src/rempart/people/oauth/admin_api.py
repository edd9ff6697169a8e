"""The operator's face to clients: `/clients`, on the admin socket."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.errors import BadInput, Conflict
from rempart.people.accounts_api import UNSET, Unset
from rempart.people.admin_api import operator
from rempart.people.model import Origin
from rempart.people.requests import Body, query_int, read_json

from .clients import Clients, new_secret
from .model import SECRETS, Client, Grant, Method

_PAGE = 200
_SHORT = {grant.rpartition(":")[2]: grant for grant in Grant}
DEFAULT_SCOPES = ("openid", "profile", "email", "offline_access")


class NewClient(Body, frozen=True):
    """As RFC 7591 names things, where it does. Without `method`: from what is given. Without `grants`: code and refresh
    where there are redirect URIs, else client credentials."""

    id: str
    name: str | None = None
    method: str | None = None
    secret: str | None = None
    jwks: tuple[dict[str, Any], ...] = ()
    spiffe_id: str = ""
    certificate: str = ""
    certificate_subject: str = ""
    redirect_uris: tuple[str, ...] = ()
    post_logout_redirect_uris: tuple[str, ...] = ()
    backchannel_logout_uri: str = ""
    grants: tuple[str, ...] = ()
    scopes: tuple[str, ...] | None = None
    audiences: tuple[str, ...] = ()
    serves: tuple[str, ...] = ()
    access_ttl: int | None = None
    refresh_ttl: int | None = None
    id_token_signed_response_alg: str = ""
    consent: bool = False
    dpop_bound: bool = False
    certificate_bound: bool = False


class ChangedClient(Body, frozen=True):
    """What is named becomes so, lists as a whole. `secret` "" for one that is made here."""

    name: str | Unset = UNSET
    secret: str | Unset = UNSET
    jwks: tuple[dict[str, Any], ...] | Unset = UNSET
    certificate: str | Unset = UNSET
    certificate_subject: str | Unset = UNSET
    redirect_uris: tuple[str, ...] | Unset = UNSET
    post_logout_redirect_uris: tuple[str, ...] | Unset = UNSET
    backchannel_logout_uri: str | Unset = UNSET
    grants: tuple[str, ...] | Unset = UNSET
    scopes: tuple[str, ...] | Unset = UNSET
    audiences: tuple[str, ...] | Unset = UNSET
    serves: tuple[str, ...] | Unset = UNSET
    access_ttl: int | Unset | None = UNSET
    refresh_ttl: int | Unset | None = UNSET
    id_token_signed_response_alg: str | Unset = UNSET
    consent: bool | Unset = UNSET
    dpop_bound: bool | Unset = UNSET
    certificate_bound: bool | Unset = UNSET


class Invite(Body, frozen=True):
    ttl: int = 86400


class Inviting(Protocol):
    async def make(self, ttl: int, origin: Origin) -> str:
        """An initial access token, good for `ttl` seconds."""


class ClientsFace:
    """`invitations` None where registration is off."""

    def __init__(self, clients: Clients, invitations: Inviting | None) -> None:
        self._clients, self._invitations = clients, invitations

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/clients", self.list_clients, methods=["GET"]),
            Route("/clients", self.add, methods=["POST"]),
            Route("/clients/invitations", self.invite, methods=["POST"]),
            Route("/clients/{client}", self.show, methods=["GET"]),
            Route("/clients/{client}", self.change, methods=["PATCH"]),
            Route("/clients/{client}", self.delete, methods=["DELETE"]),
        ]

    async def list_clients(self, request: Request) -> Response:
        limit = query_int(request, "limit", _PAGE, most=_PAGE)
        page = await self._clients.page(request.query_params.get("after", "")[:64], limit)
        document: dict[str, Any] = {"clients": [client.shown() for client in page]}
        if len(page) == limit:
            document["next"] = page[-1].id
        return JSONResponse(document)

    async def add(self, request: Request) -> Response:
        """201 with the client, and its `secret` when that was made here: shown once."""
        body = await read_json(request, NewClient)
        client = _client(body)
        made = new_secret() if client.method in SECRETS and body.secret is None else None
        kept = await self._clients.add(client, made or body.secret, (await operator(request)).origin)
        return JSONResponse(kept.shown() | ({"secret": made} if made else {}), 201)

    async def invite(self, request: Request) -> Response:
        """An initial access token (RFC 7591 section 1.2), shown once."""
        body = await read_json(request, Invite)
        if self._invitations is None:
            raise Conflict("registration_off", "clients can't register themselves here", "set client_registration")
        token = await self._invitations.make(body.ttl, (await operator(request)).origin)
        return JSONResponse({"initial_access_token": token, "expires_in": body.ttl}, 201)

    async def show(self, request: Request) -> Response:
        return JSONResponse((await self._clients.show(_id(request))).shown())

    async def change(self, request: Request) -> Response:
        """The client, and its `secret` when one was made here: shown once."""
        body = await read_json(request, ChangedClient)
        changes = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}
        secret = changes.pop("secret", None)
        made = new_secret() if secret is not None and not secret else None
        if secret is not None and (await self._clients.show(_id(request))).method not in SECRETS:
            raise BadInput("invalid_client_metadata", "this client proves itself without a secret")
        if "grants" in changes:
            changes["grants"] = tuple(parse_grant(name) for name in changes["grants"])
        origin = (await operator(request)).origin
        kept = await self._clients.change(_id(request), changes, made or secret, origin)
        return JSONResponse(kept.shown() | ({"secret": made} if made else {}))

    async def delete(self, request: Request) -> Response:
        return JSONResponse((await self._clients.delete(_id(request), (await operator(request)).origin)).shown())


def _id(request: Request) -> str:
    return str(request.path_params["client"])[:64]


def _client(body: NewClient) -> Client:
    """Raises BadInput `invalid_client_metadata`."""
    if body.method is not None:
        method = parse_method(body.method)
    elif body.secret is not None:
        method = Method.SECRET_BASIC
    else:
        method = (
            Method.PRIVATE_KEY_JWT if body.jwks else Method.TLS if body.spiffe_id or body.certificate_subject
            else Method.SELF_SIGNED_TLS if body.certificate else Method.SECRET_BASIC
        )  # fmt: skip
    grants = tuple(parse_grant(name) for name in body.grants)
    if not grants:
        flows = (Grant.AUTHORIZATION_CODE, Grant.REFRESH_TOKEN)
        grants = flows if body.redirect_uris else (Grant.CLIENT_CREDENTIALS,)
    personal = set(grants) - {Grant.CLIENT_CREDENTIALS, Grant.JWT_BEARER, Grant.TOKEN_EXCHANGE}
    scopes = body.scopes if body.scopes is not None else DEFAULT_SCOPES if personal else ()
    return Client(
        id=body.id,
        name=body.name if body.name is not None else body.id,
        method=method,
        jwks=body.jwks,
        spiffe_id=body.spiffe_id,
        certificate=body.certificate,
        certificate_subject=body.certificate_subject,
        redirect_uris=body.redirect_uris,
        post_logout_redirect_uris=body.post_logout_redirect_uris,
        backchannel_logout_uri=body.backchannel_logout_uri,
        grants=grants,
        scopes=scopes,
        audiences=body.audiences,
        serves=body.serves,
        access_ttl=body.access_ttl,
        refresh_ttl=body.refresh_ttl,
        id_token_signed_response_alg=body.id_token_signed_response_alg,
        consent=body.consent,
        dpop_bound=body.dpop_bound,
        certificate_bound=body.certificate_bound,
    )


def parse_grant(name: str) -> Grant:
    """A registered name, or the last part of one (`token-exchange`). BadInput `invalid_client_metadata`."""
    try:
        return _SHORT[name] if name in _SHORT else Grant(name)
    except ValueError:
        raise BadInput(
            "invalid_client_metadata", f"{name[:80]!r} is no grant type", "use one of " + ", ".join(_SHORT)
        ) from None


def parse_method(name: str) -> Method:
    """BadInput `invalid_client_metadata`."""
    try:
        return Method(name)
    except ValueError:
        raise BadInput(
            "invalid_client_metadata", f"{name[:80]!r} is no way to authenticate", "use one of " + ", ".join(Method)
        ) from None
